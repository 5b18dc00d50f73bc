"""Why a guest did not get as far as its trial, and the mend: pure functions of what was seen."""

from __future__ import annotations

import errno
import os
import re

from pytest_flaky_repro.machine.conversation import Gone, GuestGone, Ready

# What the kernel prints (init/main.c, init/do_mounts.c, init/initramfs.c) and what it means.
_BOOT_MESSAGES: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (
        re.compile(
            rb"VFS: (Unable to mount root fs|Cannot open root device)|No working init found"
        ),
        (
            "the kernel did not take /init from the initramfs: it was probably built without "
            "CONFIG_BLK_DEV_INITRD (or, with a compressed --initrd, without its CONFIG_RD_*)"
        ),
    ),
    (
        re.compile(rb"Failed to execute /init \(error -8\)"),
        (
            "the kernel could not execute /init, an x86-64 ELF file: CONFIG_BINFMT_ELF is missing, "
            "or --initrd brings another /init"
        ),
    ),
    (
        re.compile(rb"Initramfs unpacking failed|System is deadlocked on memory|Out of memory"),
        (
            "the initramfs did not fit or could not be unpacked: give more --repro-memory, or "
            "check the --initrd archive"
        ),
    ),
)

_SILENT = (
    "the kernel printed nothing on its serial port. It was probably built without "
    "CONFIG_SERIAL_8250_CONSOLE (which needs SERIAL_8250=y and TTY=y, not =m) or CONFIG_PRINTK"
)

# glibc aborts a threaded program with these words (sysdeps/nptl/futex-internal.h).
NO_FUTEX = b"The futex facility returned an unexpected error code"
NO_FUTEX_DETAIL = (
    "the reproducer uses threads, and glibc found no futexes to make them with: the kernel was "
    "built without CONFIG_FUTEX"
)


def boot_failure(console: bytes, gone: GuestGone) -> tuple[str, bool]:
    """What went wrong before READY, and whether every other boot would end the same way."""
    if gone.reason in (Gone.STOPPED, Gone.KILLED):
        return gone.detail, False
    for pattern, meaning in _BOOT_MESSAGES:
        if pattern.search(console):
            return f"{meaning} [{gone.detail}]", True
    if not console.strip():
        if gone.reason is Gone.FAILED:
            return gone.detail, True
        return f"{_SILENT} [{gone.detail}]", True
    last = console.strip().splitlines()[-1].decode("ascii", "replace")
    return f"the guest did not get to /init: {gone.detail}; its last line: {last!r:.300}", False


def ready_fault(ready: Ready, cpus: int) -> str | None:
    """What makes a guest that did boot unfit for a trial; None when it is fit."""
    if ready.cpus != cpus:
        return (
            f"the guest shows {ready.cpus} CPU(s), --repro-smp asked for {cpus}: a race that needs "
            f"{cpus} would never be seen. The kernel lacks CONFIG_SMP, or the tables to find the "
            "other CPUs (CONFIG_ACPI or CONFIG_X86_MPPARSE), or the command line limits it"
        )
    if not ready.has_kmsg:
        return (
            "the kernel has no /dev/kmsg, so its crash reports could not be seen: "
            "it was built without CONFIG_PRINTK"
        )
    if not ready.messages_seen:
        return (
            "the guest runs, but what its kernel prints does not reach the serial port, so a crash "
            "report would be missed: it was built without CONFIG_SERIAL_8250_CONSOLE, or "
            "--repro-append takes the console away (console=, ignore_loglevel=0, printk.*)"
        )
    return None


def exec_failure(code: int) -> str:
    """Why execve(2) in the guest refused the reproducer."""
    name = errno.errorcode.get(code, str(code))
    reasons = {
        errno.ENOENT: "a file or its ELF interpreter is not in the guest",
        errno.ENOEXEC: "the kernel knows no such format (CONFIG_BINFMT_ELF, CONFIG_BINFMT_SCRIPT)",
        errno.EACCES: "it is not executable",
        errno.ENOMEM: "too little memory: give more --repro-memory",
    }
    why = reasons.get(code, os.strerror(code))
    return f"the guest could not start the reproducer: {name}: {why}"
