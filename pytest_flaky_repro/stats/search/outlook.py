"""How far it still is: what the entropy that is left will cost, roughly."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_flaky_repro.stats.search.chain import Chain

OVERHEAD = 1.2  # measured: what searches need beyond the bound (benchmarks/culprit.py)


@dataclass(frozen=True)
class Outlook:
    """Expected builds and trials to the end of the search for one culprit, unconfirmed."""

    builds: float
    trials: float


def bits_per_trial(rate: float) -> float:
    """Capacity of a trial: the Z-channel's, log2(1 + p (1 - p)^((1 - p) / p)) bits.

    A crash proves, a survival is only evidence. No design can learn more from one trial, on
    average, than this [Golomb 1980, the limiting behaviour of the Z-channel].
    """
    if rate >= 1:
        return 1.0
    return math.log2(1 + rate * (1 - rate) ** ((1 - rate) / rate))


def bits_needed(chain: Chain, confidence: float) -> float:
    """Entropy that is left, less what may stay at this confidence (Fano's inequality)."""
    spare = 1 - confidence
    left = len(chain.posterior())
    may_stay = -spare * math.log2(spare) - confidence * math.log2(confidence)
    may_stay += spare * math.log2(max(2, left))
    return max(0.0, chain.entropy() - may_stay)


def outlook(chain: Chain, confidence: float) -> Outlook:
    """What is expected, from here; a build tells a bit at most."""
    bits = bits_needed(chain, confidence)
    rates = chain.rates_now
    trials = bits * sum(
        float(weight) / bits_per_trial(rate)
        for weight, rate in zip(rates.weights, rates.grid.rates, strict=True)
    )
    return Outlook(bits * 1.1, trials * OVERHEAD)
