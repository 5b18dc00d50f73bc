"""What a budget buys, and what lost trials take away."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import (
    Design,
    Tally,
    largest_confidence,
    plan_for,
    rate_excluded_with_losses,
    smallest_min_rate,
)


@given(st.integers(1, 100_000), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_rate_bought_takes_the_budget(budget: int, confidence: float) -> None:
    bought = smallest_min_rate(budget, confidence)
    assert bought is not None
    assert plan_for(bought.design).safe_at(0) == budget


@given(st.integers(20, 5000))
def test_the_confidence_bought_fits_the_budget(budget: int) -> None:
    bought = largest_confidence(budget, 0.05)
    assert bought is not None
    assert plan_for(bought.design).safe_at(0) <= budget


def test_too_small_a_budget_buys_nothing() -> None:
    assert largest_confidence(3, 0.05) is None
    assert largest_confidence(3, 0.05, noise=0.001) is None
    assert smallest_min_rate(1, 0.99, noise=0.1, chance=0.95) is None
    assert smallest_min_rate(100, 0.99, noise=0.9989) is None


@pytest.mark.parametrize("budget", [100, 1000])
def test_with_noise_the_purchase_keeps_its_promise(budget: int) -> None:
    bought = smallest_min_rate(budget, 0.99, 0.99, noise=0.001, chance=0.9)
    assert bought is not None
    point = plan_for(bought.design).operating_characteristic(0.001, budget)
    assert point.p_safe >= 0.9
    tighter = Design(bought.design.min_rate * 0.97, 0.001, 0.99, 0.99)
    assert plan_for(tighter).operating_characteristic(0.001, budget).p_safe < 0.9


def test_with_noise_a_confidence_can_be_bought() -> None:
    bought = largest_confidence(200, 0.05, noise=0.001, chance=0.9)
    assert bought is not None
    assert 0.99 < bought.design.confidence_safe < 0.9999
    assert bought.chance >= 0.9


def test_unseen_trials_count_as_crashes_in_the_worst_case() -> None:
    design = Design(0.05, 0.0, 0.99)
    clean = rate_excluded_with_losses(design, Tally(459, 459, 0), void=0)
    lossy = rate_excluded_with_losses(design, Tally(400, 459, 0), void=40)
    assert clean == pytest.approx(0.05 + 0.0101 * 0.95, abs=1e-4)
    assert lossy > 0.05 + 0.95 * 99 / 499
    assert rate_excluded_with_losses(design, Tally(), void=0) == 1.0


def test_bad_budgets_are_refused() -> None:
    with pytest.raises(UsageError):
        smallest_min_rate(0)
    with pytest.raises(UsageError):
        largest_confidence(10, 0.5, chance=1.0)
    with pytest.raises(UsageError):
        rate_excluded_with_losses(Design(0.05), Tally(), void=-1)
