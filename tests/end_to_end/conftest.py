"""Whole runs of pytest on real kernels, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_flaky_repro.machine.spec import Emulator

PATIENCE_S = 120.0  # for something that must happen: much longer than it takes
SAFE = r"\bSAFE \("

COIN = """
    #include <stdlib.h>
    int main(void) {
        unsigned long drawn = strtoul(getenv("REPRO_SEED"), 0, 16);
        if (drawn % 1000 < PER_MILLE) *(volatile int *)0 = 1;
        return 0;
    }
"""
NEVER = "int main(void) { return 0; }"
SLEEPER = "#include <unistd.h>\nint main(void) { sleep(1000); return 0; }"


@dataclass
class Run:
    """A pytest that is running or has run."""

    process: subprocess.Popen[str]
    folder: Path
    killed: list[int] = field(default_factory=list)

    def wait(self) -> str:
        """Its whole output, once it has ended."""
        text, _ = self.process.communicate(timeout=5 * PATIENCE_S)
        return text

    def until(self, what: Callable[[], bool]) -> None:
        """Waits for something to happen while it runs."""
        limit = time.monotonic() + PATIENCE_S
        while not what():
            if self.process.poll() is not None:
                pytest.fail(f"pytest ended before it should:\n{self.process.communicate()[0]}")
            if time.monotonic() > limit:
                self.process.kill()
                pytest.fail(f"nothing happened in {PATIENCE_S:g} s")
            time.sleep(0.05)


class Project:
    """A folder with tests and reproducers, and pytest runs in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._running: list[Run] = []

    def write(self, **files: str) -> None:
        """``ok_c="..."`` writes ``ok.c``."""
        for name, content in files.items():
            stem, _, suffix = name.rpartition("_")
            (self.folder / f"{stem}.{suffix}").write_text(textwrap.dedent(content))

    def start(
        self, *arguments: str | Path, wrapper: tuple[str, ...] = (), accel: str = "tcg"
    ) -> Run:
        """Starts pytest here, a process group of its own, as a shell does it."""
        command = [*wrapper, sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
        command += [f"--repro-accel={accel}", *map(str, arguments)]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
        clean |= {k: os.environ[k] for k in ("PYTEST_REPRO_CACHE",) if k in os.environ}
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=clean,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            process_group=0 if sys.version_info >= (3, 11) else None,
            start_new_session=sys.version_info < (3, 11),
        )
        run = Run(process, self.folder)
        self._running.append(run)
        return run

    def pytest(self, *arguments: str | Path, **how: object) -> tuple[int, str]:
        """Runs pytest to its end: exit status and output."""
        run = self.start(*arguments, **how)  # type: ignore[arg-type]
        text = run.wait()
        return run.process.returncode, text

    def records(self, kind: str = "trial") -> list[dict[str, object]]:
        """All records of a kind in this project's evidence."""
        files = sorted(self.folder.glob(".repro/*/trials-*.jsonl"))
        lines = [line for file in files for line in file.read_bytes().splitlines()]
        found = []
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # torn by a kill
            if record["type"] == kind:
                found.append(record)
        return found

    def close(self) -> None:
        for run in self._running:
            if run.process.poll() is None:
                os.killpg(run.process.pid, signal.SIGKILL)
                run.process.communicate()


@pytest.fixture
def project(tmp_path: Path, emulator: Emulator) -> Iterator[Project]:
    del emulator  # only that a missing QEMU is said once, and clearly
    made = Project(tmp_path)
    yield made
    made.close()


def qemus(marker: str) -> list[int]:
    """The QEMUs of one run, told by a word on their kernels' command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if b"qemu-system" in line.split(b"\0")[0] and marker.encode() in line:
            found.append(int(path.parent.name))
    return found


def left_over(marker: str, patience_s: float = 10.0) -> list[int]:
    """The QEMUs that are still there some seconds later: a killed process takes a while to go."""
    until = time.monotonic() + patience_s
    while qemus(marker) and time.monotonic() < until:
        time.sleep(0.05)
    return qemus(marker)


def verdicts(text: str) -> list[str]:
    """The verdict words of the summary section, without their counts."""
    section = text.partition("= flaky repro =")[2].partition("\n=====")[0]
    return re.findall(r"^(SAFE|CRASHES|INCONCLUSIVE|INFRASTRUCTURE)\b", section, re.MULTILINE)


@dataclass(frozen=True)
class Tools:
    """What the tests need of this file: test modules cannot import it."""

    qemus: Callable[[str], list[int]] = qemus
    left_over: Callable[[str], list[int]] = left_over
    verdicts: Callable[[str], list[str]] = verdicts
    never: str = NEVER
    sleeper: str = SLEEPER

    def coin(self, rate: float) -> str:
        """A reproducer that dies at this rate."""
        return COIN.replace("PER_MILLE", str(round(1000 * rate)))


@pytest.fixture
def tools() -> Tools:
    return Tools()
