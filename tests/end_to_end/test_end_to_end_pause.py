"""--repro-pause-on-crash: the guest that crashed stays, for a debugger and a memory dump."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Project, Run

CRASHES = {
    "reset": """
        #include <sys/reboot.h>
        int main(void) { reboot(RB_AUTOBOOT); return 0; }
    """,
    "signal": "int main(void) { *(volatile int *)0 = 1; return 0; }",
}


def paused(project: Project, kernel: Path, kind: str) -> tuple[Run, Path, str]:
    """A run whose guest has crashed and stands still, the folder of its sockets, what was told."""
    project.write(crash_c=CRASHES[kind])
    run = project.start(f"--kernel={kernel}", "--reproducer=crash.c", "--repro-pause-on-crash")
    assert run.process.stdout is not None
    told = ""
    while "let it go" not in told:
        line = run.process.stdout.readline()
        assert line, told
        told += line
    found = re.search(r"target remote (\S+)/gdb", told)
    assert found is not None, told
    return run, Path(found[1]), told


def told_command(told: str, name: str) -> list[str]:
    (line,) = (line for line in told.splitlines() if line.strip().startswith(f"{name}:"))
    return shlex.split(line.partition(":")[2].partition("     (")[0])


def ask_monitor(told: str, *request: str | Path) -> str:
    """The monitor's answer, asked as the page says: it drops what comes before its greeting."""
    *words, place = told_command(told, "memory dump")
    assert (words[-1], place) == ("dump-guest-memory", "/tmp/vmcore")
    return subprocess.run(
        [*words[:-1], *request], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def ask_gdb(path: Path, packet: bytes) -> bytes:
    """The answer of QEMU's debugger stub, in the remote serial protocol of gdb."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        connection.sendall(packet)
        said = b""
        while b"#" not in said and (chunk := connection.recv(4096)):
            said += chunk
    return said


@pytest.mark.parametrize("kind", CRASHES)
def test_the_guest_stands_still_until_it_is_let_go(
    project: Project, smp_kernel: Path, kind: str
) -> None:
    run, folder, told = paused(project, smp_kernel, kind)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "VM status: paused" in ask_monitor(told, "info", "status")
    # "why did you stop?", and its answer: a signal
    assert re.search(rb"\$[ST]\d\d", ask_gdb(folder / "gdb", b"$?#3f"))
    dump = project.folder / "vmcore"
    refused = ask_monitor(told, "dump-guest-memory", "/proc/x")
    assert "/proc/x" in refused or "ailed" in refused
    ask_monitor(told, "dump-guest-memory", dump)
    subprocess.run(told_command(told, "let it go"), check=True, timeout=60)
    text = run.wait()
    assert run.process.returncode == 1
    assert "CRASHES (1/1)" in text
    assert dump.read_bytes()[:4] == b"\x7fELF"
    assert not folder.exists()


def test_ctrl_c_ends_the_pause_and_keeps_the_trial(project: Project, smp_kernel: Path) -> None:
    run, folder, _ = paused(project, smp_kernel, "reset")
    os.kill(run.process.pid, signal.SIGINT)
    run.wait()
    assert run.process.returncode == 2
    (trial,) = project.records("trial")
    assert trial["outcome"] == "crashed"
    assert not folder.exists()


def test_a_survivor_is_not_held(project: Project, smp_kernel: Path) -> None:
    project.write(ok_c="int main(void) { return 0; }")
    status, text = project.pytest(
        f"--kernel={smp_kernel}",
        "--reproducer=ok.c",
        "--repro-pause-on-crash",
        "--repro-min-rate=0.5",
        "--confidence=0.7",
    )
    assert status == 0, text
    assert "SAFE (0/2" in text


@pytest.mark.parametrize("more", ["-n2", "--repro-boot=snapshot"])
def test_what_cannot_be_paused_is_refused(project: Project, smp_kernel: Path, more: str) -> None:
    project.write(ok_c="int main(void) { return 0; }")
    status, text = project.pytest(
        f"--kernel={smp_kernel}", "--reproducer=ok.c", "--repro-pause-on-crash", more
    )
    assert status != 0
    assert "--repro-pause-on-crash" in text
