"""The QEMU command line, a reason beside each flag."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.machine.spec import Accel, Emulator, GuestSpec

BASE_APPEND = (
    "console=ttyS0",  # the 8250: the only output that the smallest kernels have
    "panic=-1",  # a panic ends the guest at once: QEMU leaves because of -no-reboot
    # else a guest whose host is busy now and then panics: "IO-APIC + timer doesn't work!"
    # (timer_irq_works() in arch/x86/kernel/apic/io_apic.c counts ticks against delay loops)
    "no_timer_check",
    "sysrq_always_enabled",  # a guest that is stuck can be asked for backtraces (see stall.py)
)


@dataclass(frozen=True)
class Ram:
    """A guest's memory in a file, by descriptor: to be frozen from there, or restored.

    A frozen guest writes the file itself; a restored one copies each page that it writes.
    """

    descriptor: int
    restored: bool


@dataclass(frozen=True)
class Wires:
    """File descriptors of connected sockets that QEMU inherits, one a role."""

    console: int
    frames: int
    qmp: int


def kernel_command_line(append: str, boot_nonce: str | None) -> str:
    """What the kernel is told; the boot nonce is left out where identity is asked for."""
    words = [*BASE_APPEND, append]
    if boot_nonce is not None:
        # a parameter that the kernel does not know goes to init's environment: no procfs needed
        words.append(f"FLAKY_REPRO_BOOT={boot_nonce}")
    return " ".join(word for word in words if word)


def pause_argv(folder: Path) -> list[str]:
    """For a guest that is to stay, stopped, where it would have reset; sockets go to ``folder``."""
    return [
        "-no-shutdown",  # with -no-reboot: a reset stops the guest, and QEMU stays
        "-gdb", f"unix:{folder / 'gdb'},server=on,wait=off",
        "-chardev", f"socket,id=monitor,path={folder / 'monitor'},server=on,wait=off",
        "-mon", "chardev=monitor,mode=readline",
    ]  # fmt: skip


def qemu_argv(
    emulator: Emulator, spec: GuestSpec, boot_nonce: str, wires: Wires, ram: Ram | None = None
) -> list[str]:
    """The whole command line of one guest."""
    argv = [
        str(emulator.path),
        "-nodefaults",  # nothing the guest could probe, be slowed by, or reach out through
        "-nic", "none",  # which -nodefaults says too; here for whoever reads the command line
        "-no-user-config",  # the host's /etc must not change an experiment
        "-display", "none",
        "-no-reboot",  # a reboot is the guest's exit (power-off needs ACPI; reboot never does)
        "-machine", spec.machine if ram is None else f"{spec.machine},memory-backend=ram",
        "-accel", "kvm" if spec.accel is Accel.KVM else "tcg,thread=multi",
        "-cpu", "host" if spec.accel is Accel.KVM else "max",
        "-smp", str(spec.smp),
        "-m", f"{spec.memory_mib}M",
        "-kernel", str(spec.kernel.path),
        "-initrd", str(spec.initramfs.path),
        "-append", kernel_command_line(spec.append, boot_nonce),
        # sockets, not files: drained as it is written, so that the guest never waits for a reader
        "-chardev", f"socket,id=console,fd={wires.console}",
        "-serial", "chardev:console",
        # a second 8250 carries the result frames, which printk would tear on the first
        "-chardev", f"socket,id=frames,fd={wires.frames}",
        "-serial", "chardev:frames",
        "-chardev", f"socket,id=qmp,fd={wires.qmp}",
        "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip
    if ram is not None:
        share = "off" if ram.restored else "on"
        path = f"/proc/self/fd/{ram.descriptor}"
        size = f"{spec.memory_mib}M"
        argv += ["-object", f"memory-backend-file,id=ram,size={size},mem-path={path},share={share}"]
    if ram is not None and ram.restored:
        argv += ["-incoming", "defer"]  # what to read, and how, is said over QMP
    if emulator.firmware is not None:
        # qboot starts the kernel sooner than SeaBIOS and writes the MP table that a kernel
        # without ACPI needs to find its other CPUs
        argv += ["-bios", str(emulator.firmware)]
    if emulator.sandbox:
        # a guest that breaks out of QEMU can start nothing and gain nothing
        argv += [
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        ]
    return argv
