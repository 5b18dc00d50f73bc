"""No sentence hands the confidence to the kernel."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_flaky_repro import stats
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats import Design, Tally, meaning, statement

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
@pytest.mark.parametrize("conclusion", Conclusion)
def test_each_meaning_carries_its_condition(design: Design, conclusion: Conclusion) -> None:
    assert not BOAST.search(meaning(conclusion, design, "on host a"))


def test_safe_names_rate_condition_and_error() -> None:
    assert meaning(Conclusion.SAFE, DESIGNS[0], "on host a, trials of 30 s", "default") == (
        "If 1.0% (default) or more of the trials crashed (on host a, trials of 30 s), this would "
        "have been said with probability at most 1.0%."
    )


def test_crashes_names_the_noise_it_allowed_for() -> None:
    assert "If 0.1% or fewer of the trials" in meaning(Conclusion.CRASHES, DESIGNS[1])
    assert "one crash is proof" in meaning(Conclusion.CRASHES, DESIGNS[0])


@pytest.mark.parametrize(
    ("conclusion", "tally", "said"),
    [
        (Conclusion.SAFE, Tally(459, 459, 0), "SAFE (0/459, rate <= 1.0% at 99%)"),
        (Conclusion.CRASHES, Tally(7, 8, 1), "CRASHES (1/7)"),
        (Conclusion.INCONCLUSIVE, Tally(31, 31, 0), "INCONCLUSIVE (0/31)"),
        (Conclusion.INFRASTRUCTURE, Tally(0, 0, 0), "INFRASTRUCTURE"),
    ],
)
def test_the_word_has_the_counts(conclusion: Conclusion, tally: Tally, said: str) -> None:
    assert statement.word(conclusion, DESIGNS[0], tally) == said


def test_no_docstring_and_no_document_boasts() -> None:
    sources = [*Path(stats.__file__).parent.glob("*.py"), ROOT / "docs" / "statistics.md"]
    for path in sources:
        assert not BOAST.search(path.read_text("utf-8")), path
