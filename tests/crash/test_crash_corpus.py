"""Logs of kernels and programs that really failed, each with its expected titles in a header.

A log starts with lines ``# key: value``: ``how`` it was made, and one ``report`` for each report in
it, or none. ``pytest tests/crash --update`` writes what the reader says now; read the difference
before you commit it.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.crash import Collector, Report, read_console

LOGS = sorted((Path(__file__).parent / "corpus").glob("*.log"))
CLEAN = [path for path in LOGS if path.name.startswith("clean-")]


def split(path: Path) -> tuple[list[str], bytes]:
    """The header lines of a log, and the log."""
    head: list[str] = []
    data = path.read_bytes()
    while data.startswith(b"# "):
        line, _, data = data.partition(b"\n")
        head.append(line.decode())
    return head, data.removeprefix(b"\n")


def shown(report: Report) -> str:
    """One report as its header line has it."""
    words = [report.kind.value]
    words += ["corrupted"] if report.corrupted else []
    words += ["generic"] if report.generic else []
    titles = " | ".join([report.title, *sorted(report.alternates)])
    return f"# report: {' '.join(words)}: {titles}"


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_log_gives_its_reports(path: Path, request: pytest.FixtureRequest) -> None:
    head, data = split(path)
    got = [shown(report) for report in read_console(data)]
    if request.config.getoption("--update", default=False):
        how = [line for line in head if not line.startswith("# report: ")]
        path.write_bytes("\n".join([*how, *got, "", ""]).encode() + data)
        return
    assert [line for line in head if line.startswith("# report: ")] == got


def test_the_corpus_has_whole_clean_boots_and_crashes() -> None:
    assert len(CLEAN) >= 3
    assert len(LOGS) - len(CLEAN) >= 25


@pytest.mark.parametrize("path", CLEAN, ids=lambda path: path.stem)
def test_a_clean_boot_is_clean(path: Path) -> None:
    assert read_console(split(path)[1]) == ()


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_reports_lie_in_order_inside_the_log(path: Path) -> None:
    data = split(path)[1]
    reports = read_console(data)
    assert all(0 <= report.start < report.end <= len(data) for report in reports)
    assert all(one.start < two.start for one, two in pairwise(reports))


@given(st.sampled_from(LOGS), st.data())
@settings(max_examples=60, deadline=None)
def test_any_chunking_of_a_log_gives_the_same_reports(path: Path, data: st.DataObject) -> None:
    log = split(path)[1]
    cuts = data.draw(st.lists(st.integers(0, len(log)), max_size=30))
    collector = Collector()
    for start, stop in pairwise([0, *sorted(cuts), len(log)]):
        collector.feed(log[start:stop], 0.0)
    assert collector.finish() == read_console(log)
