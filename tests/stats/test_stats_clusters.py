"""Trials that share a boot: the sharp bound, what it implies, and the estimate of correlation."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import Design, plan_for
from pytest_flaky_repro.stats.clusters import (
    Cluster,
    boot_design,
    boot_noise,
    boot_rate,
    cheapest_size,
    correlation_of,
    design_effect,
    effective_trials,
    is_worth_it,
    trial_rate,
)

rates = st.floats(0.001, 0.9)
correlations = st.floats(0.0, 1.0)
sizes = st.integers(1, 200)


@given(rates, sizes)
def test_where_crashes_cluster_wholly_a_boot_is_one_trial(rate: float, size: int) -> None:
    assert boot_rate(rate, 1.0, size) == pytest.approx(rate)
    assert effective_trials(rate, 1.0, size) == pytest.approx(1.0)


@given(rates, sizes)
def test_where_trials_are_independent_a_boot_is_all_of_them(rate: float, size: int) -> None:
    expected = -math.expm1(size * math.log1p(-rate))
    assert boot_rate(rate, 0.0, size) == pytest.approx(expected)


@given(rates, correlations, sizes)
def test_a_boot_counts_at_least_as_one_trial_and_at_most_as_all(
    rate: float, correlation: float, size: int
) -> None:
    assert rate <= boot_rate(rate, correlation, size) * (1 + 1e-12)
    assert boot_rate(rate, correlation, size) <= boot_rate(rate, 0.0, size) * (1 + 1e-12)


@given(rates, correlations, sizes, st.lists(st.floats(0.0, 1.0), min_size=2, max_size=6))
@settings(max_examples=300)
def test_no_law_of_boots_crashes_less_than_the_bound(
    rate: float, correlation: float, size: int, points: list[float]
) -> None:
    """Any law with its own mean and correlation: the bound holds, and for {0, t} it is met."""
    del rate, correlation
    mean = sum(points) / len(points)
    if not 0.001 < mean < 0.999:
        return
    variance = sum((point - mean) ** 2 for point in points) / len(points)
    alike = min(1.0, variance / (mean * (1 - mean)))
    crash = sum(1 - (1 - point) ** size for point in points) / len(points)
    assert crash >= boot_rate(mean, alike, size) - 1e-9


@given(rates, st.floats(0.01, 0.99), sizes)
def test_the_bound_is_met_by_boots_that_are_vulnerable_or_not(
    rate: float, correlation: float, size: int
) -> None:
    top = rate + correlation * (1 - rate)
    share = rate / top
    variance = share * top**2 - rate**2
    assert variance / (rate * (1 - rate)) == pytest.approx(correlation)
    crash = share * (1 - (1 - top) ** size)
    assert boot_rate(rate, correlation, size) == pytest.approx(crash, rel=1e-9)


@given(st.floats(0.001, 0.1), correlations, sizes)
def test_it_asks_for_no_more_than_kish_s_design_effect(
    rate: float, correlation: float, size: int
) -> None:
    kish = 1 + (size - 1) * (rate + correlation * (1 - rate))
    assert design_effect(rate, correlation, size) <= kish * (1 + 1e-9)


@given(st.floats(0.001, 0.5), correlations, sizes)
def test_a_rate_of_boots_leads_back_to_the_rate_of_trials(
    rate: float, correlation: float, size: int
) -> None:
    boot = boot_rate(rate, correlation, size)
    back = trial_rate(boot, correlation, size)
    assert back <= rate * (1 + 1e-6)
    assert boot_rate(back, correlation, size) == pytest.approx(boot, rel=1e-9)


def test_a_question_about_trials_becomes_one_about_boots() -> None:
    asked = Design(0.05, confidence_safe=0.95)
    assert plan_for(boot_design(asked, 1.0, 16)).safe_at(0) == 59  # the same as without sharing
    assert plan_for(boot_design(asked, 0.0, 16)).safe_at(0) == 4  # 64 trials for 59
    noisy = boot_design(Design(0.2, noise=0.001), 0.1, 8)
    assert noisy.noise == pytest.approx(0.008)
    assert boot_noise(0.5, 8) == 1.0


def test_noise_that_drowns_a_boot_is_refused() -> None:
    with pytest.raises(UsageError, match="noise"):
        boot_design(Design(0.05, noise=0.01), 1.0, 16)


@pytest.mark.parametrize(("rate", "correlation", "size"), [(0, 0, 1), (0.1, 1.5, 2), (0.1, 0, 0)])
def test_nonsense_is_refused(rate: float, correlation: float, size: int) -> None:
    with pytest.raises(UsageError):
        boot_rate(rate, correlation, size)


def test_the_cheapest_size() -> None:
    assert cheapest_size(1.0, 2.0, 0.1) == 1
    assert cheapest_size(0.5, 1.6, 0.1) == 4
    assert cheapest_size(0.05, 2.0, 0.12) == 18
    assert is_worth_it(0.05, 0.0, 16, boot_s=2.0, trial_s=0.1)
    assert not is_worth_it(0.05, 1.0, 16, boot_s=2.0, trial_s=0.1)


def boots(
    rng: random.Random, rate: float, correlation: float, size: int, dead: int
) -> list[Cluster]:
    """Boots of vulnerable and other kernels, left at their first crash, until so many are dead."""
    top = rate + correlation * (1 - rate)
    found: list[Cluster] = []
    while sum(cluster.crashes for cluster in found) < dead:
        chance = top if rng.random() < rate / top else 0.0
        trials = next((n for n in range(1, size + 1) if rng.random() < chance), 0)
        found.append(Cluster(1, trials) if trials else Cluster(0, size))
    return found


def test_without_a_crash_nothing_is_known() -> None:
    seen = correlation_of([Cluster(0, 16)] * 50, 0.95)
    assert (seen.lower, seen.upper, seen.dead_boots) == (0.0, 1.0, 0)


def test_whole_boots_dying_at_once_are_seen() -> None:
    seen = correlation_of([Cluster(1, 1)] * 10 + [Cluster(0, 16)] * 190, 0.95)
    assert seen.estimate > 0.9
    assert seen.lower > 0.5
    assert seen.upper == 1.0


def test_many_crashes_spread_evenly_bound_it() -> None:
    """Crashes beyond a boot's first tell most: so do restored guests' that went on."""
    seen = correlation_of(
        [Cluster(1, 16), Cluster(0, 16), Cluster(2, 16), Cluster(1, 16)] * 25, 0.95
    )
    assert seen.estimate < 0.02
    assert seen.upper < 0.1


@pytest.mark.parametrize("correlation", [0.02, 0.3, 0.9])
def test_the_bounds_err_less_often_than_they_say(correlation: float) -> None:
    rng, missed = random.Random(f"d1 {correlation}"), 0
    for _ in range(60):
        seen = correlation_of(boots(rng, 0.1, correlation, 12, dead=15), 0.9)
        missed += not seen.lower <= correlation <= seen.upper
    assert missed <= 60 * 0.2 + 3.1 * math.sqrt(60 * 0.2 * 0.8)  # 10% on each side
