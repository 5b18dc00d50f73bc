"""The posterior over (threshold, crash rate) on a chain of prefixes.

Piecewise: between two prefixes that were tested nothing tells candidates apart but their prior,
so the state is one row of rates per segment, whatever the number of candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, NamedTuple

from pytest_flaky_repro.stats.search.rates import Rates
from pytest_flaky_repro.stats.search.segments import Prior, Segments, Tried

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

__all__ = ["ANOTHER", "Chain", "Counts", "Prior"]

ANOTHER = 1e-3  # prior probability that a certain candidate is a culprit besides the first


class Counts(NamedTuple):
    """Trials at one place of a chain: prefix ``at``, or the leap to threshold ``at``."""

    at: int
    survived: int
    crashed: int


@dataclass(frozen=True)
class Chain:
    """What trials say about the threshold ``k`` of one chain.

    ``tests`` are trials of prefixes: prefix ``j`` can crash iff ``k <= j``. ``leaps`` are trials of
    the chain's context with the candidate of threshold ``k`` alone added: if that is the
    threshold, it crashes with probability ``alone`` (nothing else is needed); a survival never
    argues for other thresholds beyond that. Threshold 0 is the context itself. ``same`` are pairs
    ``j < j'`` of prefixes with the same image: no threshold lies in ``j < k <= j'``.
    """

    prior: Prior
    rates: Rates
    tests: tuple[Counts, ...] = ()
    leaps: tuple[Counts, ...] = ()
    same: tuple[tuple[int, int], ...] = ()
    alone: float = 0.9

    @cached_property
    def segments(self) -> Segments:
        """What the trials cut the thresholds into."""
        tests, leaps = (tuple([each.at for each in seen]) for seen in (self.tests, self.leaps))
        return self.prior.cut(Tried(tests, leaps, self.same))

    @cached_property
    def mass(self) -> Floats:
        """The posterior, segments x rates; adds up to 1."""
        import numpy as np

        segments = self.segments
        log: Floats = (segments.able @ self._counts) @ self.rates.grid.lifts
        if self.leaps:
            self._add_leaps(log)
        if segments.impossible is not None:
            log[segments.impossible] = -np.inf
        log -= log.max()
        mass: Floats = np.exp(log, out=log)
        mass *= segments.possible[:, None]
        mass *= self.rates.weights
        mass /= mass.sum()
        return mass

    @cached_property
    def _counts(self) -> Floats:
        """Of each test, then of each leap: its place, survivals, crashes."""
        import numpy as np

        flat = [number for seen in (self.tests, self.leaps) for each in seen for number in each]
        return np.array(flat, dtype=float).reshape(-1, 3)

    @cached_property
    def _lifts(self) -> Floats:
        """Log-likelihoods of each leap's trials, can crash against cannot, leaps x rates."""
        lifts: Floats = self._counts[len(self.tests) :] @ self.rates.grid.lifts
        return lifts

    @cached_property
    def _alone(self) -> Floats:
        """As ``_lifts``, of the leap's own threshold, which is enough or is not."""
        return _either(self.alone, self._lifts)

    def _add_leaps(self, log: Floats) -> None:
        """What leaps say of thresholds above 0 (against *cannot crash*, as all of ``log``)."""
        log += self.segments.leapt @ self._alone
        for leap, lift in zip(self.leaps, self._lifts, strict=True):
            if leap.crashed:  # below: it may be a culprit besides; above: then it was the threshold
                log[1 : self.segments.index(leap.at)] += _either(ANOTHER, lift)

    # ---- what follows from it

    @cached_property
    def weights(self) -> Floats:
        """The posterior probability of each segment."""
        weight: Floats = self.mass.sum(axis=1)
        return weight

    @cached_property
    def _peaks(self) -> Floats:
        """The probability of the most probable threshold of each segment."""
        peaks: Floats = self.weights * self.segments.peak_shares
        return peaks

    @cached_property
    def best(self) -> tuple[int, float]:
        """The most probable threshold, and its probability."""
        index = int(self._peaks.argmax())
        return int(self.segments.peaks[index]), float(self._peaks[index])

    def leaders(self, least: float) -> list[tuple[int, float]]:
        """Thresholds of at least this probability, one of each segment, most probable first."""
        at, peaks = self.segments.peaks, self._peaks
        found = [(int(at[i]), float(peaks[i])) for i in (peaks >= least).nonzero()[0]]
        return sorted(found, key=lambda pair: (-round(pair[1], 9), pair[0]))

    def probability(self, threshold: int) -> float:
        """P(k = threshold)."""
        segments = self.segments
        return float(self.weights[segments.index(threshold)]) * segments.share(threshold)

    def posterior(self) -> Floats:
        """P(k) for each threshold 0..N."""
        import numpy as np

        scale, widths = self.weights / self.segments.divisor, np.diff(self.segments.edges)
        each: Floats = np.diff(self.prior.below) * np.repeat(scale, widths)
        return each

    def credible(self, confidence: float) -> list[tuple[int, float]]:
        """The fewest thresholds that together have ``confidence``, the most probable first."""
        import numpy as np

        each = self.posterior()
        order = np.argsort(-each, kind="stable")
        needed = int(np.searchsorted(np.cumsum(each[order]), confidence)) + 1
        return [(int(k), float(each[k])) for k in order[:needed] if each[k] > 0]

    def entropy(self) -> float:
        """Bits that are still unknown about the threshold."""
        import numpy as np

        each = self.posterior()
        each = each[each > 0]
        return float(-(each * np.log2(each)).sum())

    def rates_given(self, threshold: int) -> Rates:
        """The belief about the crash rate if this is the threshold; the same object each time."""
        index = self.segments.index(threshold)
        if index not in self._rates_given:
            row = self.mass[index]
            self._rates_given[index] = Rates(self.rates.grid, row / row.sum())
        return self._rates_given[index]

    @cached_property
    def _rates_given(self) -> dict[int, Rates]:
        return {}

    @cached_property
    def rates_now(self) -> Rates:
        """The belief about the crash rate, over all thresholds."""
        return Rates(self.rates.grid, self.mass.sum(axis=0))

    def able(self, prefixes: Ints) -> Floats:
        """P(prefix j can crash, rate), prefixes x rates."""
        segments, below = self.segments, self.prior.below
        index = segments.edges.searchsorted(prefixes, side="right") - 1
        share = below.take(prefixes + 1)
        share -= segments.below.take(index)
        share /= segments.divisor.take(index)
        able: Floats = self.mass.take(index, axis=0)
        able *= share[:, None]
        able += self._before.take(index, axis=0)
        return able

    @cached_property
    def _before(self) -> Floats:
        """What all segments before each have together, segments x rates."""
        before: Floats = self.segments.earlier @ self.mass
        return before

    def leaps_able(self, thresholds: Sequence[int], anyhow: Floats, before: Floats) -> Floats:
        """P(the leap to a threshold can crash, rate), thresholds x rates.

        It can if that is the threshold and it is enough, or if the context is enough ``anyhow``:
        what ``able`` says of prefix 0. ``before`` is that of the prefix before each threshold.
        """
        import numpy as np

        pairs = zip(thresholds, before, strict=True)
        able: Floats = np.array([self._leap_able(k, below - anyhow) for k, below in pairs])
        able += anyhow
        return able

    def enough_alone(self, threshold: int) -> float:
        """P(its candidate alone makes the context crash, which does not by itself)."""
        import numpy as np

        anyhow, before = self.able(np.array([0, threshold - 1]))
        return float(self._leap_able(threshold, before - anyhow).sum())

    def _leap_able(self, threshold: int, earlier: Floats) -> Floats:
        """As ``leaps_able``, the context not being enough; ``earlier`` have 0 < k < threshold."""
        segments, tried = self.segments, self.segments.tried.leaps
        row: Floats = self.mass[segments.index(threshold)] * segments.share(threshold)
        if threshold not in tried:
            return row * self.alone
        leap = tried.index(threshold)
        row *= _posterior(self.alone, self._lifts[leap], self._alone[leap])
        if self.leaps[leap].crashed:
            lift = self._lifts[leap]
            row += earlier * _posterior(ANOTHER, lift, _either(ANOTHER, lift))
        return row

    def quantiles(self, number: int) -> Ints:
        """Prefixes that cut the posterior into ``number`` parts of about the same probability."""
        import numpy as np

        whole = np.concatenate([[0.0], self.weights.cumsum()])
        target = np.interp(_quantiles(number), whole, self.segments.below)
        found = self.prior.below.searchsorted(target - 1e-12) - 1
        prefixes: Ints = np.minimum(np.maximum(found, 0), self.prior.thresholds - 1)
        return prefixes


def _either(chance: float, lift: Floats) -> Floats:
    """The log-likelihood of what can crash with this ``chance``, against what cannot."""
    import numpy as np

    either: Floats = np.logaddexp(math.log(chance) + lift, math.log1p(-chance))
    return either


def _posterior(chance: float, lift: Floats, either: Floats) -> Floats:
    """The probability that it can crash after all: it was ``chance`` before the trials."""
    import numpy as np

    posterior: Floats = np.exp(math.log(chance) + lift - either)
    return posterior


@lru_cache(maxsize=8)
def _quantiles(number: int) -> Floats:
    import numpy as np

    return np.arange(1, number) / number
