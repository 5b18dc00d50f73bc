"""No sentence hands the confidence to the kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_flaky_repro import stats
from pytest_flaky_repro.stats import Decision, Design, Tally, meaning, plan_for, so_far

ROOT = Path(__file__).parents[2]
BOAST = re.compile(
    r"\d\s*%\s*(sure|certain|safe|likely|chance|probab\w+)[^.]*\b(safe|fixed|sure|bug-free)\b"
    r"|\b(safe|fixed)\b[^.,;:]*\bwith\s+\d+(\.\d+)?\s*%\s*(probability|certainty|confidence)"
    r"|\d\s*%\s*(sure|safe|certain)\b",
    re.IGNORECASE,
)
DESIGNS = [Design(0.01, 0.0, 0.99, 0.99), Design(0.05, 0.001, 0.99, 0.95)]


@pytest.mark.parametrize("text", ["99% sure it is fixed", "99 % safe", "fixed with 95% certainty"])
def test_the_check_knows_a_boast(text: str) -> None:
    assert BOAST.search(text)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("decision", Decision)
def test_each_meaning_carries_its_condition(design: Design, decision: Decision) -> None:
    text = meaning(design, decision, "on host a, trials of 30 s")
    assert not BOAST.search(text)
    if decision is Decision.SAFE:
        assert text == (
            f"if the crash rate per trial were {design.min_rate:g} or more on host a, trials of "
            f"30 s, this would have been said with probability at most {design.error_safe:g}"
        )


@pytest.mark.parametrize("design", DESIGNS)
def test_so_far_says_what_is_still_needed(design: Design) -> None:
    plan = plan_for(design)
    text = so_far(plan, Tally(50, 53, 0), 0.99)
    assert f"{plan.safe_at(0) - 50} more clean trials would make it safe" in text
    assert "50 intact trials and 3 lost" in text
    assert not BOAST.search(text)


def test_after_a_crash_without_noise_no_number_is_enough() -> None:
    text = so_far(plan_for(DESIGNS[0]), Tally(9, 9, 1), 0.99)
    assert "no number of clean trials" in text
    assert "against 0 or less: inf" in text


def test_no_docstring_and_no_document_boasts() -> None:
    sources = [*Path(stats.__file__).parent.glob("*.py"), ROOT / "docs" / "statistics.md"]
    for path in sources:
        assert not BOAST.search(path.read_text("utf-8")), path
