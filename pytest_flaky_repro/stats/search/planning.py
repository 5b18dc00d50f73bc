"""What to ask next: the place and the number of trials that tell most for what they cost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.search.chain import Chain
from pytest_flaky_repro.stats.search.rates import SIZES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.intp]

PLACES = 48  # where the posterior is cut for new prefixes; finer cuts gain less than 0.1%
GOOD_ENOUGH = 0.98  # of the best value: then the move that tells most, so that moves are few
LEAPS = 3
LEAP_FROM = 0.05


@dataclass(frozen=True)
class Costs:
    """What things cost, in one unit (seconds, mostly): a build, and a trial by how it ends."""

    build: float
    survival: float = 1.0
    crash: float = 1.0


@dataclass(frozen=True)
class Move:
    """Run prefix ``at`` (or the leap to threshold ``at``) until a crash or ``trials`` survivals."""

    at: int
    is_leap: bool
    trials: int
    bits: float
    cost: float


@dataclass(frozen=True)
class Ground:
    """Which prefixes and leaps of a chain are built, and which cannot be."""

    built: Collection[int] = ()
    skipped: Collection[int] = ()
    leaps_built: Collection[int] = ()
    leaps_skipped: Collection[int] = ()


def best_move(chain: Chain, costs: Costs, ground: Ground, *, leaps: bool) -> Move | None:
    """The move of most information about the threshold per cost; None when none tells anything.

    A move's outcome is binary (crash, or none in ``n``), so it tells the mutual information
    ``h(P(crash)) - q h(P(crash | able)) - (1 - q) h(P(crash | not able))`` bits, where ``q`` is
    the probability that the image can crash. Greedy in bits per cost: a plan of one step.
    """
    import numpy as np

    places = _places(chain, ground)
    able = chain.able(places)
    built = frozenset(ground.built)
    price = np.array([0.0 if at in built else costs.build for at in places.tolist()])
    hope = np.where(price > 0, _buildable(places, ground), 1.0)
    targets = _leap_targets(chain, ground) if leaps else []
    if targets:
        able = np.concatenate([able, [chain.leap_able(k) for k, _ in targets]])
        # if it is the one, its build is needed for the confirmation anyway
        more = [0.0 if k in ground.leaps_built else costs.build * (1 - p) for k, p in targets]
        price, hope = np.append(price, more), np.append(hope, np.ones(len(targets)))
    if not len(able):
        return None
    bits, trial_costs = _tell(able, chain, costs)
    bits *= hope[:, None]
    total = price[:, None] + hope[:, None] * trial_costs
    if bits.max() < 1e-9:
        return None
    value = bits / total
    good = value >= GOOD_ENOUGH * value.max()
    row, size = np.unravel_index(int(np.argmax(np.where(good, bits, 0.0))), bits.shape)
    is_leap = row >= len(places)
    at = targets[row - len(places)][0] if is_leap else int(places[row])
    return Move(at, bool(is_leap), SIZES[size], float(bits[row, size]), float(total[row, size]))


def _tell(able: Floats, chain: Chain, costs: Costs) -> tuple[Floats, Floats]:
    """Bits told and cost of the trials, moves x SIZES."""
    grid = chain.rates.grid
    q = able.sum(axis=1)[:, None]
    quiet = grid.quiet_misses
    missed = able @ grid.misses
    crash = q - missed + (1 - q) * (1 - quiet)
    given = missed / q.clip(1e-300)
    bits: Floats = _entropy(crash) - q * _entropy(given) - (1 - q) * _entropy(quiet)
    survivals = able @ grid.survivals + (1 - q) * grid.quiet_survivals
    cost: Floats = costs.survival * survivals + costs.crash * crash
    return bits, cost


def _entropy(p: Floats) -> Floats:
    """Of a coin, in bits."""
    import numpy as np

    p = p.clip(1e-15, 1 - 1e-15)
    bits: Floats = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return bits


def _places(chain: Chain, ground: Ground) -> Ints:
    """Prefixes worth a look: the built ones, and cuts of the posterior. Never the whole chain."""
    import numpy as np

    last = chain.prior.thresholds - 1
    cuts = {*chain.quantiles(PLACES).tolist(), *ground.built}
    skipped = set(ground.skipped)
    if skipped:  # what lies beside a hole, too: the cut itself may be the hole
        cuts |= {step for hole in skipped for step in _steps_from(hole, last)}
    return np.array(sorted(cut for cut in cuts - skipped if 0 <= cut < last), dtype=np.intp)


def _steps_from(hole: int, last: int) -> Iterable[int]:
    distance = 1
    while distance <= last:
        yield hole - distance
        yield hole + distance
        distance *= 2


def _buildable(places: Ints, ground: Ground) -> Floats:
    """How probably a prefix builds, next to those that did not.

    What breaks a build breaks a stretch of the chain: it ends somewhere between the hole and the
    next prefix that was built, at a distance whose logarithm is uniform.
    """
    import numpy as np

    hope = np.ones(len(places))
    for hole in ground.skipped:
        for side in (-1, 1):
            good = [side * (j - hole) for j in ground.built if side * (j - hole) > 0]
            reach = min(good, default=max(1, len(places) and int(abs(places - hole).max())))
            distance = side * (places - hole)
            near = (distance > 0) & (distance <= reach)
            chance = np.log1p(distance.clip(0)) / np.log1p(reach)
            hope = np.where(near, np.minimum(hope, chance), hope)
    return hope.clip(0.01, 1.0)


def _leap_targets(chain: Chain, ground: Ground) -> list[tuple[int, float]]:
    """Thresholds that are probable enough to try their candidate alone."""
    usable: Callable[[int], bool] = lambda k: k > 0 and k not in ground.leaps_skipped  # noqa: E731
    leaders = chain.leaders[:LEAPS]
    return [(k, p) for k, p in leaders if usable(k) and p >= LEAP_FROM]
