"""Safe is said only where the known-bad kernel is seen to crash."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import Calibration, ControlState, Tally, check_control, is_control
from pytest_flaky_repro.stats.control import fisher_lower_tail

CALIBRATION = Calibration(trials=200, crashes=10)


def test_a_silent_control_is_open_then_refused() -> None:
    limit = CALIBRATION.clean_trials(0.005)
    assert check_control(CALIBRATION, Tally()).state is ControlState.OPEN
    almost = check_control(CALIBRATION, Tally(limit - 1, limit - 1, 0))
    assert almost.state is ControlState.OPEN
    assert almost.clean_until_refused == 1
    assert check_control(CALIBRATION, Tally(limit, limit, 0)).state is ControlState.REFUSED


def test_one_crash_in_time_confirms() -> None:
    assert check_control(CALIBRATION, Tally(20, 20, 1)).state is ControlState.CONFIRMED


def test_one_crash_in_very_many_refuses() -> None:
    assert check_control(CALIBRATION, Tally(400, 400, 1)).state is ControlState.REFUSED


def test_lost_controls_neither_confirm_nor_refuse() -> None:
    assert check_control(CALIBRATION, Tally(3, 5000, 0)).state is ControlState.OPEN


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.5])
def test_a_faithful_host_is_rarely_refused(rate: float) -> None:
    """Exact chance that a control of the calibrated rate is silent until refused, any looks."""
    crashes, refused, log = 10, 0.0, 10 * math.log(rate)
    for trials in range(crashes, 40 * int(1 / rate) + 100):
        limit = Calibration(trials, crashes).clean_trials(0.005)
        refused += math.exp(log) * (1 - rate) ** limit
        log += math.log(trials / (trials - crashes + 1)) + math.log1p(-rate)
    assert refused <= 0.005


@given(st.integers(1, 20), st.integers(0, 200), st.integers(0, 20), st.integers(0, 200))
def test_fisher_agrees_with_scipy(xa: int, na: int, xb: int, nb: int) -> None:
    trials_a, trials_b = xa + na, xb + nb
    seen = fisher_lower_tail(xa, trials_a, xb, trials_b)
    expected = float(hypergeom.cdf(xb, trials_a + trials_b, xa + xb, trials_b))
    assert seen == pytest.approx(expected, rel=1e-8)


@given(st.integers(2, 30), st.integers(0, 1000))
def test_controls_are_spread_by_ticket(every: int, block: int) -> None:
    tickets = range(block * every, (block + 1) * every)
    assert sum(is_control(ticket, every) for ticket in tickets) == 1


def test_controls_alone_are_no_campaign() -> None:
    with pytest.raises(UsageError):
        is_control(0, every=1)


def test_rather_few_crashes_are_not_enough_to_refuse() -> None:
    seen = check_control(CALIBRATION, Tally(200, 200, 2))
    assert 0.005 < seen.p_value < 0.05
    assert seen.state is ControlState.CONFIRMED
    assert check_control(CALIBRATION, Tally(260, 260, 1)).state is ControlState.REFUSED
