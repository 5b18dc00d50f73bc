"""Small projects to run pytest on, with the fake machine in QEMU's place."""

from __future__ import annotations

import importlib
import json
import shlex
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.machine.dry_run import stand_in

CONFTEST = """
    from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine

    def pytest_repro_machine(config, experiment, settings):
        return FakeMachine(Behaviour({behaviour}), at_once={at_once})
"""
CHECK = """
    def test_it(repro, kernel):
        repro.check("ok.c")
"""
FEW = ("--repro-min-rate=0.5", "--confidence=0.9", "--repro-accel=tcg")  # safe after 4 survivals


def bzimage(text: str = "") -> bytes:
    """The least that is taken for a 64-bit kernel."""
    image = bytearray(stand_in())
    image[0x236] = 1  # XLF_KERNEL_64
    return bytes(image) + text.encode()


class Project:
    """A folder with a kernel, a reproducer, a test and a machine."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self.pytester = pytester
        self.path = pytester.path
        self.kernel = self.add_kernel("bzImage")
        self.write("ok.c", "int main(void) { return 0; }")
        self.machine()
        self.test(CHECK)

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    def add_kernel(self, name: str) -> Path:
        """A kernel that differs from those of other names."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bzimage(name))
        return path

    def machine(self, behaviour: str = "", at_once: int = 1) -> None:
        """What trials come to: keywords of ``machine.fake.Behaviour``."""
        self.conftest = CONFTEST.format(behaviour=behaviour, at_once=at_once)
        self.write("conftest.py", self.conftest)

    def test(self, source: str) -> None:
        self.write("test_it.py", source)

    def run(self, *args: str, kernel: bool = True) -> pytest.RunResult:
        """pytest in this process, on the project's kernel, with few trials to a verdict."""
        return self.pytester.runpytest_inprocess(*self._words(args, kernel=kernel))

    def spawn(self, *args: str, kernel: bool = True) -> pytest.RunResult:
        """The same in a process of its own."""
        return self.pytester.runpytest_subprocess(*self._words(args, kernel=kernel), timeout=60)

    def again(self, result: pytest.RunResult) -> pytest.RunResult:
        """Runs the command that a report names."""
        line = next(line for line in result.outlines if line.strip().startswith("again:"))
        words = shlex.split(line.partition("again:")[2])
        assert words[0] == "pytest"
        return self.pytester.runpytest_inprocess(*words[1:])

    def _words(self, args: tuple[str, ...], *, kernel: bool) -> list[str]:
        # hypothesis would be imported anew in each run in this process
        words = ["-p", "no:hypothesispytest", *FEW, *args]
        return ["--kernel=bzImage", *words] if kernel else words

    def records(self, kind: str) -> list[dict[str, Any]]:
        """All whole evidence lines of one kind, of a running campaign too."""
        lines = [
            json.loads(line)
            for path in sorted(self.path.glob(".repro/*/*.jsonl"))
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        return [line for line in lines if line["type"] == kind]

    def junit(self, *args: str) -> ET.Element:
        """The test suite in the JUnit file of a run."""
        self.run("--junitxml=out.xml", *args)
        suite = ET.parse(self.path / "out.xml").getroot().find("testsuite")
        assert suite is not None
        return suite


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all projects share, so that each program is compiled once.

    pytester forgets the modules that a run in this process imported, and numpy cannot be imported
    twice: all of them are imported before its first run.
    """
    for name in ("bench", "collect", "header", "outcomes", "terminal", "exitstatus", "xdist"):
        parent = "report." if name in {"header", "outcomes", "terminal", "exitstatus"} else ""
        importlib.import_module(f"pytest_flaky_repro.{parent}{name}")
    importlib.import_module("scipy.special")
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def project(pytester: pytest.Pytester, compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTEST_REPRO_CACHE", str(compiled))
    for name in ("PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"):  # pytest prints more on a CI machine
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)
