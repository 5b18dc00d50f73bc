"""The posterior over (threshold, crash rate) on a chain of prefixes.

Piecewise: between two prefixes that were tested nothing tells candidates apart but their prior,
so the state is one row of rates per segment, whatever the number of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pytest_flaky_repro.stats.search.rates import Rates

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]


ANOTHER = 1e-3  # prior probability that a certain candidate is a culprit besides the first


class Counts(NamedTuple):
    """Trials at one place of a chain: prefix ``at``, or the leap to threshold ``at``."""

    at: int
    survived: int
    crashed: int


@dataclass(frozen=True)
class Prior:
    """Prior weights of the thresholds 0..N, cumulated: ``below[k]`` is the weight of all < k."""

    below: Floats

    @classmethod
    def of(cls, nothing: float, weights: Sequence[float]) -> Prior:
        """``nothing`` is the probability of threshold 0; the rest is shared by ``weights``."""
        import numpy as np

        shares = np.array(weights, dtype=float)
        each = [nothing] if not len(shares) else [nothing, *((1 - nothing) * shares / shares.sum())]
        return cls(np.concatenate([[0.0], np.cumsum(each)]))

    @property
    def thresholds(self) -> int:
        return len(self.below) - 1

    def between(self, first: Ints, after: Ints) -> Floats:
        weight: Floats = self.below[after] - self.below[first]
        return weight

    def heaviest(self, first: int, after: int) -> int:
        """The threshold of most weight among ``first .. after - 1``; the middle one of equals."""
        known = self._heaviest.get((first, after))
        if known is not None:
            return known
        import numpy as np

        weights = np.diff(self.below[first : after + 1])
        best = np.flatnonzero(weights >= weights.max() * (1 - 1e-9))
        self._heaviest[first, after] = found = first + int(best[len(best) // 2])
        return found

    @cached_property
    def _heaviest(self) -> dict[tuple[int, int], int]:
        """Asked for again and again, by each chain with this prior."""
        return {}


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
    def edges(self) -> Ints:
        """Segment i holds the thresholds ``edges[i] .. edges[i + 1] - 1``."""
        import numpy as np

        cuts = {0, self.prior.thresholds}
        cuts.update(test.at + 1 for test in self.tests)
        for low, high in self.same:
            cuts.update((low + 1, high + 1))
        for leap in self.leaps:
            cuts.update((1, leap.at, leap.at + 1))
        kept = sorted(cut for cut in cuts if cut <= self.prior.thresholds)
        return np.array(kept, dtype=np.intp)

    @cached_property
    def mass(self) -> Floats:
        """The posterior, segments x rates; adds up to 1."""
        import numpy as np

        first, after = self.edges[:-1], self.edges[1:]
        log = self._log_likelihood(first)
        for leap in self.leaps:
            log += self._log_leap(leap, first)
        weight = self.prior.between(first, after)
        for low, high in self.same:
            weight = np.where((first > low) & (first <= high), 0.0, weight)
        log -= log[weight > 0].max()
        mass: Floats = weight[:, None] * self.rates.weights * np.exp(np.minimum(log, 0.0))
        mass /= mass.sum()
        return mass

    def _log_likelihood(self, first: Ints) -> Floats:
        import numpy as np

        grid = self.rates.grid
        if not self.tests:
            return np.zeros((len(first), len(grid.rates)))
        counts = np.array(self.tests, dtype=float)
        able = first[:, None] <= counts[:, 0]
        loud = np.outer(counts[:, 1], grid.log_survival) + np.outer(counts[:, 2], grid.log_crash)
        quiet = counts[:, 1] * np.log1p(-grid.noise) + counts[:, 2] * np.log(grid.noise)
        log: Floats = able @ loud + (~able @ quiet)[:, None]
        return log

    def _log_leap(self, leap: Counts, first: Ints) -> Floats:
        import numpy as np

        loud, quiet = self._leap_likelihoods(leap)
        log = np.broadcast_to(quiet, (len(first), len(loud))).copy()
        if leap.crashed:  # below: it may be a culprit besides; above: then it was the threshold
            besides = np.log1p(-ANOTHER) + quiet, np.log(ANOTHER) + loud
            log[first < leap.at] = np.logaddexp(*besides)
        log[first == 0] = loud  # where the context is enough, everything crashes
        log[first == leap.at] = np.logaddexp(
            np.log(self.alone) + loud, np.log1p(-self.alone) + quiet
        )
        return log

    def _leap_likelihoods(self, leap: Counts) -> tuple[Floats, Floats]:
        import numpy as np

        grid = self.rates.grid
        loud = leap.survived * grid.log_survival + leap.crashed * grid.log_crash
        quiet = leap.survived * np.log1p(-grid.noise) + leap.crashed * np.log(grid.noise)
        return loud, np.full_like(loud, quiet)

    # ---- what follows from it

    @cached_property
    def weights(self) -> Floats:
        """The posterior probability of each segment."""
        weight: Floats = self.mass.sum(axis=1)
        return weight

    @cached_property
    def best(self) -> tuple[int, float]:
        """The most probable threshold, and its probability."""
        return self.leaders[0]

    @cached_property
    def leaders(self) -> list[tuple[int, float]]:
        """The most probable thresholds, one of each segment, with their probabilities."""
        edges, below, weights = self.edges.tolist(), self.prior.below, self.weights.tolist()
        found = []
        for first, after, weight in zip(edges[:-1], edges[1:], weights, strict=True):
            if weight <= 0:
                continue
            at = first if after == first + 1 else self.prior.heaviest(first, after)
            share = float((below[at + 1] - below[at]) / (below[after] - below[first]))
            found.append((at, weight * share))
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def probability(self, threshold: int) -> float:
        """P(k = threshold)."""
        index = self._segment(threshold)
        share = self._share(threshold, threshold + 1, index)
        return float(self.weights[index]) * share

    def posterior(self) -> Floats:
        """P(k) for each threshold 0..N."""
        import numpy as np

        first, after = self.edges[:-1], self.edges[1:]
        weight = self.prior.between(first, after)
        scale = np.divide(self.weights, weight, out=np.zeros_like(weight), where=weight > 0)
        each: Floats = np.diff(self.prior.below) * np.repeat(scale, after - first)
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
        """The belief about the crash rate if this is the threshold."""
        row = self.mass[self._segment(threshold)]
        return Rates(self.rates.grid, row / row.sum())

    @cached_property
    def rates_now(self) -> Rates:
        """The belief about the crash rate, over all thresholds."""
        return Rates(self.rates.grid, self.mass.sum(axis=0))

    def able(self, prefixes: Ints) -> Floats:
        """P(prefix j can crash, rate), prefixes x rates."""
        import numpy as np

        index = np.searchsorted(self.edges, prefixes, side="right") - 1
        whole = np.concatenate([np.zeros((1, self.mass.shape[1])), np.cumsum(self.mass, axis=0)])
        first, after = self.edges[index], self.edges[index + 1]
        weight = self.prior.between(first, after)
        part = self.prior.between(first, prefixes + 1)
        share = np.divide(part, weight, out=np.zeros_like(part), where=weight > 0)
        below: Floats = whole[index] + share[:, None] * self.mass[index]
        return below

    def leap_able(self, threshold: int) -> Floats:
        """P(the leap to ``threshold`` can crash, rate), one row of rates.

        It can if that is the threshold and it is enough, or if the context is enough anyway.
        """
        import numpy as np

        index = self._segment(threshold)
        row: Floats = self.mass[index] * self._share(threshold, threshold + 1, index)
        anyhow, below = self.able(np.array([0, threshold - 1]))
        leap = next((leap for leap in self.leaps if leap.at == threshold), None)
        if leap is None:
            row *= self.alone
            row += anyhow
            return row
        loud, quiet = self._leap_likelihoods(leap)
        odds = np.exp(np.clip(quiet - loud, -700, 700))
        row /= 1 + odds * (1 - self.alone) / self.alone
        row += anyhow
        if leap.crashed:
            row += (below - anyhow) / (1 + odds * (1 - ANOTHER) / ANOTHER)
        return row

    def quantiles(self, number: int) -> Ints:
        """Prefixes that cut the posterior into ``number`` parts of about the same probability."""
        import numpy as np

        shares = np.arange(1, number) / number
        whole = np.cumsum(self.weights)
        index = np.minimum(np.searchsorted(whole, shares), len(whole) - 1)
        first, after = self.edges[index], self.edges[index + 1]
        inside = 1 - (whole[index] - shares) / np.maximum(self.weights[index], 1e-300)
        target = self.prior.below[first] + inside * self.prior.between(first, after)
        found = np.searchsorted(self.prior.below, target - 1e-12) - 1
        prefixes: Ints = np.unique(np.clip(found, first, after - 1))
        return prefixes

    def _segment(self, threshold: int) -> int:
        import numpy as np

        return int(np.searchsorted(self.edges, threshold, side="right")) - 1

    def _share(self, first: int, after: int, index: int) -> float:
        below, low, high = self.prior.below, self.edges[index], self.edges[index + 1]
        weight = below[high] - below[low]
        return float((below[after] - below[first]) / weight) if weight > 0 else 0.0
