"""Trials that share a boot: how much they prove, and how alike they are.

A boot draws things once that may decide whether it crashes at all: its kernel's layout, its
allocators' order, which CPU came up first. Trials of one boot are then a *cluster*, and a
thousand of them may prove no more than one. What is judged here is therefore always the boot:
boots are independent, and each is one outcome, "any of its trials crashed" or "none did".

With ``p`` the crash rate of a trial, ``rho`` the correlation between two trials of one boot and
``K`` trials a boot, the chance ``q`` that a boot shows a crash obeys

    q >= (p / t) (1 - (1 - t)**K),    t = p + rho (1 - p)

and no larger bound holds: of all laws of the boots' rates with mean p and variance rho p (1 - p),
the one on {0, t} leaves the most boots clean (Chebyshev-Markov-Krein: (1 - x)**K has a negative
third derivative, so its mean is largest at the lower principal representation; S. Karlin and
W. Studden, Tchebycheff Systems, 1966). At rho = 1 the bound is p: then boots are all that counts,
which holds for *any* dependence, in whatever order trials crash, since the first trial alone does
it. At rho = 0 it is that of K independent trials. It asks for no more trials than the design
effect 1 + (K - 1) rho of survey sampling (L. Kish, Survey Sampling, 1965) would.
"""

from __future__ import annotations

import enum
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.design import complement

if TYPE_CHECKING:
    from pytest_flaky_repro.stats.design import Design

# The beta-binomial likelihood is looked at on this grid: rates in log steps, correlations finer
# near 0, where they decide most.
_RATES = tuple(10 ** (-4 + 4 * (step + 0.5) / 60) for step in range(60))
_CORRELATIONS = (0.0, *(10 ** (-3 + 3 * step / 36) for step in range(36)), 0.95, 0.999)


class Basis(enum.Enum):
    """What boots of several trials rest on."""

    BOOTS = "boots"  # nothing is known of correlation: a boot counts as one trial
    BOUNDED = "bounded"  # the user vouches for a largest correlation
    CALIBRATED = "calibrated"  # a known-bad kernel's boots, of as many trials, set the rate


def boot_rate(rate: float, correlation: float, size: int) -> float:
    """The least chance that a boot of ``size`` trials shows a crash (q above).

    ``rate`` per trial in (0, 1), ``correlation`` within a boot in [0, 1].
    """
    if not 0.0 < rate < 1.0:
        raise UsageError(f"a crash rate must lie strictly between 0 and 1, got {rate!r}")
    if not 0.0 <= correlation <= 1.0:
        raise UsageError(f"a correlation must lie in [0, 1], got {correlation!r}")
    if size < 1:
        raise UsageError(f"a boot takes 1 trial or more, got {size}")
    top = rate + correlation * (1.0 - rate)
    if top >= 1.0:
        return rate
    return max(rate, rate / top * -math.expm1(size * math.log1p(-top)))


def trial_rate(boot: float, correlation: float, size: int) -> float:
    """The rate per trial that a rate per boot stands for at least: boot_rate turned round."""
    low, high = 0.0, min(boot, 1.0 - 1e-12)
    for _ in range(60):
        middle = 0.5 * (low + high)
        if middle > 0.0 and boot_rate(middle, correlation, size) >= boot:
            high = middle
        else:
            low = middle
    return high


def least_trial_rate(boot: float, size: int) -> float:
    """The least rate per trial behind a rate per boot, however trials hang together.

    A boot crashes at most so often as its trials do (the union bound).
    """
    return boot / size


def effective_trials(rate: float, correlation: float, size: int) -> float:
    """How many independent trials a clean boot of ``size`` trials is worth, from 1 to ``size``."""
    return math.log1p(-boot_rate(rate, correlation, size)) / math.log1p(-rate)


def design_effect(rate: float, correlation: float, size: int) -> float:
    """Trials of shared boots for each independent one: 1 to ``size``."""
    return size / effective_trials(rate, correlation, size)


def boot_design(design: Design, correlation: float, size: int) -> Design:
    """The question about trials as one about boots: both errors stay what they are.

    The noise of a boot is at most ``size`` times a trial's, however its trials hang together.
    Raises UsageError when that leaves nothing between noise and minimum rate.
    """
    rate = boot_rate(design.min_rate, correlation, size)
    return replace(design, min_rate=rate, noise=boot_noise(design.noise, size))


