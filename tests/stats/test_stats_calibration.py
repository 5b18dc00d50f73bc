"""A rate taken from a known-bad kernel keeps its error at every rate, and at what price."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import hypergeom

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import (
    Calibration,
    CalibrationRule,
    Tally,
    plan_for,
)


def runs(rate: float, crashes: int) -> list[tuple[int, float]]:
    """All (M, P(the r-th crash comes at trial M)) that matter."""
    chances, trials, seen = [], crashes, 0.0
    log = crashes * math.log(rate)
    while seen < 1 - 1e-9 and trials < 2_000_000:
        chance = math.exp(log)
        chances.append((trials, chance))
        seen += chance
        log += math.log(trials / (trials - crashes + 1)) + math.log1p(-rate)
        trials += 1
    return chances


def false_safe(rate: float, crashes: int, error: float, reduction: float = 1.0) -> float:
    """Exact chance that a kernel as bad as calibrated (over the reduction) is called safe."""
    return math.fsum(
        chance
        * (1 - rate / reduction) ** Calibration(trials, crashes).clean_trials(error, reduction)
        for trials, chance in runs(rate, crashes)
    )


@pytest.mark.parametrize("crashes", [1, 2, 3, 5, 10, 20])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5, 0.9])
def test_false_safe_is_kept_at_every_rate(rate: float, crashes: int) -> None:
    assert false_safe(rate, crashes, 0.01) <= 0.01


@pytest.mark.parametrize("crashes", [5, 10])
def test_false_safe_is_kept_at_rare_crashes(crashes: int) -> None:
    assert 0.0097 < false_safe(0.005, crashes, 0.01) <= 0.01


@pytest.mark.parametrize("reduction", [1.5, 3.0, 10.0])
@pytest.mark.parametrize("rate", [0.02, 0.3, 0.9])
def test_a_reduction_keeps_the_error_too(rate: float, reduction: float) -> None:
    assert false_safe(rate, 10, 0.01, reduction) <= 0.01


@pytest.mark.parametrize(
    ("crashes", "share"), [(1, 99), (3, 3.64), (5, 1.51), (10, 0.585), (20, 0.259)]
)
def test_clean_trials_per_calibration_trial(crashes: int, share: float) -> None:
    trials = 200_000
    assert Calibration(trials, crashes).clean_trials(0.01) / trials == pytest.approx(
        share, rel=5e-3
    )


def test_ten_crashes_cost_little_over_a_known_rate() -> None:
    """The check after r = 10 takes at most 1.3 times the trials of a known rate."""
    rate = 0.01
    mean = math.fsum(p * Calibration(m, 10).clean_trials(0.01) for m, p in runs(rate, 10))
    assert mean * rate / -math.log(0.01) == pytest.approx(1.27, abs=0.01)


@given(st.integers(1, 30), st.integers(0, 400), st.sampled_from([0.05, 0.01, 0.001]))
def test_the_rule_is_fishers_test_at_zero_crashes(crashes: int, more: int, error: float) -> None:
    calibration = Calibration(crashes + more, crashes)
    clean = calibration.clean_trials(error)
    chance = hypergeom.pmf(0, calibration.trials + clean, crashes, clean)
    before = hypergeom.pmf(0, calibration.trials + clean - 1, crashes, clean - 1)
    assert chance <= error * (1 + 1e-9)
    assert before > error * (1 - 1e-9)


@given(st.integers(1, 30), st.integers(0, 3000), st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_the_design_asks_for_exactly_those_trials(
    crashes: int, more: int, confidence: float
) -> None:
    calibration = Calibration(crashes + more, crashes)
    plan = plan_for(calibration.design(confidence))
    assert plan.safe_at(0) == calibration.clean_trials(plan.design.error_safe)


@given(st.integers(1, 20), st.integers(0, 500), st.integers(1, 50))
def test_a_rarer_crash_asks_for_more(crashes: int, more: int, step: int) -> None:
    """n(M) grows with M: the step of the proof that makes the rule valid at every rate."""
    few = Calibration(crashes + more, crashes).clean_trials(0.01)
    many = Calibration(crashes + more + step, crashes).clean_trials(0.01)
    assert many >= few


@pytest.mark.parametrize(
    ("rate", "crashes"), [pytest.param(0.05, 10, marks=pytest.mark.slow), (0.1, 5)]
)
def test_with_noise_half_the_error_is_enough(rate: float, crashes: int) -> None:
    """Upper bound over the distribution of M, solved anew every 3% of M."""
    total, chance_safe, until = 0.0, 0.0, 0.0
    for trials, chance in runs(rate, crashes):
        if trials >= until:
            plan = plan_for(Calibration(trials, crashes).design(0.99, 0.99, noise=0.001))
            chance_safe = plan.operating_characteristic(rate).p_safe
            until = trials * 1.03
        total += chance * chance_safe
    assert 0.004 < total <= 0.01


def test_too_close_to_the_noise_is_refused() -> None:
    with pytest.raises(UsageError, match="not above twice the noise"):
        Calibration(2000, 5).design(0.99, noise=0.001)


def test_the_rule_stops_at_the_crash_it_named() -> None:
    rule = CalibrationRule(crashes=3, max_trials=50)
    assert not rule.finished(Tally(40, 45, 2))
    assert rule.finished(Tally(40, 50, 2))
    assert rule.finished(Tally(40, 41, 3))
    assert rule.conclude(Tally(40, 41, 3)) == Calibration(trials=41, crashes=3)


def test_an_unfinished_calibration_is_refused() -> None:
    rule = CalibrationRule(crashes=3, max_trials=50)
    with pytest.raises(UsageError, match="crashed 2 times in 50 trials"):
        rule.conclude(Tally(48, 50, 2))
    with pytest.raises(UsageError, match="cut the log at that crash"):
        rule.conclude(Tally(48, 50, 4))


def test_estimate_is_unbiased() -> None:
    mean = math.fsum(p * Calibration(m, 5).rate for m, p in runs(0.2, 5))
    assert mean == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Calibration(5, 6),
        lambda: Calibration(5, 0),
        lambda: CalibrationRule(0),
        lambda: CalibrationRule(10, 9),
        lambda: Calibration(50, 5).clean_trials(0.0),
        lambda: Calibration(50, 5).clean_trials(0.01, 0.5),
    ],
)
def test_bad_calibrations_are_refused(make: object) -> None:
    assert callable(make)
    with pytest.raises(UsageError):
        make()


def test_noise_counts_the_trials_at_half_the_error() -> None:
    calibration = Calibration(trials=200, crashes=10)
    clean = calibration.clean_trials(0.005)
    assert clean > calibration.clean_trials(0.01)
    assert calibration.min_rate(0.01, noise=0.001) == pytest.approx(1 - 0.01 ** (1 / clean))
