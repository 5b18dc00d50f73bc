"""``flaky-repro cc``: the compiler wrapper behind ``flaky-repro culprit objects``, by itself.

    make O=build CC="flaky-repro cc"
    make O=build CC="$(flaky-repro cc --wrapper)"    # the same without Python: some ms a file less

What it does is said by environment variables: see the head of the file that ``--wrapper`` names.
"""

from __future__ import annotations

import argparse
import os
import sys

from pytest_flaky_repro.culprit.objects import SCRIPT


def add(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "--wrapper alone prints the path of the wrapper itself, a small shell script"
    parser.prefix_chars = "\0"  # every word is the compiler's, -c and -h too
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="COMPILER ARGUMENTS")


def run(options: argparse.Namespace) -> int:
    if options.words == ["--wrapper"]:
        print(SCRIPT)
        return 0
    sys.stdout.flush()
    words = ["sh", str(SCRIPT), *options.words]
    return os.execv("/bin/sh", words)  # noqa: S606  # its own arguments