def boot_noise(noise: float, size: int) -> float:
    """The largest rate of false crashes of a boot (the union bound: no independence is used)."""
    return min(1.0, noise * size)


def cheapest_size(correlation: float, boot_s: float, trial_s: float) -> int:
    """Trials a boot that make evidence cheapest: sqrt(boot/trial * (1 - rho)/rho).

    W. Cochran, Sampling Techniques, 1977, section 10.6. ``boot_s`` and ``trial_s`` are what a boot
    and one more trial of it cost, in the same unit.
    """
    if trial_s <= 0.0 or boot_s <= 0.0 or correlation >= 1.0:
        return 1
    if correlation <= 0.0:
        return 1_000
    return max(1, min(1_000, round(math.sqrt(boot_s / trial_s * (1 - correlation) / correlation))))


def is_worth_it(rate: float, correlation: float, size: int, boot_s: float, trial_s: float) -> bool:
    """Whether boots of ``size`` trials give more evidence for the same cost than cold boots do.

    ``trial_s`` is the cost of a trial in a boot that is there; a cold one costs both.
    """
    shared = effective_trials(rate, correlation, size) / (boot_s + size * trial_s)
    return shared >= 1.0 / (boot_s + trial_s)


@dataclass(frozen=True)
class Cluster:
    """One boot: how many of its trials crashed, of how many that came to a verdict."""

    crashes: int
    trials: int


@dataclass(frozen=True)
class Correlation:
    """How alike the trials of one boot were: an estimate, and bounds at ``confidence`` each.

    Within the beta-binomial model (each boot has a rate of its own, drawn from a beta law), the
    bounds hold at any stop. Without a crash nothing is known: 0 to 1.
    """

    estimate: float
    lower: float
    upper: float
    confidence: float
    boots: int
    dead_boots: int


def correlation_of(clusters: Iterable[Cluster], confidence: float) -> Correlation:
    """Estimate the correlation within boots from dead boots against live ones.

    Boots may have stopped at their first crash: that changes no likelihood. The bounds are where
    the mixture over all rates and correlations beats every rate at that correlation by
    1/(1 - confidence) (Ville's inequality, as in bounds.py).
    """
    counts = Counter(c for c in clusters if c.trials)
    dead = sum(n for c, n in counts.items() if c.crashes)
    boots = sum(counts.values())
    if not dead:
        return Correlation(0.0, 0.0, 1.0, confidence, boots, 0)
    best = [
        max(_log_likelihood(counts, rate, correlation) for rate in _RATES)
        for correlation in _CORRELATIONS
    ]
    mixed = _log_mean([_log_likelihood(counts, rate, c) for rate in _RATES for c in _CORRELATIONS])
    limit = mixed + math.log(complement(confidence))
    inside = [c for c, value in zip(_CORRELATIONS, best, strict=True) if value >= limit]
    top = max(range(len(best)), key=best.__getitem__)
    estimate = _CORRELATIONS[top]
    return Correlation(
        estimate=estimate,
        lower=_neighbour(min(inside, default=estimate), -1),
        upper=_neighbour(max(inside, default=estimate), +1),
        confidence=confidence,
        boots=boots,
        dead_boots=dead,
    )


def _neighbour(correlation: float, step: int) -> float:
    """The next point of the grid outwards: what lies between two points is not known better."""
    index = _CORRELATIONS.index(correlation) + step
    if index < 0:
        return 0.0
    return _CORRELATIONS[index] if index < len(_CORRELATIONS) else 1.0


def _log_likelihood(counts: Counter[Cluster], rate: float, correlation: float) -> float:
    """Of crashes x among m trials of a boot: B(a + x, b + m - x) / B(a, b), up to a constant."""
    if correlation == 0.0:
        return sum(
            n * (c.crashes * math.log(rate) + (c.trials - c.crashes) * math.log1p(-rate))
            for c, n in counts.items()
        )
    total = 1.0 / correlation - 1.0
    a, b = rate * total, (1.0 - rate) * total
    base = _log_beta(a, b)
    return sum(
        n * (_log_beta(a + c.crashes, b + c.trials - c.crashes) - base) for c, n in counts.items()
    )


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def _log_mean(values: list[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values) / len(values))
