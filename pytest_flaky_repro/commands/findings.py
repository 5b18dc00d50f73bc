"""What ``flaky-repro doctor`` found: one line each, with the mend below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.report.sentences import printable

GOOD, NOTE, BLOCKS = "good", "note", "blocks"


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``state``: good, note (works, but look), blocks (no verdict)."""

    subject: str
    state: str
    text: str
    mend: str = ""


def attempt(subject: str, look: Callable[[], Iterator[Finding] | Finding]) -> Iterator[Finding]:
    """The findings of ``look``; what it raises on purpose blocks, in its own words."""
    try:
        found = look()
        yield from (found,) if isinstance(found, Finding) else found
    except ReproError as error:
        yield Finding(subject, BLOCKS, str(error))


def lines(findings: list[Finding]) -> Iterator[str]:
    """The report for people; the last line says what it comes to."""
    for finding in findings:
        yield f"{finding.state:7} {finding.subject}: {printable(finding.text)}"
        if finding.mend:
            yield f"{'':7} mend: {printable(finding.mend)}"
    blocking = sum(finding.state == BLOCKS for finding in findings)
    things = {0: "nothing blocks", 1: "1 thing blocks"}
    yield things.get(blocking, f"{blocking} things block")
