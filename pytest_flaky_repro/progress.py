"""Live progress: one rewritten line on a terminal, sparse lines in a log, also under xdist.

A campaign runs where its item runs. There it sends a report of its own kind (``when`` is
``repro-progress``), which xdist carries to the controller like any other; what a person sees is
printed by the process that owns the terminal.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flaky_repro.campaign.loop import Snapshot

WHEN = "repro-progress"
SEND_EVERY_S = 0.2
LOG_EVERY_S = 30.0


class ItemObserver:
    """Turns a campaign's snapshots into reports, at most a few a second."""

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._sent = 0.0
        self._titles: set[str] = set()

    def progress(self, snapshot: Snapshot) -> None:
        from pytest_flaky_repro.report import sentences

        trials = snapshot.tally.trials_low
        title = snapshot.last.title if snapshot.last is not None else ""
        last = snapshot.last
        crashed = last is not None and last.outcome is Outcome.CRASHED and last.arm == "test"
        new = crashed and title not in self._titles
        due = time.monotonic() - self._sent >= SEND_EVERY_S
        if not (due or new or _is_power_of_ten(trials)):
            return
        self._sent = time.monotonic()
        text = sentences.progress(snapshot)
        if new:
            self._titles.add(title)
            text += f"; new: {sentences.printable(title)}"
        self._send(text, trials, news=new)

    def _send(self, text: str, trials: int, *, news: bool) -> None:
        item = self._item
        report = pytest.TestReport(
            nodeid=item.nodeid,
            location=item.location,
            keywords={},
            outcome="passed",
            longrepr=None,
            when=WHEN,  # type: ignore[arg-type]
            repro_text=text,
            repro_trials=trials,
            repro_news=news,
        )
        item.config.hook.pytest_runtest_logreport(report=report)


def _is_power_of_ten(number: int) -> bool:
    return number > 0 and number == 10 ** (len(str(number)) - 1)


class ProgressPrinter:
    """Prints progress and gathers verdicts, in the process that owns the terminal."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._logged: dict[str, tuple[int, float]] = {}
        self._on_line = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        session_of(self._config).summaries += getattr(report, "repro_summary", [])
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None or reporter.verbosity < 0:
            return
        if report.when != WHEN:
            self._clear(reporter)
            return
        with _uncaptured(self._config):
            if reporter.isatty and reporter.verbosity <= 0:
                self._rewrite(reporter, report)
            elif self._is_due(report):
                reporter.ensure_newline()
                reporter.write_line(f"  {_text(report)}")
                reporter.flush()

    def _rewrite(self, reporter: pytest.TerminalReporter, report: pytest.TestReport) -> None:
        if not self._on_line:
            reporter.ensure_newline()
        self._on_line = True
        width = reporter._tw.fullwidth - 1  # noqa: SLF001 - the width of the line to rewrite
        reporter.rewrite(f"  {_text(report)}"[:width], erase=True)
        reporter.flush()

    def _clear(self, reporter: pytest.TerminalReporter) -> None:
        if self._on_line:
            reporter.rewrite("", erase=True)
            self._on_line = False

    def _is_due(self, report: pytest.TestReport) -> bool:
        """In a log: at 1, 10, 100, ... trials, at each new crash title, and every 30 s."""
        trials: int = report.repro_trials
        before, at = self._logged.get(report.nodeid, (0, 0.0))
        crossed = len(str(trials)) > len(str(before)) or before == 0
        due = report.repro_news or crossed or time.monotonic() - at >= LOG_EVERY_S
        if due:
            self._logged[report.nodeid] = (trials, time.monotonic())
        return due


def _text(report: pytest.TestReport) -> str:
    return str(report.repro_text)


@contextmanager
def _uncaptured(config: pytest.Config) -> Iterator[None]:
    """Suspends output capture, if there is any, for a line that a person should see now."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield
