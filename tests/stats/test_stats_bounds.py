"""Bounds and e-values that hold at whatever moment the campaign stops."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc
from scipy.stats import beta

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import (
    Design,
    Tally,
    clean_trials_needed,
    e_values,
    plan_for,
    rate_bounds,
    total_rate_excluded,
    zero_crash_upper,
)
from pytest_flaky_repro.stats.incomplete_beta import log_beta, log_incomplete_beta


@pytest.mark.parametrize(
    ("trials", "crashes", "upper"), [(459, 0, 0.01011), (459, 1, 0.0245), (1000, 5, 0.0200)]
)
def test_anytime_upper_bound(trials: int, crashes: int, upper: float) -> None:
    bounds = rate_bounds(Tally(trials, trials, crashes), 0.99)
    assert bounds.upper == pytest.approx(upper, rel=3e-3)


@given(st.integers(0, 5), st.integers(0, 60), st.integers(0, 20))
@settings(deadline=None)
def test_each_bound_takes_what_is_unknown_for_what_speaks_against_it(
    crashes: int, survivals: int, unknown: int
) -> None:
    low = crashes + survivals
    bounds = rate_bounds(Tally(low, low, crashes), 0.95, unknown)
    more = low + unknown
    assert bounds.lower == rate_bounds(Tally(more, more, crashes), 0.95).lower
    assert bounds.upper == rate_bounds(Tally(more, more, crashes + unknown), 0.95).upper


def test_zero_crash_bound_is_clopper_pearson() -> None:
    assert zero_crash_upper(459, 0.99) == pytest.approx(0.0099829, abs=5e-8)
    assert zero_crash_upper(459, 0.99) == pytest.approx(float(beta.ppf(0.99, 1, 459)), rel=1e-12)
    assert zero_crash_upper(0, 0.99) == 1.0


@pytest.mark.parametrize(
    ("rate", "trials"),
    [
        (0.2, 300),
        (0.05, 900),
        pytest.param(0.2, 1500, marks=pytest.mark.slow),
        pytest.param(0.05, 2500, marks=pytest.mark.slow),
        pytest.param(0.01, 4000, marks=pytest.mark.slow),
    ],
)
def test_anytime_bounds_miss_rarely_over_a_whole_campaign(rate: float, trials: int) -> None:
    """Exact chance that either bound is ever wrong, by a walk over all logs."""
    upper = _ever_misses(rate, trials, side="upper")
    lower = _ever_misses(rate, trials, side="lower")
    assert upper <= 0.01
    assert lower <= 0.01
    assert upper >= 0.008  # not merely safe: close to what is allowed


def _ever_misses(rate: float, trials: int, side: str) -> float:
    """P(the bound excludes ``rate`` at some n <= trials); the bound rises with crashes."""
    mass, missed, edge = {0: 1.0}, 0.0, -1 if side == "upper" else 0
    for n in range(1, trials + 1):
        ahead: dict[int, float] = {}
        for crashes, weight in mass.items():
            ahead[crashes] = ahead.get(crashes, 0.0) + weight * (1 - rate)
            ahead[crashes + 1] = ahead.get(crashes + 1, 0.0) + weight * rate
        if side == "upper":
            while rate_bounds(Tally(n, n, edge + 1), 0.99).upper < rate:
                edge += 1
            out = [x for x in ahead if x <= edge]
        else:
            while edge < n and rate_bounds(Tally(n, n, edge + 1), 0.99).lower <= rate:
                edge += 1
            out = [x for x in ahead if x > edge]
        missed += sum(ahead.pop(x) for x in out)
        mass = {x: weight for x, weight in ahead.items() if weight > 1e-15}
    return missed


@given(st.integers(0, 40), st.integers(0, 2000), st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_bounds_bracket_the_share_seen(crashes: int, survived: int, confidence: float) -> None:
    trials = crashes + survived
    bounds = rate_bounds(Tally(trials, trials, crashes), confidence)
    assert 0 <= bounds.lower <= bounds.upper <= 1
    if trials:
        assert bounds.lower <= crashes / trials <= bounds.upper


@given(st.integers(0, 20), st.integers(0, 1000), st.integers(1, 50))
def test_lost_trials_widen_downwards_only(crashes: int, survived: int, lost: int) -> None:
    intact = crashes + survived
    before = rate_bounds(Tally(intact, intact, crashes), 0.99)
    after = rate_bounds(Tally(intact, intact + lost, crashes), 0.99)
    assert after.upper == before.upper
    assert after.lower < before.lower or crashes == 0


@given(st.floats(0.5, 5000), st.floats(0.5, 5000), st.floats(1e-9, 1 - 1e-9))
@settings(max_examples=200)
def test_incomplete_beta_agrees_with_scipy(a: float, b: float, x: float) -> None:
    expected = float(betainc(a, b, x))
    seen = math.exp(log_incomplete_beta(a, b, x) - log_beta(a, b))
    assert seen == pytest.approx(expected, rel=1e-8, abs=1e-14)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_e_values_average_one_under_their_claim(rate: float) -> None:
    """E[e] = 1 exactly after any fixed number of trials at the edge of the claim."""
    design = Design(rate, rate / 10)
    trials = 30
    chance = [
        [math.comb(trials, x) * p**x * (1 - p) ** (trials - x) for x in range(trials + 1)]
        for p in (rate, design.noise)
    ]
    values = [e_values(design, Tally(trials, trials, x)) for x in range(trials + 1)]
    assert sum(
        p * e.against_min_rate for p, e in zip(chance[0], values, strict=True)
    ) == pytest.approx(1.0)
    assert sum(
        p * e.against_noise for p, e in zip(chance[1], values, strict=True)
    ) == pytest.approx(1.0)


def test_e_values_without_noise() -> None:
    design = Design(0.01, 0.0, 0.99, 0.99)
    clean, crashed = e_values(design, Tally(459, 459, 0)), e_values(design, Tally(9, 9, 1))
    assert clean.against_min_rate == pytest.approx(0.99**-459)
    assert clean.against_noise == pytest.approx(0.99**459)
    assert crashed.against_min_rate == 0.0
    assert crashed.against_noise == math.inf


def test_clean_trials_still_needed() -> None:
    noisy, clean = plan_for(Design(0.05, 0.001, 0.99, 0.99)), plan_for(Design(0.05, 0.0, 0.99))
    assert clean_trials_needed(clean, Tally(30, 33, 0)) == 60
    assert clean_trials_needed(clean, Tally(30, 33, 1)) is None
    assert clean_trials_needed(noisy, Tally(100, 100, 1)) == noisy.safe_at(1) - 100
    assert clean_trials_needed(clean, Tally(500, 500, 0)) == 0


def test_unseen_trials_weaken_what_safe_rules_out() -> None:
    assert total_rate_excluded(0.05, 0.0) == 0.05
    assert total_rate_excluded(0.05, 0.2) == pytest.approx(0.24)
    with pytest.raises(UsageError):
        total_rate_excluded(0.05, 1.2)
