"""The report: one HTML file that needs nothing else, and in which nothing can run.

No JavaScript at all: its Content-Security-Policy (https://www.w3.org/TR/CSP3/) forbids scripts,
requests and forms, so that a guest's text cannot do what the page itself cannot.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.report import svg
from pytest_flaky_repro.report.consoles import visible
from pytest_flaky_repro.report.findings import Finding
from pytest_flaky_repro.report.plots import Plot
from pytest_flaky_repro.report.searches import Search
from pytest_flaky_repro.report.sections import Section, marks_of, overview, section_of, short_name

if TYPE_CHECKING:
    import jinja2

NEEDED = {"jinja2": "jinja2", "matplotlib": "matplotlib"}
SIZE_MOST = 4_000_000  # bytes of sections
PAGE_MOST = 4_900_000  # bytes of all
ROWS_MOST = 1_000
TEXT_MOST = 2_000  # characters of any one text


@dataclass(frozen=True)
class Drawn:
    """A plot as the template needs it."""

    plot: Plot
    markup: Any


@dataclass(frozen=True)
class Unread:
    """A verdict whose evidence cannot be read here: its words are all there is."""

    item: str
    word: str
    why: str
    explanation: Sequence[str]
    evidence: str
    because: str


def check_installed(option: str) -> None:
    """UsageError, with the mend, when what draws and lays out the report is not there."""
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        raise UsageError(
            f"{option} needs {' and '.join(missing)}: pip install pytest-flaky-repro[report]"
        )


def check_place(path: Path, option: str) -> None:
    """UsageError when a file cannot be put there: better said before hours of trials."""
    if path.is_dir():
        raise UsageError(f"{option} {path}: expected a file, this is a folder")
    folder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    try:
        with TemporaryFile(dir=folder):  # asking for permission is not enough: root has it in /proc
            pass
    except OSError as error:
        why = f"{folder} cannot be written to: {error.strerror}"
        raise UsageError(f"{option} {path}: {why}") from error


def write(path: Path, page: str) -> None:
    """Puts the page there at once: a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(page, "utf-8")
    part.replace(path)


def render(
    findings: Sequence[Finding],
    *,
    command: str,
    unread: Sequence[Unread] = (),
    searches: Sequence[Search] = (),
    notes: Sequence[str] = (),
) -> str:
    """The page. Campaigns that do not fit into 5 MB are in its table only, and it says so."""
    environment = _environment()
    spent, marks = 0, marks_of(findings)
    shown: dict[int, Any] = {}
    for index in sorted(range(len(findings)), key=lambda i: _rank(findings[i])):
        if spent >= SIZE_MOST:
            break
        section = section_of(findings[index])
        text = _section(environment, section, index, marks[index])
        if spent + len(text.encode()) <= SIZE_MOST:
            shown[index] = text
            spent += len(text.encode())
    rates = overview(findings)
    facts = {
        "findings": list(enumerate(findings[:ROWS_MOST])),
        "marks": marks,
        "left_out": max(0, len(findings) - ROWS_MOST),
        "all": len(findings),
        "overview": _drawn(rates, "rates") if rates is not None else None,
        "unread": unread[:ROWS_MOST],
        "searches": [
            (search, [_drawn(plot, f"search{i}-{j}") for j, plot in enumerate(search.plots)])
            for i, search in enumerate(searches)
        ],
        "notes": notes,
        "command": command,
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "python": sys.version.split()[0],
        "palette": svg.PALETTE,
    }
    template = environment.get_template("report.html.j2")
    while True:
        kept = [shown[index] for index in sorted(shown)]
        text = str(template.render(sections=kept, shown=shown, **facts))
        if not shown or len(text.encode()) <= PAGE_MOST:
            return text
        shown.popitem()  # who came last mattered least; the table above them took its room


def _rank(finding: Finding) -> int:
    """Who gets room first: what a reader has to act on."""
    order = ("crashes", "infrastructure", "inconclusive")
    said = finding.told.conclusion
    return order.index(said) if said in order else len(order)


def _section(environment: jinja2.Environment, section: Section, index: int, mark: str) -> Any:
    from markupsafe import Markup

    template = environment.get_template("section.html.j2")
    drawn = [_drawn(plot, f"c{index}-{i}") for i, plot in enumerate(section.plots)]
    names = {"section": section, "finding": section.finding, "index": index, "mark": mark}
    text = template.render(plots=drawn, **names)
    return Markup(text)  # noqa: S704 - it comes from an autoescaping template


def _drawn(plot: Plot, prefix: str) -> Drawn:
    from markupsafe import Markup

    markup = svg.for_page(plot.drawing, prefix, plot.title, plot.description)
    return Drawn(plot, Markup(markup))  # noqa: S704 - an XML writer wrote it


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_flaky_repro", "report/templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters["short"] = short_name
    environment.globals["word_of"] = lambda vote: vote.value
    return environment


def _harmless(value: Any) -> Any:
    """Every text that a template puts into the page goes through here, and is then escaped."""
    if type(value) is not str:
        return value
    shown = value if value.isascii() and value.isprintable() else visible(value)
    return shown if len(shown) <= TEXT_MOST else f"{shown[:TEXT_MOST]}… ({len(shown):,} characters)"
