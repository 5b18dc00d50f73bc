"""The files a run leaves: the HTML report and the metrics.

One process writes them, under xdist the controller: from what the workers report, and from the
evidence files they name.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.evidence import files_below
from pytest_flaky_repro.journal import is_written, stamp
from pytest_flaky_repro.report import metrics, page
from pytest_flaky_repro.session import session_of, settings_of

if TYPE_CHECKING:
    from pytest_flaky_repro.report.findings import Finding
    from pytest_flaky_repro.settings import Settings


def check_outputs(settings: Settings, folder: Path) -> None:
    """UsageError before the first trial, rather than a missing report after the last."""
    if settings["html"]:
        page.check_installed("--repro-html")
        page.check_place(folder / settings["html"], "--repro-html")
    if settings["metrics"]:
        metrics.check_installed()
        page.check_place(folder / settings["metrics"], "--repro-metrics")


class Outputs:
    """Follows the run and writes its files."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        settings, folder = settings_of(config), config.invocation_params.dir
        self._html = folder / settings["html"] if settings["html"] else None
        path = settings["metrics"]
        self._metrics = metrics.MetricsFile(folder / path) if path else None
        self._began = stamp()
        self._errors: list[pytest.TestReport] = []
        self._said: list[tuple[str, bool]] = []  # for the summary: a line, whether it went well

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        summaries: list[dict[str, Any]] = getattr(report, "repro_summary", [])
        figures: dict[str, Any] | None = getattr(report, "repro_figures", None)
        if self._metrics is not None:
            if figures is not None:
                self._metrics.running(figures)
            self._metrics.ended(summaries)
        if getattr(report, "repro_word", "") == "INFRASTRUCTURE" and not summaries:
            self._errors.append(report)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._write(session, "metrics", self._write_metrics)
        was_cut_short = session.exitstatus == pytest.ExitCode.INTERRUPTED
        self._write(session, "report", lambda: self._write_html(was_cut_short=was_cut_short))

    def _write(self, session: pytest.Session, name: str, write: Callable[[], Path | None]) -> None:
        try:
            where = write()
        except Exception as error:  # noqa: BLE001 - said, and the run fails: but its verdicts are shown
            what = str(error) if isinstance(error, (OSError, ReproError)) else repr(error)
            self._said.append((f"the {name} could not be written: {what}", False))
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
        else:
            self._said += [(f"{name}: {where}", True)] if where is not None else []

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line, well in self._said:
            terminalreporter.write_line(f"flaky-repro: {line}", red=not well)

    def _write_metrics(self) -> Path | None:
        if self._metrics is None:
            return None
        self._metrics.write()
        return Path(settings_of(self._config)["metrics"])

    def _write_html(self, *, was_cut_short: bool) -> Path | None:
        if self._html is None:
            return None
        findings, unread = self._findings(was_cut_short=was_cut_short)
        arguments = [str(word) for word in self._config.invocation_params.args]
        command = shlex.join(["pytest", *arguments])
        notes = [] if findings or unread else ["No campaign of this run came to a verdict."]
        if was_cut_short and findings:
            notes = ["The run was interrupted: this is what its trials came to until then."]
        text = page.render(findings, command=command, unread=unread, notes=notes)
        page.write(self._html, text)
        return Path(settings_of(self._config)["html"])

    def _findings(self, *, was_cut_short: bool) -> tuple[list[Finding], list[page.Unread]]:
        """What the evidence shows; the words alone where it is out of reach (a remote worker)."""
        from pytest_flaky_repro.report.findings import Told, findings_of
        from pytest_flaky_repro.report.runs import runs_of

        here, unread = {}, []
        for summary in session_of(self._config).summaries:
            file = Path(summary["evidence"])
            if file.is_file():
                here[file] = Told.of(summary)
            else:
                why, lines = summary["why"], summary["explanation"]
                gone = "is not on this machine"
                unread.append(
                    page.Unread(summary["item"], summary["word"], why, lines, str(file), gone)
                )
        for report in self._errors:
            text = report.longreprtext.partition("\n")[0]
            none = "was not begun"
            unread.append(page.Unread(report.nodeid, "INFRASTRUCTURE", text, (), "of it", none))
        cut_short = self._without_verdict(here) if was_cut_short else []
        return findings_of(runs_of([*here, *cut_short]), here), unread

    def _without_verdict(self, told: Collection[Path]) -> list[Path]:
        """Evidence that this run began and that nobody writes to now, beyond what was ``told``."""
        folder = self._config.invocation_params.dir / settings_of(self._config)["evidence"]
        return [
            file
            for file in (files_below(folder) if folder.is_dir() else ())
            if file not in told and file.name > f"trials-{self._began}" and not is_written(file)
        ]
