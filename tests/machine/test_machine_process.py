"""A process that cannot outlive its spawner, whenever that one dies."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SPAWNER = """
import sys, time
from pytest_flaky_repro.machine.process import spawn
spawn(["/bin/sh", "-c", "echo $$ > " + sys.argv[1] + "; exec sleep 1000"], ())
print("spawned", flush=True)
time.sleep(1000)
"""


def start(output: Path, path: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SPAWNER, str(output)]
    process = subprocess.Popen(command, stdout=-1, text=True, env={"PATH": path})
    assert process.stdout is not None
    assert process.stdout.readline() == "spawned\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_it_dies_with_its_spawner(tmp_path: Path) -> None:
    output = tmp_path / "pid"
    process = start(output, "/usr/bin:/bin")
    while not (output.exists() and output.read_text()):
        time.sleep(0.02)
    child = Path("/proc") / output.read_text().strip()
    finish(process)
    while child.exists():  # the test's timeout says if it never ends
        time.sleep(0.02)


def test_it_never_runs_when_its_spawner_dies_before_they_are_tied(tmp_path: Path) -> None:
    """prctl(2) comes too late for a parent that is already gone."""
    slow, tied = tmp_path / "setpriv", tmp_path / "tied"
    slow.write_text(f'#!/bin/sh\nsleep 0.5\n: > {tied}\nexec /usr/bin/setpriv "$@"\n')
    slow.chmod(0o755)
    output = tmp_path / "pid"
    finish(start(output, f"{tmp_path}:/usr/bin:/bin"))
    while not tied.exists():
        time.sleep(0.02)
    time.sleep(0.5)
    assert not output.exists()
