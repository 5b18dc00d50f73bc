"""What is believed about the crash rate of a trial on an image that can crash."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

POINTS = 24
NOISE_FLOOR = 1e-4  # a crash is never more than this sure to be the culprit's
HIGHEST = 0.995
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)


@dataclass(frozen=True)
class Grid:
    """Crash rates on which beliefs are kept, and what they make of ``n`` trials.

    ``rates`` are of an image that can crash; ``noise`` is the rate at which one that cannot looks
    crashed. The former shows ``p + (1 - p) noise``.
    """

    rates: tuple[float, ...]
    noise: float

    @cached_property
    def seen(self) -> Floats:
        """The rate at which crashes are seen, for each point."""
        import numpy as np

        rates = np.array(self.rates)
        seen: Floats = rates + (1 - rates) * self.noise
        return seen

    @cached_property
    def log_survival(self) -> Floats:
        import numpy as np

        return np.log1p(-self.seen)

    @cached_property
    def log_crash(self) -> Floats:
        import numpy as np

        return np.log(self.seen)

    @cached_property
    def lifts(self) -> Floats:
        """Log-likelihood ratios, can crash against cannot, 3 x points.

        Of nothing, of a survival, of a crash: times (place, survivals, crashes).
        """
        import numpy as np

        survival = self.log_survival - math.log1p(-self.noise)
        return np.array([np.zeros_like(survival), survival, self.log_crash - math.log(self.noise)])

    @cached_property
    def misses(self) -> Floats:
        """P(all of ``n`` trials survive), points x SIZES."""
        import numpy as np

        missed: Floats = np.exp(self.log_survival[:, None] * np.array(SIZES))
        return missed

    @cached_property
    def survivals(self) -> Floats:
        """Expected survivals of "until a crash, at most ``n``", points x SIZES."""
        odds: Floats = ((1 - self.seen) / self.seen)[:, None]
        return odds * (1 - self.misses)

    @cached_property
    def quiet_misses(self) -> Floats:
        """As ``misses``, of an image that cannot crash."""
        import numpy as np

        return np.exp(math.log1p(-self.noise) * np.array(SIZES, dtype=float))

    @cached_property
    def quiet_survivals(self) -> Floats:
        """As ``survivals``, of an image that cannot crash."""
        return (1 - self.noise) / self.noise * (1 - self.quiet_misses)


@dataclass(frozen=True)
class Rates:
    """A distribution over a grid's crash rates; ``weights`` add up to 1."""

    grid: Grid
    weights: Floats

    @property
    def mean(self) -> float:
        return float(self.weights @ self.grid.rates)

    def miss(self, trials: int) -> float:
        """E[(1-p)^n]: an image that can crash survives all of ``trials``."""
        import numpy as np

        return float(self.weights @ np.exp(trials * self.grid.log_survival))

    def odds(self, survived: int, crashed: int) -> float:
        """Likelihood ratio of *this image can crash* against *it cannot*, given its trials."""
        import numpy as np

        grid = self.grid
        log = survived * grid.log_survival + crashed * grid.log_crash
        quiet = survived * math.log1p(-grid.noise) + crashed * math.log(grid.noise)
        return float(self.weights @ np.exp(np.clip(log - quiet, -700, 700)))

    def survivals_for(self, error: float, survived: int = 0, crashed: int = 0) -> int:
        """How many more survivals bring the odds down to ``error``."""
        if self.odds(survived, crashed) <= error:
            return 0
        more = 1
        while self.odds(survived + more, crashed) > error:
            more *= 2
        low = more // 2
        while more - low > 1:
            middle = (low + more) // 2
            if self.odds(survived + middle, crashed) > error:
                low = middle
            else:
                more = middle
        return more

    def interval(self, outside: float) -> tuple[float, float]:
        """Rates with at most ``outside`` of the weight on each side beyond them."""
        import numpy as np

        below = np.cumsum(self.weights)
        rates = self.grid.rates
        low = int(np.searchsorted(below, outside))
        high = int(np.searchsorted(below, 1 - outside))
        return rates[low], rates[min(high, len(rates) - 1)]


def is_loud(trials: int, crashed: int, noise: float, error: float) -> bool:
    """Whether noise alone crashes so often with probability at most ``error`` (Poisson tail)."""
    from scipy.special import pdtrc

    if crashed < 1:
        return error >= 1
    return float(pdtrc(crashed - 1, max(noise, NOISE_FLOOR) * trials)) <= error


def known_rate(rate: float, noise: float = NOISE_FLOOR) -> Rates:
    """All weight on one rate."""
    import numpy as np

    return Rates(Grid((rate,), max(noise, NOISE_FLOOR)), np.ones(1))


@lru_cache(maxsize=4096)
def learned_rates(survived: int, crashed: int, noise: float = NOISE_FLOOR) -> Rates:
    """From the baseline: trials with everything bad.

    The likelihood of the counts has nine tenths of the weight; one tenth is flat (in the logarithm)
    on [p/6, p] around the observed rate p, for a culprit that crashes less often than everything
    together does. Nothing below p/8.
    """
    import numpy as np

    if crashed < 1:
        raise ValueError("a rate is learned from one crash or more")
    noise = max(noise, NOISE_FLOOR)
    seen = min(HIGHEST, max(crashed / (survived + crashed) - noise, 0.2 * noise))
    low, high = _logit(seen / 8), _logit(min(HIGHEST, 4 * seen))
    rates = 1 / (1 + np.exp(-np.linspace(low, high, POINTS)))
    grid = Grid(tuple(rates.tolist()), noise)
    log = crashed * grid.log_crash + survived * grid.log_survival
    likelihood = np.exp(log - log.max())
    flat = ((rates >= seen / 6) & (rates <= seen)).astype(float)
    weights = 0.9 * likelihood / likelihood.sum() + 0.1 * flat / flat.sum()
    return Rates(grid, weights)


def _logit(rate: float) -> float:
    return math.log(rate / (1 - rate))
