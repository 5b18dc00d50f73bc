"""Time to crash with censored trials."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.survival import kaplan_meier

# Remission of acute leukaemia in weeks, the group on 6-MP: E. A. Freireich et al., Blood 21, 1963;
# the estimates are those printed in Kalbfleisch and Prentice and in most textbooks since.
FREIREICH = (
    [6, 6, 6, 7, 10, 13, 16, 22, 23],
    [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35],
)
PUBLISHED = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}

times = st.lists(st.floats(0, 100), max_size=30)


def test_the_published_example() -> None:
    curve = kaplan_meier(*FREIREICH)
    assert {s.time: round(s.survival, 3) for s in curve.steps} == PUBLISHED
    assert [s.at_risk for s in curve.steps] == [21, 17, 15, 12, 11, 7, 6]
    assert curve.median == 23


def test_the_published_limits() -> None:
    """Kalbfleisch and Prentice's log-log limits at 10 weeks, as survival packages print them."""
    step = next(s for s in kaplan_meier(*FREIREICH).steps if s.time == 10)
    assert (round(step.lower, 3), round(step.upper, 3)) == (0.503, 0.889)


def test_without_censoring_it_is_the_share_that_lived_on() -> None:
    curve = kaplan_meier([1, 2, 3, 4], [])
    assert [s.survival for s in curve.steps] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_without_a_crash_there_is_no_step() -> None:
    curve = kaplan_meier([], [10.0] * 90)
    assert (curve.steps, curve.median, curve.survival_at(10)) == ((), None, 1.0)


def test_a_trial_censored_as_another_crashes_was_at_risk() -> None:
    (step,) = kaplan_meier([5.0], [5.0]).steps
    assert (step.at_risk, step.survival) == (2, 0.5)


@given(times, times)
def test_the_curve_falls_between_its_limits(crashed: list[float], censored: list[float]) -> None:
    curve = kaplan_meier(crashed, censored)
    shares = [s.survival for s in curve.steps]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= s.lower <= s.survival + 1e-12 for s in curve.steps)
    assert all(s.survival <= s.upper + 1e-12 <= 1 + 2e-12 for s in curve.steps)
    assert sum(s.crashes for s in curve.steps) == len(crashed)


@given(times.filter(bool), times)
def test_the_order_of_trials_does_not_matter(crashed: list[float], censored: list[float]) -> None:
    assert kaplan_meier(crashed, censored) == kaplan_meier(crashed[::-1], censored[::-1])


@pytest.mark.parametrize("time", [-1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(time: float) -> None:
    with pytest.raises(UsageError, match="seconds from 0 up"):
        kaplan_meier([time], [])
