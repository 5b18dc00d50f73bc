"""The plan turned round: what a budget of N trials buys."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.bounds import rate_bounds, total_rate_excluded
from pytest_flaky_repro.stats.design import (
    MAX_MIN_RATE,
    MIN_CONFIDENCE,
    MIN_ERROR,
    MIN_ODDS_RATIO,
    Design,
)
from pytest_flaky_repro.stats.plan import plan_for
from pytest_flaky_repro.stats.tally import Tally

_STEPS = 24


@dataclass(frozen=True)
class Purchase:
    """A design that the budget can pay for, and how surely.

    ``chance`` is the probability that a kernel at the noise rate is called safe in time.
    """

    design: Design
    budget: int
    chance: float


def smallest_min_rate(
    budget: int,
    confidence_safe: float = 0.95,
    confidence_crash: float = 0.95,
    *,
    noise: float = 0.0,
    chance: float = 0.9,
) -> Purchase | None:
    """Find the smallest minimum rate for which a healthy kernel is called safe in time.

    Without noise that is certain: p1 = 1 - b**(1/N). With noise, a kernel at the noise rate
    must be called safe within the budget with probability ``chance`` at least. None when no
    rate would do.
    """
    _check(budget, chance)
    if noise == 0:
        error = Design(0.5, 0.0, confidence_safe).error_safe
        rate = -math.expm1(math.log(error) / budget)
        return Purchase(Design(rate, 0.0, confidence_safe, confidence_crash), budget, 1.0)
    odds = MIN_ODDS_RATIO * (1 + 1e-9) * noise / (1 - noise)
    low, high = math.log(odds), math.log(MAX_MIN_RATE / (1 - MAX_MIN_RATE)) - 1e-9
    if low >= high:
        return None

    def bought(log_odds: float) -> Purchase:
        rate = 1.0 / (1.0 + math.exp(-log_odds))
        design = Design(rate, noise, confidence_safe, confidence_crash)
        point = plan_for(design).operating_characteristic(noise, budget)
        return Purchase(design, budget, point.p_safe)

    best = bought(high)
    if best.chance < chance:
        return None
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if math.exp(high - low) < 1 + 1e-4:
            break
        tried = bought(middle)
        if tried.chance >= chance:
            best, high = tried, middle
        else:
            low = middle
    return best


def largest_confidence(
    budget: int, min_rate: float, *, noise: float = 0.0, chance: float = 0.9
) -> Purchase | None:
    """Find the largest confidence, the same for both verdicts, that the budget reaches.

    Without noise C = 1 - (1 - p1)**N. None when not even 0.5 can be had.
    """
    _check(budget, chance)
    if noise == 0:
        error = max(math.exp(budget * math.log1p(-min_rate)), MIN_ERROR)
        if error > 1 - MIN_CONFIDENCE:
            return None
        # Rounded to the digits a user would type, so that the rule asks for N trials, not N+1.
        confidence = math.floor((1 - error) * 1e12) / 1e12
        return Purchase(Design(min_rate, 0.0, confidence, confidence), budget, 1.0)

    def bought(log_error: float) -> Purchase:
        confidence = 1.0 - math.exp(log_error)
        design = Design(min_rate, noise, confidence, confidence)
        point = plan_for(design).operating_characteristic(noise, budget)
        return Purchase(design, budget, point.p_safe)

    low, high = math.log(2 * MIN_ERROR), math.log(1 - MIN_CONFIDENCE)
    best = bought(high)
    if best.chance < chance:
        return None
    for _ in range(_STEPS):
        if high - low < 1e-3:
            break
        middle = 0.5 * (low + high)
        tried = bought(middle)
        if tried.chance >= chance:
            best, high = tried, middle
        else:
            low = middle
    return best


def rate_excluded_with_losses(
    design: Design, tally: Tally, void: int, confidence: float | None = None
) -> float:
    """Find the total crash rate that *safe* rules out if every unseen trial was a crash.

    ``void`` trials never started; with the lost ones they came to no verdict. Their share is
    taken at its anytime upper bound (at the safe confidence unless another is given), and the
    visible rate p1 grows to p1 + v * (1 - p1).
    """
    unseen, launched = tally.lost + void, tally.trials_high + void
    if void < 0:
        raise UsageError(f"void trials must not be negative, got {void}")
    if launched == 0:
        return 1.0
    share = rate_bounds(
        Tally(launched, launched, unseen), confidence or design.confidence_safe
    ).upper
    return total_rate_excluded(design.min_rate, share)


def _check(budget: int, chance: float) -> None:
    if budget < 1:
        raise UsageError(f"a budget needs at least one trial, got {budget}")
    if not 0.0 < chance < 1.0:
        raise UsageError(f"chance must lie strictly between 0 and 1, got {chance!r}")
