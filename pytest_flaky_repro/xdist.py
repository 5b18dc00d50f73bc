"""The controller's side of an xdist run: tells workers when to stop."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest


class StopFile:
    """A file whose existence ends running campaigns: -x and Ctrl-C do not reach busy workers."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._folder = Path(tempfile.mkdtemp(prefix="pytest-flaky-repro-"))
        self._path = self._folder / "stop"

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["repro_stop_file"] = str(self._path)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        del report
        if self._session.shouldfail or self._session.shouldstop:
            self._path.touch()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self._path.touch()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._path.touch()

    def pytest_unconfigure(self) -> None:
        shutil.rmtree(self._folder)
