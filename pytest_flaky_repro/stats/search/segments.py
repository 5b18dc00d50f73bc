"""Prior weights of a chain's thresholds, and the segments into which trials cut them.

The thresholds of a segment are told apart by their prior only. Where the cuts are depends on what
was tried, not on how it ended: most steps of a search try again what was tried before, and find
the segments as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]
    Flags = npt.NDArray[np.bool_]


class Tried(NamedTuple):
    """Prefixes that were tested, thresholds that were leapt to, prefixes with the same image."""

    tests: tuple[int, ...] = ()
    leaps: tuple[int, ...] = ()
    same: tuple[tuple[int, int], ...] = ()


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

    def heaviest(self, first: int, after: int) -> int:
        """The threshold of most weight among ``first .. after - 1``; the middle one of equals."""
        known = self._heaviest.get((first, after))
        if known is not None:
            return known
        weights = self.below[first + 1 : after + 1] - self.below[first:after]
        best = (weights >= weights.max() * (1 - 1e-9)).nonzero()[0]
        self._heaviest[first, after] = found = first + int(best[len(best) // 2])
        return found

    @cached_property
    def _heaviest(self) -> dict[tuple[int, int], int]:
        """Asked for again and again, by each chain with this prior."""
        return {}

    def cut(self, tried: Tried) -> Segments:
        """The segments; kept until something else was tried."""
        if tried not in self._segments:
            self._segments.clear()
            self._segments[tried] = Segments(self, tried)
        return self._segments[tried]

    @cached_property
    def _segments(self) -> dict[Tried, Segments]:
        return {}


@dataclass(frozen=True, eq=False)
class Segments:
    """Segment i holds the thresholds ``edges[i] .. edges[i + 1] - 1``."""

    prior: Prior
    tried: Tried

    @cached_property
    def edges(self) -> Ints:
        import numpy as np

        thresholds = self.prior.thresholds
        cuts = {0, thresholds, *(at + 1 for at in self.tried.tests)}
        for low, high in self.tried.same:
            cuts.update((low + 1, high + 1))
        for at in self.tried.leaps:
            cuts.update((1, at, at + 1))
        return np.array(sorted(cut for cut in cuts if cut <= thresholds), dtype=np.intp)

    @cached_property
    def first(self) -> Ints:
        return self.edges[:-1]

    @cached_property
    def below(self) -> Floats:
        """The prior of all thresholds before each edge."""
        below: Floats = self.prior.below[self.edges]
        return below

    @cached_property
    def weight(self) -> Floats:
        """The prior of each segment."""
        return self.below[1:] - self.below[:-1]

    @cached_property
    def divisor(self) -> Floats:
        """The prior of each segment to divide by: 1 where it is 0."""
        import numpy as np

        return np.where(self.weight > 0, self.weight, 1.0)

    @cached_property
    def possible(self) -> Floats:
        """The prior of each segment, 0 between two prefixes with the same image."""
        import numpy as np

        weight = self.weight
        for low, high in self.tried.same:
            weight = np.where((self.first > low) & (self.first <= high), 0.0, weight)
        return weight

    @cached_property
    def impossible(self) -> Flags | None:
        """Segments without any prior; None: there are none."""
        empty: Flags = self.possible <= 0
        return empty if empty.any() else None

    @cached_property
    def able(self) -> Floats:
        """1.0 where a segment's thresholds let a trial crash, segments x (tests, then leaps).

        Of leaps only what their context is enough for is here: threshold 0.
        """
        import numpy as np

        tests, leaps = self.tried.tests, self.tried.leaps
        able = np.zeros((len(self.first), len(tests) + len(leaps)))
        able[:, : len(tests)] = self.first[:, None] <= np.array(tests, dtype=np.intp)
        able[0, len(tests) :] = 1.0
        return able

    @cached_property
    def leapt(self) -> Floats:
        """1.0 where a segment is the leap's own threshold, segments x leaps."""
        import numpy as np

        own: Flags = self.first[:, None] == np.array(self.tried.leaps, dtype=np.intp)
        return own.astype(float)

    @cached_property
    def earlier(self) -> Floats:
        """Multiplied with a value of each segment: the sum over those before it."""
        return _below_diagonal(len(self.first))

    @cached_property
    def peaks(self) -> Ints:
        """The threshold of most prior, of each segment."""
        import numpy as np

        pairs = pairwise(self.edges.tolist())
        peaks = [at if after == at + 1 else self.prior.heaviest(at, after) for at, after in pairs]
        return np.array(peaks, dtype=np.intp)

    @cached_property
    def peak_shares(self) -> Floats:
        """The part of each segment's prior that its peak has."""
        own: Floats = self.prior.below[self.peaks + 1] - self.prior.below[self.peaks]
        shares: Floats = own / self.divisor
        return shares

    def index(self, threshold: int) -> int:
        """The segment that holds the threshold."""
        return int(self.edges.searchsorted(threshold, side="right")) - 1

    def share(self, threshold: int) -> float:
        """The threshold's part of its segment's prior."""
        below = self.prior.below
        own = below[threshold + 1] - below[threshold]
        return float(own / self.divisor[self.index(threshold)])


@lru_cache(maxsize=128)
def _below_diagonal(size: int) -> Floats:
    import numpy as np

    return np.tri(size, k=-1)
