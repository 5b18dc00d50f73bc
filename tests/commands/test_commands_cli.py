"""The command line itself: help, exit statuses, and ends that nobody planned."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.cli import COMMANDS
from pytest_flaky_repro.commands import own_words

Start = Callable[..., "subprocess.Popen[bytes]"]
ROOT = Path(__file__).parents[2]

# Every word of "cc" is a compiler's, and it takes the place of the process that it is run in.
OF_OUR_OWN = [name for name in COMMANDS if name != "cc"]

# print() meets a closed or full output at once, or only when Python flushes its buffer
BUFFERING = pytest.mark.parametrize(
    "environment", [{"PYTHONUNBUFFERED": "1"}, {"PYTHONUNBUFFERED": ""}], ids=["direct", "buffered"]
)


@pytest.mark.parametrize("name", OF_OUR_OWN)
def test_each_command_has_help_of_its_own(command: Callable[..., Any], name: str) -> None:
    ran = command(name, "--help")
    assert ran.status == 0
    assert ran.out.startswith(f"usage: flaky-repro {name} ")
    assert ran.err == ""


def test_the_help_lists_every_command(command: Callable[..., Any]) -> None:
    ran = command("--help")
    assert ran.status == 0
    listed = {line.split()[0] for line in ran.out.splitlines() if line.startswith("    ")}
    assert set(COMMANDS) <= listed


def test_an_unknown_command_is_bad_input_and_the_known_ones_are_named(
    command: Callable[..., Any],
) -> None:
    ran = command("diagnose")
    assert ran.status == 2
    assert "invalid choice: 'diagnose'" in ran.err
    assert all(name in ran.err for name in COMMANDS)


def test_no_command_is_bad_input(command: Callable[..., Any]) -> None:
    ran = command()
    assert ran.status == 2
    assert "required: COMMAND" in ran.err


@pytest.mark.parametrize("name", OF_OUR_OWN)
def test_an_unknown_option_is_bad_input(command: Callable[..., Any], name: str) -> None:
    ran = command(name, "--no-such-option")
    assert ran.status == 2
    assert ran.err.startswith("usage: ")


def test_the_module_is_the_command(start: Start) -> None:
    out, err = start("--help").communicate(timeout=60)
    assert out.startswith(b"usage: flaky-repro ")
    assert err == b""


def test_asking_for_help_loads_no_numbers_and_no_other_command() -> None:
    program = (
        "import sys; from pytest_flaky_repro.cli import main\n"
        "try: main(['initramfs', '--help'])\n"
        "finally: print([m for m in sys.modules if m in ('numpy', 'scipy', "
        "'pytest_flaky_repro.commands.plan')], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    assert done.stderr == "[]\n"


@BUFFERING
def test_a_reader_that_has_gone_is_no_verdict_and_no_traceback(
    start: Start, environment: dict[str, str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = start("plan", environment=environment, stdout=writer)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + signal.SIGPIPE, b"")


def test_head_gets_its_line_and_nothing_is_complained_of(tmp_path: Path) -> None:
    line = shlex.join([sys.executable, "-m", "pytest_flaky_repro", "plan"])
    done = subprocess.run(
        ["sh", "-c", f"{line} | head -1"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout == "confidence 95%, minimum rate 5.0%, noise 0%\n"
    assert done.stderr == ""


@BUFFERING
def test_a_full_disk_is_said_in_one_line(start: Start, environment: dict[str, str]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("plan", environment=environment, stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == b"flaky-repro plan: No space left on device\n"


def test_ctrl_c_ends_a_command_in_one_line(start: Start, tmp_path: Path) -> None:
    fifo = tmp_path / "console"
    os.mkfifo(fifo)
    process = start("classify", fifo)
    with fifo.open("wb"):  # opens when the command does
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err == b"flaky-repro classify: interrupted\n"


def test_a_command_speaks_of_its_own_options() -> None:
    options = argparse.Namespace(smp=2, trial_time="1")
    said = "--repro-smp 2, --repro-trial-time; --repro-noise, --repro-smpx"
    assert own_words(said, options) == "--smp 2, --trial-time; --repro-noise, --repro-smpx"


@pytest.mark.parametrize("where", ["add", "run"])
def test_ctrl_c_while_modules_are_imported_is_a_line_and_130(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"pytest_flaky_repro.commands.combine.{where}", interrupted)
    ran = command("combine", ".")
    assert ran.status == 130
    assert ran.err.endswith(": interrupted\n")
    assert ran.err.count("\n") == 1
