"""Live progress: a block of lines under pytest's own on a terminal, sparse lines in a log.

A campaign runs where its item runs. There it sends a report of its own kind (``when`` is
``repro-progress``), which xdist carries to the controller like any other; what a person sees is
printed by the process that owns the terminal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.session import session_of

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.loop import Snapshot
    from pytest_flaky_repro.report.live import Screen

WHEN = "repro-progress"
SEND_EVERY_S = 0.2


class ItemObserver:
    """Turns a campaign's snapshots into reports, at most a few a second."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._sent = 0.0
        self._titles: set[str] = set()
        self._began = time.time()
        self._earlier = 0  # trials that an earlier run left: they took none of our time

    def prepare(self, name: str, kernel: str) -> None:
        """Says what is about to begin: a guest has to be built, an accelerator to be chosen."""
        self._send({"item": name, "kernel": kernel, "trials": 0, "crashes": 0}, news="")

    def progress(self, snapshot: Snapshot) -> None:
        from pytest_flaky_repro.report.live import began_before, figures

        trials, last = snapshot.tally.trials_low, snapshot.last
        if last is not None and began_before(last, self._began):
            self._earlier = trials
        crashed = last is not None and last.outcome is Outcome.CRASHED and last.arm == "test"
        title = last.title if last is not None and crashed else ""
        new = crashed and title not in self._titles
        due = time.monotonic() - self._sent >= SEND_EVERY_S
        if not (due or new or _is_power_of_ten(trials)):
            return
        self._sent = time.monotonic()
        self._titles |= {title} if new else set()
        self._send(figures(snapshot, self._earlier), news=title if new else "")

    def _send(self, told: dict[str, Any], *, news: str) -> None:
        item = self._item
        worker = getattr(item.config, "workerinput", {}).get("workerid", "")
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="passed",
            longrepr=None,
            when=WHEN,  # type: ignore[arg-type]
            repro_figures=told,
            repro_worker=worker,
            repro_news=news,
        )
        item.config.hook.pytest_runtest_logreport(report=report)


def _is_power_of_ten(number: int) -> bool:
    return number > 0 and number == 10 ** (len(str(number)) - 1)


class ProgressPrinter:
    """Prints progress and gathers verdicts, in the process that owns the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._screen: Screen | None = None  # made when there is something to show

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        session_of(self._config).summaries += getattr(report, "repro_summary", [])
        if report.when == WHEN and self._screen is None:
            self._screen = self._make_screen()
        if self._screen is not None:
            self._screen.take(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self) -> None:
        self._clear()

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logfinish(self) -> None:
        if self._screen is not None:
            self._screen.draw()

    @pytest.hookimpl(tryfirst=True)
    def pytest_keyboard_interrupt(self) -> None:
        self._clear()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._clear()
        self._screen = None

    def _make_screen(self) -> Screen | None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or reporter.verbosity < 0:
            return None
        from pytest_flaky_repro.report.live import screen_for

        return screen_for(self._config, reporter)

    def _clear(self) -> None:
        if self._screen is not None:
            self._screen.clear()
