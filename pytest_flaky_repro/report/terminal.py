"""The one section that this plugin adds to pytest's summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

COLOURS = {
    "safe": "green",
    "crashes": "red",
    "inconclusive": "yellow",
    "infrastructure": "red",
    "comparison": "cyan",
}


def write_summary(reporter: pytest.TerminalReporter, verdicts: list[dict[str, Any]]) -> None:
    """A line a verdict, what it means, and the kinds of crash that were seen.

    With ``-q`` the line alone, with ``-qq`` nothing.
    """
    if reporter.verbosity < -1:
        return
    if reporter.verbosity >= 0:
        reporter.section("flaky repro")
    for verdict in verdicts:
        reporter.write(verdict["word"], **{COLOURS[verdict["conclusion"]]: True})
        reporter.write_line(f"  {verdict['item']}")
        if reporter.verbosity < 0:
            continue
        if verdict["conclusion"] != "safe":
            reporter.write_line(f"    {verdict['why']}")
        for line in verdict["explanation"]:
            reporter.write_line(f"    {line}")
        for kind in verdict["kinds"]:
            mark = "" if kind["expected"] else " (not counted as a crash)"
            where = f"{kind['rate']}; first: trial {kind['first']}"
            reporter.write_line(f"    {kind['count']:5} x {kind['title']}{mark} ({where})")
        reporter.write_line(f"    evidence: {verdict['evidence']}")


def write_how_to_go_on(reporter: pytest.TerminalReporter, evidence: str) -> None:
    """After Ctrl-C."""
    reporter.write_line(
        f"flaky-repro: every trial that ended is on record in {evidence}; "
        "to go on: the same command, with --repro-resume"
    )
