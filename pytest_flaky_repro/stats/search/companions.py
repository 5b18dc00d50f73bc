"""How surely a second culprit beside the one that was found was not missed.

Where two culprits each suffice, what was measured with both in is not the rate of either: two of
rate ``r`` crash with ``1 - (1 - r)^2``. So the rate of a companion "as frequent as the one found"
is learned under the assumption that there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pytest_flaky_repro.stats.search.rates import Grid, Rates

POINTS = 32


class Exposure(NamedTuple):
    """Trials of an image with the found culprit in; ``both`` is P(the companion is in, too)."""

    both: float
    survived: int
    crashed: int


def companion_rates(grid: Grid, exposures: Sequence[Exposure]) -> Rates:
    """The crash rate of the culprit that was found, if it has a companion of equal rate."""
    import numpy as np

    low, high = min(grid.rates) / 2, max(grid.rates)
    logits = np.linspace(np.log(low / (1 - low)), np.log(high / (1 - high)), POINTS)
    rates = 1 / (1 + np.exp(-logits))
    wide = Grid(tuple(rates.tolist()), grid.noise)
    one = wide.seen
    two = 1 - (1 - one) ** 2
    log = np.zeros(len(rates))
    for both, survived, crashed in exposures:
        parts = [
            np.log(max(chance, 1e-300)) + survived * np.log1p(-rate) + crashed * np.log(rate)
            for chance, rate in ((1 - both, one), (both, two))
        ]
        log += np.logaddexp(*parts)
    weights = np.exp(log - log.max())
    return Rates(wide, weights / weights.sum())
