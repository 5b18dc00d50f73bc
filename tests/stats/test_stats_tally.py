"""What each kind of trial counts for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import Tally


@pytest.mark.parametrize(
    ("vote", "counts"),
    [
        (Vote.CRASH, Tally(1, 1, 1)),
        (Vote.SURVIVAL, Tally(1, 1, 0)),
        (Vote.LOST, Tally(0, 1, 0)),
        (Vote.VOID, Tally(0, 0, 0)),
    ],
)
def test_each_vote_has_its_counters(vote: Vote, counts: Tally) -> None:
    assert Tally().add(vote) == counts


@given(st.lists(st.sampled_from(Vote)), st.lists(st.sampled_from(Vote)))
def test_pooled_logs_count_as_one(first: list[Vote], second: list[Vote]) -> None:
    assert Tally.of(first) + Tally.of(second) == Tally.of(first + second)
    assert Tally.of(first).lost == first.count(Vote.LOST)


def test_impossible_counts_are_refused() -> None:
    for counts in ((1, 0, 0), (1, 1, 2), (0, 0, -1)):
        with pytest.raises(UsageError, match="a tally needs"):
            Tally(*counts)
