"""Why a guest did not get to its trial: each cause is named, and each mend."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest

from pytest_flaky_repro.machine import qmp
from pytest_flaky_repro.machine.conversation import Gone, GuestGone, Ready
from pytest_flaky_repro.machine.diagnosis import boot_failure, exec_failure, ready_fault

STALLED = GuestGone(Gone.STALLED, "no progress in phase boot")
FIT = Ready(cpus=1, memory=1 << 28, release="6.1", port="ttyS1", has_kmsg=True, messages_seen=True)

# Lines as Linux 6.1 prints them.
CONSOLES = {
    b"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)": (
        "CONFIG_BLK_DEV_INITRD"
    ),
    b"Kernel panic - not syncing: No working init found.  Try passing init=": (
        "CONFIG_BLK_DEV_INITRD"
    ),
    b"Failed to execute /init (error -8)": "CONFIG_BINFMT_ELF",
    b"Initramfs unpacking failed: write error": "--repro-memory",
    b"Kernel panic - not syncing: System is deadlocked on memory": "--repro-memory",
}


@pytest.mark.parametrize("line", CONSOLES)
def test_what_the_kernel_says_names_the_cause(line: bytes) -> None:
    cause, lasting = boot_failure(b"Linux version 6.1\n" + line + b"\n", STALLED)
    assert CONSOLES[line] in cause
    assert lasting


def test_a_silent_kernel_has_no_serial_console() -> None:
    cause, lasting = boot_failure(b" \r\n", STALLED)
    assert "CONFIG_SERIAL_8250_CONSOLE" in cause
    assert lasting


def test_a_qemu_that_fails_speaks_for_itself() -> None:
    gone = GuestGone(Gone.FAILED, "QEMU exited with status 1: unsupported machine type")
    assert boot_failure(b"", gone) == (gone.detail, True)


@pytest.mark.parametrize("reason", [Gone.KILLED, Gone.STOPPED])
def test_what_we_or_the_host_did_is_no_fault_of_the_kernel(reason: Gone) -> None:
    gone = GuestGone(reason, "QEMU was killed by SIGKILL")
    assert boot_failure(b"Linux version 6.1\n", gone) == (gone.detail, False)


def test_a_boot_that_got_stuck_shows_its_last_line() -> None:
    cause, lasting = boot_failure(b"Linux version 6.1\ntsc: calibrating\n", STALLED)
    assert "tsc: calibrating" in cause
    assert not lasting


def test_a_guest_as_asked_for_is_fit() -> None:
    assert ready_fault(FIT, cpus=1) is None


def test_a_missing_cpu_is_a_fault() -> None:
    fault = ready_fault(FIT, cpus=2)
    assert fault is not None
    assert "shows 1 CPU(s), --repro-smp asked for 2" in fault


def test_messages_that_reach_nobody_are_a_fault() -> None:
    fault = ready_fault(replace(FIT, messages_seen=False), cpus=1)
    assert fault is not None
    assert "CONFIG_SERIAL_8250_CONSOLE" in fault


def test_a_kernel_without_messages_is_a_fault() -> None:
    fault = ready_fault(replace(FIT, has_kmsg=False, messages_seen=False), cpus=1)
    assert fault is not None
    assert "CONFIG_PRINTK" in fault


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOENT, "ENOENT: a file or its ELF interpreter is not in the guest"),
        (errno.ENOEXEC, "CONFIG_BINFMT_SCRIPT"),
        (errno.EACCES, "not executable"),
        (errno.ENOMEM, "--repro-memory"),
        (errno.ELOOP, "ELOOP: Too many levels"),
    ],
)
def test_why_the_reproducer_did_not_start(code: int, said: str) -> None:
    assert said in exec_failure(code)


# ---- what the CPUs of a silent guest do; the form of QEMU 7.2's answer


def test_qmp_is_read_however_it_is_cut() -> None:
    stream = (
        b'{"QMP": {"version": {}}}\r\n{"return": {}}\r\n'
        b'{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}}\r\n'
        b'{"return": "CPU#0", "id": "registers"}\r\n'
    )
    reader = qmp.QmpReader()
    for i in range(0, len(stream), 7):
        reader.feed(stream[i : i + 7])
    assert (reader.shutdown_reason, reader.registers) == ("guest-reset", "CPU#0")
