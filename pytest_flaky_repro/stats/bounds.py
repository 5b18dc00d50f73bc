"""What the data themselves say, at whatever moment they are looked at.

Every bound and e-value here is anytime-valid: it may be read after each trial and at any stop,
and still fails with probability at most 1 - confidence over the whole campaign. The price over
a fixed-n interval is a factor of 1.0 (no crash) to 1.7 in the rate. Ville's inequality applied
to mixtures of likelihood ratios: H. Robbins, Ann. Math. Statist. 41, 1970, 1397-1409; A. Ramdas
et al., Statist. Sci. 38, 2023, 576-601.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.design import complement
from pytest_flaky_repro.stats.incomplete_beta import log_incomplete_beta
from pytest_flaky_repro.stats.lines import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flaky_repro.stats.design import Design
    from pytest_flaky_repro.stats.plan import Plan
    from pytest_flaky_repro.stats.tally import Tally

# Most campaigns that ask for an upper bound saw no crash at all, so the prior mixture puts
# nine tenths of its weight there: 1.011% instead of the 0.998% of a test of that alone.
_ON_ZERO = 0.9
_JEFFREYS = 0.5
_LARGEST_LOG = 709.0


@dataclass(frozen=True)
class RateBounds:
    """Crash rate per started trial: each bound alone holds at ``confidence``, at any stop."""

    lower: float
    upper: float
    confidence: float


@dataclass(frozen=True)
class EValues:
    """Evidence against each simple claim, as natural logs; exp of either averages <= 1 under it.

    ``log_against_min_rate`` speaks against "the rate is p1 or more" (large: towards safe),
    ``log_against_noise`` against "the rate is p0 or less" (large: towards crashes).
    """

    log_against_min_rate: float
    log_against_noise: float

    @property
    def against_min_rate(self) -> float:
        """The e-value against "the rate is p1 or more"; may be inf."""
        return _exp(self.log_against_min_rate)

    @property
    def against_noise(self) -> float:
        """The e-value against "the rate is p0 or less"; may be inf."""
        return _exp(self.log_against_noise)


def rate_bounds(tally: Tally, confidence: float, unknown: int = 0) -> RateBounds:
    """Anytime-valid bounds on the crash rate.

    The upper bound reads the intact trials only; the lower bound takes every lost trial for a
    survival. ``unknown`` trials were launched before the last one of the tally and not waited for.
    Which those are depends on how fast trials end, and crashes end sooner: to leave them out would
    bend the rate, so each bound takes them for what speaks against it.
    Raises UsageError unless 0 < confidence < 1.
    """
    _check(confidence)
    limit = -math.log(complement(confidence))
    return RateBounds(
        lower=_lower(tally.crashes, tally.trials_high + unknown, limit),
        upper=_upper(tally.crashes + unknown, tally.trials_low + unknown, limit),
        confidence=confidence,
    )


def zero_crash_upper(trials: int, confidence: float) -> float:
    """Exact upper bound after ``trials`` intact trials, none of them crashed.

    1 - (1 - C)**(1/n). Peeking is free while no crash has been seen, since the events are
    nested; but it is a bound only for someone who claims none after a crash.
    """
    _check(confidence)
    if trials < 0:
        raise UsageError(f"trials must not be negative, got {trials}")
    if trials == 0:
        return 1.0
    return -math.expm1(math.log(complement(confidence)) / trials)


def e_values(design: Design, tally: Tally) -> EValues:
    """Likelihood ratios p0 : p1 over the intact trials and p1 : p0 over the started ones.

    With noise 0 one crash makes the first 0 and the second infinite.
    """
    p0, p1, crashes = design.noise, design.min_rate, tally.crashes
    survival = math.log1p(-p0) - math.log1p(-p1)
    per_crash = 0.0
    if crashes:
        per_crash = crashes * math.log(p1 / p0) if p0 > 0 else math.inf
    return EValues(
        log_against_min_rate=(tally.trials_low - crashes) * survival - per_crash,
        log_against_noise=per_crash - (tally.trials_high - crashes) * survival,
    )


def clean_trials_needed(plan: Plan, tally: Tally) -> int | None:
    """Survivals in a row that would still make *safe*; None when no number would (noise 0)."""
    threshold = plan.safe_at(tally.crashes)
    return None if threshold >= NEVER else max(0, threshold - tally.trials_low)


def total_rate_excluded(min_rate: float, unseen_share: float) -> float:
    """Find the total rate that *safe* rules out when crashes may hide among void and lost trials.

    If a share v of the trials came to no verdict, and in the worst case each of those was a
    crash, then ruling out a visible rate p1 rules out p1 + v * (1 - p1) only.
    """
    if not 0.0 <= unseen_share <= 1.0:
        raise UsageError(f"a share must lie in [0, 1], got {unseen_share!r}")
    return min_rate + unseen_share * (1.0 - min_rate)


def _upper(crashes: int, trials: int, limit: float) -> float:
    """Smallest rate p against which the mixture of rates below p has e-value >= exp(limit)."""
    if crashes == trials:
        return 1.0
    return _cross(lambda rate: log_e_below(rate, crashes, trials), limit, rising=True)


def _lower(crashes: int, trials: int, limit: float) -> float:
    """Largest rate p against which the mixture of rates above p has e-value >= exp(limit)."""
    if crashes == 0:
        return 0.0
    return _cross(lambda rate: log_e_above(rate, crashes, trials), limit, rising=False)


def log_e_below(rate: float, crashes: int, trials: int) -> float:
    """Log e-value against "rate or more": point mass at 0 plus Jeffreys below ``rate``."""
    null = _log_likelihood(rate, crashes, trials)
    mixed = log_incomplete_beta(_JEFFREYS + crashes, _JEFFREYS + trials - crashes, rate)
    mixed -= log_incomplete_beta(_JEFFREYS, _JEFFREYS, rate)
    spread = math.log(1.0 - _ON_ZERO) + mixed - null
    if crashes:
        return spread
    return _log_sum(math.log(_ON_ZERO) - null, spread)


def log_e_above(rate: float, crashes: int, trials: int) -> float:
    """Log e-value against "rate or less": Jeffreys above ``rate``."""
    null = _log_likelihood(rate, crashes, trials)
    mixed = log_incomplete_beta(_JEFFREYS + trials - crashes, _JEFFREYS + crashes, 1.0 - rate)
    mixed -= log_incomplete_beta(_JEFFREYS, _JEFFREYS, 1.0 - rate)
    return mixed - null


def _log_likelihood(rate: float, crashes: int, trials: int) -> float:
    return crashes * math.log(rate) + (trials - crashes) * math.log1p(-rate)


def _cross(log_e: Callable[[float], float], limit: float, *, rising: bool) -> float:
    """Bisect, in log odds, for the rate where the e-value crosses the limit.

    The answer is rounded away from the data (up for the upper bound, down for the lower).
    """
    low, high = -700.0, 36.0
    for _ in range(64):
        middle = 0.5 * (low + high)
        if (log_e(_logistic(middle)) >= limit) is rising:
            high = middle
        else:
            low = middle
    return _logistic(high if rising else low)


def _logistic(log_odds: float) -> float:
    if log_odds >= 0:
        return 1.0 / (1.0 + math.exp(-log_odds))
    odds = math.exp(log_odds)
    return odds / (1.0 + odds)


def _log_sum(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high + math.log1p(math.exp(low - high))


def _exp(log_value: float) -> float:
    return math.inf if log_value > _LARGEST_LOG else math.exp(log_value)


def _check(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"a confidence must lie strictly between 0 and 1, got {confidence!r}")
