"""``classify --vmlinux`` says where frames are, ``--follow`` says crashes as they come."""

from __future__ import annotations

import json
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flaky_repro.cli import main

SOURCE = """
static int __attribute__((always_inline)) inline inner(volatile int *p)
{
    int first = p[0];
    return first + p[1];   /* line 5 */
}

int __attribute__((noinline)) unlucky(int *p)
{
    return inner(p) + 1;   /* line 10 */
}

int main(void) { return unlucky((int *)8); }
"""
PANIC = (
    "[    1.000000] BUG: kernel NULL pointer dereference, address: 0000000000000008\n"
    "[    1.000001] #PF: supervisor read access in kernel mode\n"
    "[    1.000002] RIP: 0010:unlucky+{offset:#x}/{size:#x}\n"
    "[    1.000003] Call Trace:\n"
    "[    1.000004]  <TASK>\n"
    "[    1.000005]  elsewhere+0x10/0x20\n"
    "[    1.000006]  </TASK>\n"
    "[    1.000007] ---[ end trace 0000000000000000 ]---\n"
)


@pytest.fixture(scope="module")
def vmlinux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with debug information, which is all that is asked of a vmlinux."""
    folder = tmp_path_factory.mktemp("vmlinux")
    (folder / "unlucky.c").write_text(SOURCE)
    command = ["cc", "-g", "-O1", "-no-pie", "-o", "vmlinux", "unlucky.c"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "vmlinux"


def size_of(vmlinux: Path) -> int:
    listing = subprocess.run(
        ["nm", "--print-size", vmlinux], capture_output=True, text=True, check=True
    )
    match = re.search(r"^\w+ (\w+) T unlucky$", listing.stdout, re.MULTILINE)
    assert match is not None
    return int(match[1], 16)


@pytest.fixture
def log(vmlinux: Path, tmp_path: Path) -> Path:
    path = tmp_path / "console"
    path.write_text(PANIC.format(offset=2, size=size_of(vmlinux)))
    return path


def test_a_frame_is_found_in_the_source_with_what_was_inlined(
    vmlinux: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(log), f"--vmlinux={vmlinux}"]) == 1
    said = capsys.readouterr().out
    assert re.search(r"unlucky\+0x2/0x\w+: inner at .*unlucky\.c:5", said)
    assert re.search(r"inlined into unlucky at .*unlucky\.c:10", said)


def test_a_frame_that_is_not_in_this_vmlinux_is_left_alone(
    vmlinux: Path, log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["classify", str(log), f"--vmlinux={vmlinux}", "--json"])
    frames = [place["frame"] for place in json.loads(capsys.readouterr().out)["places"]]
    assert [frame.split("+")[0] for frame in frames] == ["unlucky"]


def test_a_function_of_another_size_is_another_build(
    vmlinux: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "console"
    path.write_text(PANIC.format(offset=0, size=4096))
    main(["classify", str(path), f"--vmlinux={vmlinux}", "--json"])
    assert json.loads(capsys.readouterr().out)["places"] == []


def test_a_vmlinux_without_symbols_is_refused(
    vmlinux: Path, log: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["strip", "-o", tmp_path / "stripped", vmlinux], check=True)
    assert main(["classify", str(log), f"--vmlinux={tmp_path / 'stripped'}"]) == 2
    assert "symbols" in capsys.readouterr().err


def test_a_crash_is_said_while_the_console_still_grows(log: Path) -> None:
    command = [sys.executable, "-m", "pytest_flaky_repro", "classify", "--follow"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"[    0.500000] all is well\n" + log.read_bytes())
        process.stdin.flush()
        ready, _, _ = select.select([process.stdout], [], [], 30)
        assert ready, "nothing was said while the pipe was open"
        first = process.stdout.readline().decode()
        process.stdin.write(b"[    9.000000] Kernel panic - not syncing: second thoughts\n")
        process.stdin.close()
        rest = process.stdout.read().decode()
    assert "unlucky" in first
    assert rest == "-: kernel panic: second thoughts\n"
    assert process.returncode == 1


def test_only_one_log_can_be_followed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--follow", "a", "b"]) == 2
    assert "--follow" in capsys.readouterr().err
