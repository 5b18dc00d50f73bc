"""What a kernel must have been built with, and what one sees when it was not. Pure.

Symptoms are those of Linux 6.1 under QEMU, met on kernels built without the option; the texts
quoted are the kernel's (init/main.c, init/do_mounts.c, init/initramfs.c) and glibc's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


class Options(Protocol):
    """Where values of options come from: ``y``, ``m``, ``n``, a number, a quoted text."""

    def value(self, name: str) -> str: ...


@dataclass(frozen=True)
class Demands:
    """What a campaign asks of its kernel. ``packings`` are options such as ``RD_GZIP``."""

    smp: int = 1
    packings: frozenset[str] = frozenset()
    scripts: bool = False  # /init begins with #!
    mp_table: bool = True  # the firmware (qboot) writes one


@dataclass(frozen=True)
class Lack:
    """Something missing. ``enable`` are the options that mend it; ``blocks``: no verdict at all."""

    option: str
    symptom: str
    enable: tuple[str, ...] = field(default=())
    blocks: bool = True


# Each needs the one before it, so only the first that is missing is worth a line.
_SERIAL = (
    ("TTY", "there are no terminals, so no serial port: nothing will ever be printed"),
    ("SERIAL_8250", "QEMU's serial port has no driver: nothing will ever be printed"),
    (
        "SERIAL_8250_CONSOLE",
        "kernel messages do not go to the serial port: nothing will ever be printed",
    ),
)
_ALWAYS = (
    ("64BIT", "this is a 32-bit kernel: it cannot run the x86-64 programs of the initramfs"),
    (
        "PRINTK",
        "the kernel says nothing and has no /dev/kmsg: crash reports would never be seen",
    ),
    (
        "BLK_DEV_INITRD",
        "the initramfs is not looked at: 'VFS: Unable to mount root fs', a panic in each boot",
    ),
    (
        "BINFMT_ELF",
        "no ELF program can be started: 'Failed to execute /init (error -8)', a panic",
    ),
)
_BETTER = (
    (
        "FUTEX",
        "reproducers with threads die: 'The futex facility returned an unexpected error code'",
    ),
    ("BUG", "BUG() and WARN() report nothing: such a crash looks like a hang, or like nothing"),
    ("KALLSYMS", "call traces show addresses, not functions: different crashes share a title"),
    (
        "MAGIC_SYSRQ_SERIAL",
        "a guest that hangs cannot be asked for its back traces over the serial port",
    ),
)
_PARENTS = {"MAGIC_SYSRQ_SERIAL": ("MAGIC_SYSRQ",), "FUTEX": ("EXPERT",), "BUG": ("EXPERT",)}
_EXTRAS = (
    *("PROC_FS", "SYSFS", "TMPFS", "DEVTMPFS", "NET", "UNIX", "INET", "BLOCK", "EPOLL"),
    *("EVENTFD", "TIMERFD", "SIGNALFD", "POSIX_TIMERS", "SYSVIPC", "AIO", "IO_URING"),
    *("MULTIUSER", "BINFMT_SCRIPT"),
)


def lacks(options: Options, demands: Demands) -> Iterator[Lack]:
    """All that is missing, what blocks first."""
    for name, symptom in _ALWAYS:
        if options.value(name) != "y":
            yield _lack(options, name, symptom)
    yield from _serial(options)
    yield from _processors(options, demands)
    yield from _archives(options, demands)
    if options.value("CMDLINE_OVERRIDE") == "y":
        yield Lack(
            "CMDLINE_OVERRIDE is set",
            "the built-in command line takes the place of ours: no console=ttyS0, no answer",
            ("-d CMDLINE_OVERRIDE",),
        )
    for name, symptom in _BETTER:
        if options.value(name) != "y":
            yield _lack(options, name, symptom, blocks=False)


def extras(options: Options) -> list[str]:
    """Options that some reproducers need, and most do not, which are missing."""
    return [name for name in _EXTRAS if options.value(name) != "y"]


def mend(missing: list[Lack]) -> str:
    """The commands that build the kernel anew with all of it."""
    wanted = dict.fromkeys(word for lack in missing for word in lack.enable)
    words = [word if word.startswith("-") else f"-e {word}" for word in wanted]
    return f"scripts/config {' '.join(words)}; make olddefconfig bzImage"


def _lack(options: Options, name: str, symptom: str, *, blocks: bool = True) -> Lack:
    enable = (*_PARENTS.get(name, ()), name)
    if options.value(name) == "m":
        return Lack(f"{name}=m is a module that nobody loads", symptom, enable, blocks)
    return Lack(f"{name} is not set", symptom, enable, blocks)


def _serial(options: Options) -> Iterator[Lack]:
    for place, (name, symptom) in enumerate(_SERIAL):
        if options.value(name) != "y":
            found = _lack(options, name, symptom)
            chain = tuple(above for above, _ in _SERIAL[place:])
            yield Lack(found.option, found.symptom, chain)
            return
    if options.value("SERIAL_8250_RUNTIME_UARTS") == "0":
        yield Lack(
            "SERIAL_8250_RUNTIME_UARTS=0",
            "no serial port is set up: nothing will ever be printed",
            ("--set-val SERIAL_8250_RUNTIME_UARTS 4",),
        )


def _processors(options: Options, demands: Demands) -> Iterator[Lack]:
    if demands.smp == 1:
        return
    asked = f"--repro-smp {demands.smp}"
    if options.value("SMP") != "y":
        yield Lack("SMP is not set", f"the guest shows 1 CPU, {asked} cannot be had", ("SMP",))
        return
    limit = options.value("NR_CPUS")
    if limit.isdigit() and int(limit) < demands.smp:
        yield Lack(
            f"NR_CPUS={limit}",
            f"the guest shows {limit} CPUs, {asked} cannot be had",
            (f"--set-val NR_CPUS {demands.smp}",),
        )
    has_table = options.value("X86_MPPARSE") == "y" and demands.mp_table
    if options.value("ACPI") != "y" and not has_table:
        table = "X86_MPPARSE" if demands.mp_table else "ACPI"
        why = "neither ACPI nor X86_MPPARSE is set" if demands.mp_table else "ACPI is not set"
        extra = "" if demands.mp_table else ", and without qboot.rom there is no MP table"
        yield Lack(
            f"{why}{extra}",
            f"the other CPUs are not found: the guest shows 1 CPU, {asked} cannot be had",
            (table,),
        )


def _archives(options: Options, demands: Demands) -> Iterator[Lack]:
    for name in sorted(demands.packings):
        if options.value(name) != "y":
            packed = name.removeprefix("RD_").lower()
            yield Lack(
                f"{name} is not set",
                f"an --initrd packed with {packed} is not unpacked: 'compression method {packed} "
                "not configured', and what is in it is missing",
                (name,),
            )
    if demands.scripts and options.value("BINFMT_SCRIPT") != "y":
        yield Lack(
            "BINFMT_SCRIPT is not set",
            "/init begins with #! and cannot be started: 'Failed to execute /init (error -8)'",
            ("BINFMT_SCRIPT",),
        )
