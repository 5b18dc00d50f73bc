"""Commands, run in this process or in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_flaky_repro.cli import main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    status: int | str | None
    out: str
    err: str

    @property
    def message(self) -> str:
        """What it complains of, in one line."""
        return " ".join(self.err.split())


@pytest.fixture(autouse=True)
def own_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other guests on this machine are not waited for."""
    monkeypatch.setenv("PYTEST_REPRO_SLOTS", str(tmp_path / "slots"))


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ran]:
    """Runs ``flaky-repro`` in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> Ran:
        capsys.readouterr()
        status: int | str | None
        try:
            status = main([str(word) for word in words])
        except SystemExit as ended:  # argparse has the last word on --help and on bad options
            status = ended.code
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return run


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts ``python -m pytest_flaky_repro`` in a process of its own."""

    def popen(
        *words: str | Path, environment: Mapping[str, str] | None = None, **streams: int
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "pytest_flaky_repro", *map(str, words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdin=streams.get("stdin", subprocess.DEVNULL),
            stdout=streams.get("stdout", subprocess.PIPE),
            stderr=subprocess.PIPE,
        )

    return popen
