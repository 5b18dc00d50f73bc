"""The posterior over single culprits from arbitrary subsets: for schemes that have no chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from pytest_flaky_repro.stats.search.chain import Chain, Prior
from pytest_flaky_repro.stats.search.rates import Rates

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]


class Trials(NamedTuple):
    """Trials of one subset; ``members`` says of each candidate whether it was bad."""

    members: Sequence[bool]
    survived: int
    crashed: int


@dataclass(frozen=True)
class Suspects:
    """P(candidate is the one culprit, crash rate), candidates x rates.

    ``weights`` are prior shares; 0 for what is no candidate any more.
    """

    weights: Sequence[float]
    rates: Rates
    trials: Sequence[Trials]

    @cached_property
    def mass(self) -> Floats:
        import numpy as np

        grid = self.rates.grid
        log = np.zeros((len(self.weights), len(grid.rates)))
        for members, survived, crashed in self.trials:
            loud = survived * grid.log_survival + crashed * grid.log_crash
            quiet = survived * np.log1p(-grid.noise) + crashed * np.log(grid.noise)
            log += np.where(np.array(members)[:, None], loud, quiet)
        weights = np.array(self.weights)[:, None]
        log -= log[weights[:, 0] > 0].max()
        mass: Floats = weights * self.rates.weights * np.exp(np.minimum(log, 0.0))
        mass /= mass.sum()
        return mass

    @cached_property
    def best(self) -> tuple[int, float]:
        """The most probable candidate, and its probability."""
        each = self.mass.sum(axis=1)
        return int(each.argmax()), float(each.max())

    def rates_given(self, candidate: int) -> Rates:
        row = self.mass[candidate]
        return Rates(self.rates.grid, row / row.sum())

    def as_chain(self) -> Chain:
        """A chain with the same posterior: for what shows leaders and what is left."""
        each = self.mass.sum(axis=1)
        rates = Rates(self.rates.grid, self.mass.sum(axis=0))
        return Chain(Prior.of(0.0, each.clip(1e-300).tolist()), rates)
