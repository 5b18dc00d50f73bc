"""``flaky-repro doctor``: what would go wrong here, and the mend."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from pytest_flaky_repro import settings
from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.commands import own_words
from pytest_flaky_repro.commands.archive_checks import Archives
from pytest_flaky_repro.commands.fetch import fetch_kernel
from pytest_flaky_repro.commands.findings import BLOCKS, GOOD, Finding, attempt, lines
from pytest_flaky_repro.commands.host_checks import examine_host
from pytest_flaky_repro.commands.kernel_checks import GUESSED, examine_kernel
from pytest_flaky_repro.errors import ReproError, UsageError
from pytest_flaky_repro.guest.compression import segments
from pytest_flaky_repro.guest.entries import Entry
from pytest_flaky_repro.guest.image import build_image
from pytest_flaky_repro.kernels import Kernel, parse_kernels
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.kernel_image import KernelImage, read_kernel
from pytest_flaky_repro.machine.kernel_needs import Demands


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument(
        "--kernel", action="append", default=[], metavar="[NAME=]PATH",
        help="a kernel to look at; repeatable",
    )  # fmt: skip
    argument(
        "--initrd", type=Path, action="append", default=[], metavar="PATH",
        help="an archive to lay over the initramfs; repeatable",
    )  # fmt: skip
    argument(
        "--initrd-alone", action="store_true",
        help="judge the archives as a whole initramfs of their own, without ours below",
    )  # fmt: skip
    argument("--qemu", metavar="PATH", help="the QEMU to use")
    argument("--machine", default="pc", metavar="M", help="QEMU's machine type (default: pc)")
    argument("--smp", type=_count, default=1, metavar="N", help="CPUs that the guest must show")
    argument("--memory", type=_count, default=256, metavar="MIB", help="memory of the guest")
    argument("--append", default="", metavar="ARGS", help="words for the kernel's command line")
    argument("--accel", choices=("auto", "kvm", "tcg"), default="auto")
    argument("--boot", action="store_true", help="boot the kernel once and say how long it took")
    argument(
        "--fetch-kernel",
        action="store_true",
        help="download Debian's cloud kernel (no root needed), print its path, and do nothing else",
    )
    argument("--json", action="store_true", help="for machines")
    parser.epilog = "exit status: 0 nothing blocks, 1 something does, 2 bad input"


def _count(text: str) -> int:
    try:
        return settings.count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"expected {error}, got {text!r}") from None


def run(options: argparse.Namespace) -> int:
    if options.fetch_kernel:
        path = str(fetch_kernel(cache_folder()))
        print(json.dumps({"kernel": path}) if options.json else path)
        return 0
    if options.boot and not options.kernel:
        raise UsageError("--boot needs a kernel to boot: --kernel PATH")
    if options.boot and options.initrd_alone:
        raise UsageError("--boot boots our own initramfs: leave --initrd-alone out")
    if options.initrd_alone and not options.initrd:
        raise UsageError("--initrd-alone needs an archive to judge: --initrd PATH")
    findings = [
        replace(
            finding, text=own_words(finding.text, options), mend=own_words(finding.mend, options)
        )
        for finding in examine(options)
    ]
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        print("\n".join(lines(findings)))
    return 1 if any(finding.state == BLOCKS for finding in findings) else 0


def examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Everything worth saying, the host first."""
    named = parse_kernels(options.kernel, Path())
    images = {name: _read(kernel) for name, kernel in named.items()}
    good = [image for image in images.values() if isinstance(image, KernelImage)]
    yield from examine_host(options, good[0].content if good else None)
    base = () if options.initrd_alone else _ours()
    archives = Archives(options.initrd, base, options.initrd_alone)
    told = list(archives.examine())
    yield from told
    demands = Demands(
        options.smp, frozenset(archives.packings), archives.scripts, _has_firmware(options)
    )
    size = archives.size + (0 if options.initrd_alone else _size_of_ours())
    for name, image in images.items():
        found = _look_at(image, options, demands, size)
        for finding in found:
            yield (
                finding
                if len(images) == 1
                else replace(finding, subject=f"{finding.subject} {name}")
            )


def _read(kernel: Kernel) -> KernelImage | Finding:
    try:
        return read_kernel(kernel.path)
    except ReproError as error:
        return Finding("kernel", BLOCKS, str(error))


def _look_at(
    image: KernelImage | Finding, options: argparse.Namespace, demands: Demands, size: int
) -> list[Finding]:
    if isinstance(image, Finding):
        return [image]
    found = list(
        attempt("kernel", lambda: examine_kernel(image, options, demands, archive_size=size))
    )
    if options.boot:
        from pytest_flaky_repro.commands.boot_check import boot_once

        booted = list(attempt("boot", lambda: boot_once(image, options)))
        if booted[0].state == GOOD:  # what happened beats what was guessed
            found = [finding for finding in found if finding.subject != GUESSED]
        found += booted
    return found


def _has_firmware(options: argparse.Namespace) -> bool:
    try:
        return find_emulator(options.qemu).firmware is not None
    except ReproError:
        return True  # said elsewhere


def _ours() -> tuple[Entry, ...]:
    """The initramfs of every trial; nothing if it cannot be built, which is said elsewhere."""
    archive = _our_archive()
    return tuple(entry for _, entries in segments(archive, "ours") for entry in entries)


def _size_of_ours() -> int:
    return len(_our_archive())


def _our_archive() -> bytes:
    try:
        return build_image((), (), cache_folder(), os.environ).archive
    except ReproError:
        return b""
