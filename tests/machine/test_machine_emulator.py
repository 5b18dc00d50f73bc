"""A QEMU that starts, and what is said of one that does not."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.machine.argv import kernel_command_line
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.spec import Emulator


def test_this_machines_qemu_is_found(emulator: Emulator) -> None:
    assert emulator.path.name == "qemu-system-x86_64"
    assert emulator.version[0].isdigit()


def test_a_qemu_that_is_not_there_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"--repro-qemu /no/qemu: no such program.*apt-get install"
    ):
        find_emulator("/no/qemu")


def test_no_qemu_on_path_says_how_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    find_emulator.cache_clear()
    with pytest.raises(InfrastructureError, match=r"apt-get install .*qemu-system-x86"):
        find_emulator()
    find_emulator.cache_clear()


def test_another_program_is_not_taken_for_qemu() -> None:
    with pytest.raises(
        InfrastructureError, match=r"--repro-qemu /bin/true: .* did not answer like QEMU"
    ):
        find_emulator("/bin/true")


def test_a_qemu_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "qemu"
    broken.write_text("#!/bin/sh\necho 'libc.so.6: version GLIBC_2.38 not found' >&2\nexit 1\n")
    broken.chmod(broken.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(InfrastructureError, match=r"status 1: libc.so.6: version GLIBC_2.38"):
        find_emulator(str(broken))


def test_a_file_that_is_no_program_says_so(tmp_path: Path) -> None:
    text = tmp_path / "qemu"
    text.write_text("not a program")
    text.chmod(0o755)
    with pytest.raises(InfrastructureError, match=r"did not run: .*Exec format error"):
        find_emulator(str(text))


def test_guests_do_not_check_their_timer() -> None:
    """On a busy host that check fails now and then, and the kernel panics while it boots."""
    assert "no_timer_check" in kernel_command_line("quiet", None).split()
