"""What a search is to reach, and the words in which its strategy speaks."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_flaky_repro.culprit.building import Shape
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.stats.search.rates import NOISE_FLOOR, Rates


@dataclass(frozen=True)
class Aim:
    """What a search is to reach, and what it believes before the first trial.

    ``weights`` are the candidates' prior shares. All bad is given up on when it crashes less often
    than ``min_rate``. ``nothing`` is the prior probability that all good crashes too, ``alone``
    that the candidate at the threshold is enough, ``one_more`` the same once a second one was
    needed. ``known_rate`` spares the baseline its learning, and ``confirm=False`` stops at the
    first threshold: both are for benchmarks.
    """

    weights: Sequence[float]
    shape: Shape = Shape.SET
    confidence: float = 0.99
    noise: float = NOISE_FLOOR
    min_rate: float = 0.01
    baseline_crashes: int = 3
    nothing: float = 0.2
    alone: float = 0.9
    one_more: float = 0.7
    known_rate: Rates | None = None
    confirm: bool = True

    @property
    def error(self) -> float:
        return 1 - self.confidence

    @property
    def everything(self) -> int:
        """The mask of all bad."""
        return (1 << len(self.weights)) - 1


class Phase(enum.Enum):
    """What a query is for."""

    BASELINE = "learning how often all bad crashes"
    SEARCH = "searching"
    TOGETHER = "looking for what is needed besides"
    MINIMAL = "trying to do without each"
    COMPLETE = "looking for another culprit"


@dataclass(frozen=True)
class Query:
    """Run the subset ``mask`` until a crash or ``trials`` survivals."""

    mask: int
    trials: int
    phase: Phase


@dataclass(frozen=True)
class FoundSet:
    """Members (indices), how probable they are, their crash rate.

    ``first``: the posterior probability that the member of the first level is needed; ``enough``:
    that the others are, and no more.
    ``place`` and ``size`` say where on its round's chain of ``size`` candidates it was;
    ``all_good`` is the probability that is left for *all good crashes too*, and
    ``all_good_rates`` what the crash rate would be then.
    """

    members: tuple[int, ...]
    first: float
    rates: Rates
    place: int = 0
    size: int = 0
    all_good: float = 0.0
    all_good_rates: Rates | None = None
    enough: float = 1.0

    @property
    def probability(self) -> float:
        """Of exactly these members."""
        return self.first * self.enough

    @property
    def mask(self) -> int:
        return sum(1 << member for member in self.members)


@dataclass(frozen=True)
class Answer:
    """The end of a search."""

    kind: Kind
    sets: tuple[FoundSet, ...]
    probability: float
    why: str
    explained: tuple[FoundSet, ...] = ()  # crashed, too, with one of ``sets`` in their builds
