"""``flaky-repro doctor``: what would go wrong here, and the mend."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytest_flaky_repro import settings
from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Conditions, assemble
from pytest_flaky_repro.commands import own_words
from pytest_flaky_repro.commands.fetch import fetch_kernel
from pytest_flaky_repro.errors import ReproError, UsageError
from pytest_flaky_repro.guest.compression import contents
from pytest_flaky_repro.guest.reproducer import Payload
from pytest_flaky_repro.guest.shell import find_busybox
from pytest_flaky_repro.machine.accel import choose_accel, probe_loop
from pytest_flaky_repro.machine.conversation import GuestGone
from pytest_flaky_repro.machine.diagnosis import boot_failure, ready_fault
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.process import cpu_seconds
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.slots import Slots
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.report.sentences import printable

GOOD, NOTE, BLOCKS = "good", "note", "blocks"


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``state``: good, note (works, but look), blocks (no verdict)."""

    subject: str
    state: str
    text: str


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("--kernel", type=Path, metavar="PATH", help="a kernel to look at")
    argument(
        "--initrd", type=Path, action="append", default=[], metavar="PATH",
        help="an archive to lay over the initramfs; repeatable",
    )  # fmt: skip
    argument("--qemu", metavar="PATH", help="the QEMU to use")
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
        print(fetch_kernel(cache_folder()))
        return 0
    if options.boot and options.kernel is None:
        raise UsageError("--boot needs a kernel to boot: --kernel PATH")
    findings = [
        replace(finding, text=own_words(finding.text, options)) for finding in examine(options)
    ]
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            print(f"{finding.state:7} {finding.subject}: {printable(finding.text)}")
    return 1 if any(finding.state == BLOCKS for finding in findings) else 0


def examine(options: argparse.Namespace) -> Iterator[Finding]:
    """Everything worth saying, the host first."""
    yield _try("qemu", lambda: _qemu(options))
    yield _accel(options)
    yield _try("compiler", _compiler)
    yield _busybox()
    capacity = Slots().capacity
    yield Finding("slots", GOOD, f"{capacity.cores} cores, {capacity.pieces * 256} MiB for guests")
    kernel = None
    if options.kernel is not None:
        kernel = _try("kernel", lambda: _kernel(options))
        yield kernel
    for path in options.initrd:
        yield _try("initrd", lambda path=path: _initrd(path))
    if options.boot and kernel is not None and kernel.state != BLOCKS:
        yield _try("boot", lambda: _boot(options))


def _try(subject: str, look: object) -> Finding:
    assert callable(look)
    try:
        state, text = look()
    except ReproError as error:
        return Finding(subject, BLOCKS, str(error))
    return Finding(subject, state, text)


def _qemu(options: argparse.Namespace) -> tuple[str, str]:
    emulator = find_emulator(options.qemu)
    if emulator.firmware is None:
        return NOTE, f"{emulator.path} {emulator.version}, without qboot.rom: boots take longer"
    sandbox = "with" if emulator.sandbox else "without"
    return GOOD, f"{emulator.path} {emulator.version}, {sandbox} sandbox"


def _accel(options: argparse.Namespace) -> Finding:
    problem = probe_loop().problem
    if problem is None:
        return Finding("kvm", GOOD, "guest code runs under /dev/kvm")
    if options.accel == "kvm":
        return Finding("kvm", BLOCKS, f"{problem}; --accel auto or tcg works, and is slower")
    return Finding("kvm", NOTE, f"{problem}; TCG (emulation) is used, which is slower")


def _compiler() -> tuple[str, str]:
    name = os.environ.get("CC", "cc")
    path = shutil.which(name)
    if path is None:
        return BLOCKS, f"{name} was not found; it builds the guest agent: apt-get install gcc"
    return GOOD, path


def _busybox() -> Finding:
    try:
        return Finding("busybox", GOOD, str(find_busybox(os.environ)))
    except ReproError as error:
        return Finding("busybox", NOTE, str(error))


def _kernel(options: argparse.Namespace) -> tuple[str, str]:
    kernel = read_kernel(options.kernel)
    return GOOD, f"{kernel.path}: {kernel.banner or 'a bzImage without a banner'}"


def _initrd(path: Path) -> tuple[str, str]:
    entries = contents(path)
    return GOOD, f"{path}: {len(entries)} entries"


def _boot(options: argparse.Namespace) -> tuple[str, str]:
    emulator = find_emulator(options.qemu)
    kernel = read_kernel(options.kernel)
    experiment = assemble(
        kernel,
        Payload((), (), "none"),
        Conditions(options.smp, options.memory, "pc", options.append, trial_time=0.0),
        options.initrd,
        cache_folder(),
        os.environ,
    )
    choice = choose_accel(
        options.accel, emulator, experiment.guest_spec, kernel.sha256, cache_folder()
    )
    stop = StopSignal()
    with (
        experiment.guest_spec(choice.accel) as spec,
        Slots().acquire(options.smp, options.memory, stop) as slot,
    ):
        machine = QemuMachine(emulator, spec)
        assert slot is not None
        guest = machine.boot(slot, stop)
        try:
            ready = guest.boot()
            spent = cpu_seconds(guest.pid)
        except GuestGone as gone:
            guest.kill()
            return BLOCKS, boot_failure(guest.console.content(), gone)[0]
        finally:
            guest.kill()
            stop.close()
    fault = ready_fault(ready, options.smp)
    if fault is not None:
        return BLOCKS, fault
    return GOOD, (
        f"{ready.release}: ready after {spent:.1f} s of CPU time under {choice.accel.value}, "
        f"{ready.cpus} CPU(s), {ready.memory >> 20} MiB, frames on {ready.port}"
    )
