"""What to ask next: the place and the number of trials that tell most for what they cost."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.search.chain import Chain
from pytest_flaky_repro.stats.search.rates import SIZES, Grid

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

PLACES = 48  # where the posterior is cut for new prefixes; finer cuts gain less than 0.1%
GOOD_ENOUGH = 0.98  # of the best value: then the move that tells most, so that moves are few
LEAPS = 3
LEAP_FROM = 0.05
LEAST_BITS = 1e-9
EQUAL = 1 - 1e-9  # of the most bits: then the first, whatever the rounding errors are


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
    places = _places(chain, ground)
    targets = _leap_targets(chain, ground) if leaps else []
    if not places and not targets:
        return None
    bits, total = _tell(_able(chain, places, [k for k, _ in targets]), chain.rates.grid, costs)
    price = [0.0 if at in ground.built else costs.build for at in places]
    if ground.skipped:
        hope = _buildable(places, ground, price)
        bits[: len(places)] *= hope
        total[: len(places)] *= hope
    # if it is the one, its build is needed for the confirmation anyway
    price += [0.0 if k in ground.leaps_built else costs.build * (1 - p) for k, p in targets]
    total += _column(price)
    if bits.max() < LEAST_BITS:
        return None
    row, size = _best(bits, total)
    is_leap = row >= len(places)
    at = targets[row - len(places)][0] if is_leap else places[row]
    return Move(at, is_leap, SIZES[size], float(bits[row, size]), float(total[row, size]))


def _able(chain: Chain, places: list[int], targets: list[int]) -> Floats:
    """P(can crash, rate) of prefixes, then of leaps."""
    import numpy as np

    if not targets:
        return chain.able(np.array(places))
    able = chain.able(np.array([*places, *[k - 1 for k in targets], 0]))
    able, anyhow = able[:-1], able[-1]
    leaps = able[len(places) :]
    leaps[:] = chain.leaps_able(targets, anyhow, leaps)
    return able


def _column(values: list[float]) -> Floats:
    import numpy as np

    return np.array(values)[:, None]


def _best(bits: Floats, costs: Floats) -> tuple[int, int]:
    """Row and column of what tells most among those whose bits per cost are nearly the best."""
    value = (bits / costs).ravel()
    good = (value >= GOOD_ENOUGH * value.max()).nonzero()[0]
    told = bits.ravel()[good]
    chosen = int(good[(told >= EQUAL * told.max()).argmax()])
    return divmod(chosen, int(bits.shape[1]))


def _tell(able: Floats, grid: Grid, costs: Costs) -> tuple[Floats, Floats]:
    """Bits told and cost of the trials, moves x SIZES.

    With ``x log x`` of joint probabilities in the place of entropies.
    """
    import numpy as np

    slope, start = _linear(grid, costs.survival, costs.crash)
    joint = able @ slope
    joint += start
    of, terms = len(SIZES), np.maximum(joint[:, : -2 * len(SIZES)], 1e-300)
    terms *= np.log2(terms)
    each = terms[:, : 2 * of] - terms[:, 2 * of : 4 * of]
    bits: Floats = each[:, :of] + each[:, of:]
    bits -= terms[:, -1:]
    bits -= joint[:, -2 * of : -of]
    return bits, joint[:, -of:]


@lru_cache(maxsize=8)
def _linear(grid: Grid, survival: float, crash: float) -> tuple[Floats, Floats]:
    """What is linear in P(can crash, rate): a slope for each rate, and what it starts from.

    Beside each other: P(can crash, and all of ``n`` survive), P(can, and one crashes), P(all
    survive), P(one crashes), P(can crash); then the bits that the outcome keeps open if it cannot
    crash, and the cost of the trials.
    """
    import numpy as np

    missed, quiet = grid.misses, grid.quiet_misses
    ones, none = np.ones((len(missed), 1)), np.zeros_like(quiet)
    open_bits = -(quiet * np.log2(quiet) + (1 - quiet) * np.log2(1 - quiet))
    loud_cost = survival * grid.survivals + crash * (1 - missed)
    quiet_cost = survival * grid.quiet_survivals + crash * (1 - quiet)
    able = missed, 1 - missed, missed, 1 - missed, ones, 0 * missed, loud_cost
    not_able = none, none, quiet, 1 - quiet, np.zeros(1), open_bits, quiet_cost
    start = np.concatenate(not_able)
    return np.hstack(able) - start, start


def _places(chain: Chain, ground: Ground) -> list[int]:
    """Prefixes worth a look: the built ones, and cuts of the posterior. Never the whole chain."""
    last = chain.prior.thresholds - 1
    cuts = {*chain.quantiles(PLACES).tolist(), *ground.built}
    if ground.skipped:  # what lies beside a hole, too: the cut itself may be the hole
        cuts |= {step for hole in ground.skipped for step in _steps_from(hole, last)}
        cuts -= set(ground.skipped)
    cuts.discard(last)
    return sorted(cuts)


def _steps_from(hole: int, last: int) -> Iterable[int]:
    distance = 1
    while distance <= last:
        yield from (at for at in (hole - distance, hole + distance) if 0 <= at < last)
        distance *= 2


def _buildable(at: list[int], ground: Ground, price: list[float]) -> Floats:
    """How probably a prefix builds, next to those that did not; a column.

    What breaks a build breaks a stretch of the chain: it ends somewhere between the hole and the
    next prefix that was built, at a distance whose logarithm is uniform.
    """
    import numpy as np

    places, hope = np.array(at), np.ones(len(at))
    for hole in ground.skipped:
        for side in (-1, 1):
            good = [side * (j - hole) for j in ground.built if side * (j - hole) > 0]
            reach = min(good, default=max(1, len(places) and int(abs(places - hole).max())))
            distance = side * (places - hole)
            near = (distance > 0) & (distance <= reach)
            chance = np.log1p(distance.clip(0)) / np.log1p(reach)
            hope = np.where(near, np.minimum(hope, chance), hope)
    return np.where(np.array(price) > 0, hope.clip(0.01, 1.0), 1.0)[:, None]


def _leap_targets(chain: Chain, ground: Ground) -> list[tuple[int, float]]:
    """Thresholds that are probable enough to try their candidate alone; the first is prefix 1."""
    leaders = chain.leaders(LEAP_FROM)[:LEAPS]
    return [(k, p) for k, p in leaders if k > 1 and k not in ground.leaps_skipped]
