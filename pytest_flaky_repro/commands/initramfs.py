"""``flaky-repro initramfs LIST -o FILE``: what the kernel's usr/gen_init_cpio does."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest.cpio import write_archive
from pytest_flaky_repro.guest.listing import read_listing


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", type=Path, help="a list in the format of gen_init_cpio")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="where to write it (default: stdout)"
    )
    parser.add_argument(
        "-t", "--mtime", type=int, default=0, metavar="SECONDS",
        help="modification time of every entry without a file of its own (default: 0)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    archive = write_archive(read_listing(options.list, os.environ, mtime=options.mtime))
    if options.output is None:
        if sys.stdout.isatty():
            raise UsageError("an archive does not go to a terminal: name a file with -o FILE")
        sys.stdout.buffer.write(archive)
        sys.stdout.buffer.flush()
        return 0
    try:
        options.output.write_bytes(archive)
    except OSError as error:
        raise UsageError(f"-o {options.output}: cannot be written: {error.strerror}") from error
    return 0
