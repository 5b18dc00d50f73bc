"""The host under ``flaky-repro doctor``: QEMU, the accelerator, the tools, the room there is."""

from __future__ import annotations

import argparse
import getpass
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.commands.findings import BLOCKS, GOOD, NOTE, Finding, attempt
from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.guest import agent
from pytest_flaky_repro.guest.shell import find_busybox
from pytest_flaky_repro.machine.accel import probe_loop
from pytest_flaky_repro.machine.dry_run import refusal, stand_in
from pytest_flaky_repro.machine.emulator import INSTALL, find_emulator
from pytest_flaky_repro.machine.slots import OVERHEAD_MIB, PIECE_MIB, Slots
from pytest_flaky_repro.machine.spec import Accel, Emulator, GuestSpec, MemoryFile


def examine_host(options: argparse.Namespace, kernel: bytes | None) -> Iterator[Finding]:
    """``kernel`` is the content of one that QEMU can be started with."""
    yield from attempt("qemu", lambda: _qemu(options, kernel))
    yield _accel(options.accel)
    yield from attempt("compiler", _compiler)
    yield _busybox()
    if shutil.which("setpriv") is None:
        yield Finding(
            "setpriv", BLOCKS, "not found on PATH; it ties QEMU's life to ours",
            "apt-get install util-linux",
        )  # fmt: skip
    yield _slots(options.smp, options.memory)


def _qemu(options: argparse.Namespace, kernel: bytes | None) -> Finding:
    emulator = find_emulator(options.qemu)
    name = f"{emulator.path} {emulator.version}"
    problem = _refused(emulator, options, stand_in() if kernel is None else kernel)
    if problem is not None:
        return Finding(
            "qemu", BLOCKS,
            f"{name} does not start what is asked of it (--repro-machine {options.machine}): "
            f"{problem}",
            f"a newer QEMU (7.2 is known to work): {INSTALL}; or another --repro-machine",
        )  # fmt: skip
    if emulator.firmware is None:
        return Finding(
            "qemu", NOTE, f"{name}, without qboot.rom: boots take longer",
            "apt-get install qemu-system-data",
        )  # fmt: skip
    sandbox = "with" if emulator.sandbox else "without"
    return Finding("qemu", GOOD, f"{name}, {sandbox} sandbox")


def _refused(emulator: Emulator, options: argparse.Namespace, kernel: bytes) -> str | None:
    spec = GuestSpec(
        kernel=MemoryFile("kernel", kernel),
        initramfs=MemoryFile("initramfs", bytes(512)),
        accel=Accel.TCG,
        smp=options.smp,
        memory_mib=options.memory,
        machine=options.machine,
        append=options.append,
    )
    with spec:
        return refusal(emulator, spec)


def _accel(wanted: str) -> Finding:
    if wanted == "tcg":
        return Finding("kvm", GOOD, "not asked for: TCG (emulation)")
    problem = probe_loop().problem
    if problem is None:
        return Finding("kvm", GOOD, "guest code runs under /dev/kvm")
    if wanted == "kvm":
        text = f"{problem}; --repro-accel auto or tcg works, and is slower"
        return Finding("kvm", BLOCKS, text, _kvm_mend(problem))
    text = f"{problem}; TCG (emulation) is used, which is slower"
    return Finding("kvm", NOTE, text, _kvm_mend(problem))


def _kvm_mend(problem: str) -> str:
    if "Permission denied" in problem:
        return f"sudo usermod -aG kvm {getpass.getuser()}, and log in again"
    if "there is no /dev/kvm" not in problem:
        return ""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        flags = []
    if "vmx" in flags or "svm" in flags:
        return f"sudo modprobe {'kvm_intel' if 'vmx' in flags else 'kvm_amd'}"
    return "the CPU shows neither vmx nor svm: switch (nested) virtualisation on, if there is any"


def _compiler() -> Finding:
    name = os.environ.get("CC", "cc")
    path = shutil.which(name)
    if path is None:
        text = f"{name} was not found; it builds the guest agent"
        return Finding("compiler", BLOCKS, text, "apt-get install gcc libc6-dev")
    agent.binary(cache_folder())
    return Finding("compiler", GOOD, path)


def _busybox() -> Finding:
    try:
        return Finding("busybox", GOOD, str(find_busybox(os.environ)))
    except ReproError as error:
        return Finding("busybox", NOTE, str(error))


def _slots(smp: int, memory_mib: int) -> Finding:
    capacity = Slots().capacity
    there = f"{capacity.cores} cores, {capacity.pieces * PIECE_MIB} MiB for guests"
    if memory_mib + OVERHEAD_MIB > capacity.pieces * PIECE_MIB:
        return Finding(
            "slots", BLOCKS, f"a guest of {memory_mib} MiB, and {there}",
            "a smaller --repro-memory",
        )  # fmt: skip
    if smp > capacity.cores:
        text = f"a guest of {smp} CPUs, and {there}: its CPUs take turns, which hides races"
        return Finding("slots", NOTE, text, f"--repro-smp {capacity.cores}")
    return Finding("slots", GOOD, there)
