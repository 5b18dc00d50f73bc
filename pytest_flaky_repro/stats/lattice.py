"""Exact probabilities of crossing lines on the (trials, crashes) lattice.

Between two thresholds nothing can be decided but by a crash, and the crash count over a block
of L trials is binomial, so a walk over the lattice needs one convolution per threshold instead
of one step per trial. Open-ended lines are walked until what is left is bounded below
TOLERANCE, and the bound is added: every probability returned here is an upper bound that is
exact to TOLERANCE. The bound is Ville's inequality for the likelihood ratio (J. Ville, Étude
critique de la notion de collectif, 1939; A. Wald, Sequential Analysis, 1947, ch. 3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.lines import SCALE, Line

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

TOLERANCE = 1e-12
_DUST = 1e-22


@dataclass(frozen=True)
class Pair:
    """The two simple hypotheses p0 < p1 and the log likelihood ratio between them.

    After n trials with x crashes, ln(L1/L0) = ``survival`` * (``slope`` * x - n).
    """

    p0: float
    p1: float

    @cached_property
    def survival(self) -> float:
        """What one survival is worth for p0, in nats."""
        return math.log1p(-self.p0) - math.log1p(-self.p1)

    @cached_property
    def slope(self) -> float:
        """Trials per crash along which the likelihood ratio stands still."""
        return 1.0 + math.log(self.p1 / self.p0) / self.survival

    def wald(self, error: float) -> float:
        """Intercept, in trials, that keeps the error by Ville's inequality alone."""
        return -math.log(error) / self.survival


@lru_cache(maxsize=8192)
def binomial(trials: int, rate: float) -> Array:
    """P(k crashes in ``trials``), k = 0, 1, ... until the rest is dust."""
    import numpy as np

    spread = math.sqrt(trials * rate * (1.0 - rate))
    top = min(trials, int(trials * rate + 14.0 * spread + 30.0))
    k = np.arange(1, top + 1, dtype=np.float64)
    choose = np.concatenate(([0.0], np.cumsum(np.log((trials - k + 1.0) / k))))
    odds = math.log(rate) - math.log1p(-rate)
    mass: Array = np.exp(choose + odds * np.arange(top + 1) + trials * math.log1p(-rate))
    mass.setflags(write=False)
    return mass


@dataclass(frozen=True)
class SafeFront:
    """Where a walk along the safe line stands.

    ``mass[i]`` is P_p0(not yet safe, ``level + i`` crashes) after ``trials`` trials, and
    ``risk`` is P_p1(safe so far): each crossing point weighs its p0 mass by the likelihood
    ratio there, since under p1 the mass runs away from the line and under p0 it all arrives.
    """

    mass: Array
    level: int
    trials: int
    risk: float

    @classmethod
    def start(cls) -> SafeFront:
        """Before the first trial."""
        import numpy as np

        return cls(np.ones(1), 0, 0, 0.0)

    def step(self, pair: Pair, threshold: int) -> SafeFront:
        """Walk to ``threshold`` trials, where ``level`` crashes or fewer mean safe."""
        import numpy as np

        mass = self.mass
        if threshold > self.trials:
            mass = np.convolve(mass, binomial(threshold - self.trials, pair.p0))
        risk = self.risk
        if mass[0] > 0:
            ratio = pair.survival * (pair.slope * self.level - threshold)
            risk += math.exp(math.log(mass[0]) + ratio)
        keep = len(mass)
        while keep > 1 and mass[keep - 1] < _DUST:
            keep -= 1
        return SafeFront(mass[1 : max(keep, 2)], self.level + 1, threshold, risk)


def safe_risk(pair: Pair, line: Line, front: SafeFront | None = None) -> float:
    """P_p1(the safe line is ever crossed), from ``front`` (which must lie on ``line``)."""
    at = front or SafeFront.start()
    ville = math.exp(-pair.survival * line.intercept / SCALE)
    while True:
        at = at.step(pair, line.at(at.level))
        rest = float(at.mass.sum()) * ville
        if at.level >= len(line.prefix) and rest < TOLERANCE:
            return at.risk + rest


@dataclass(frozen=True)
class CrashFront:
    """Where a walk along the crash line stands.

    ``mass[i]`` is P_p0(not yet crashed, ``low + i`` crashes) after ``trials`` trials; the
    ``level``-th crash is the next that may decide; ``risk`` is P_p0(crashed so far) and
    ``alive`` is P_p1(not yet crashed), the p0 mass weighed by the likelihood ratio.
    """

    mass: Array
    low: int
    level: int
    trials: int
    risk: float
    alive: float

    @classmethod
    def start(cls) -> CrashFront:
        """Before the first trial."""
        import numpy as np

        return cls(np.ones(1), 0, 1, 0, 0.0, 1.0)

    def step(self, pair: Pair, threshold: int) -> CrashFront:
        """Walk to ``threshold`` trials with every ``level``-th crash on the way deciding."""
        import numpy as np

        mass, low, risk = self.mass, self.low, self.risk
        trials = max(threshold, self.trials)
        width = self.level + 1 - low
        if trials > self.trials:
            full = np.convolve(mass, binomial(trials - self.trials, pair.p0))
            risk += float(full[self.level - low :].sum())
            mass = full[: self.level - low]
        if len(mass) < width:
            mass = np.concatenate((mass, np.zeros(width - len(mass))))
        crashes = np.arange(low, low + len(mass))
        weight = mass * np.exp(pair.survival * (pair.slope * crashes - trials))
        alive = float(weight.sum())
        skip = 0
        while skip < len(mass) - 1 and weight[skip] < 1e-16 * alive:
            skip += 1
        return CrashFront(mass[skip:], low + skip, self.level + 1, trials, risk, alive)


def crash_risk(pair: Pair, line: Line, front: CrashFront | None = None) -> float:
    """P_p0(the crash line is ever crossed), from ``front`` (which must lie on ``line``)."""
    at = front or CrashFront.start()
    ville = math.exp(pair.survival * line.intercept / SCALE)
    while True:
        at = at.step(pair, line.at(at.level))
        rest = at.alive * ville
        if at.level > len(line.prefix) and at.trials > 0 and rest < TOLERANCE:
            return at.risk + rest
