"""What matters? A full factorial design over kernels, CPUs, environments and command lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_flaky_repro.campaign.trials import Ending
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.stats.compare import Difference
from pytest_flaky_repro.stats.factors import Cell, Effect, cells, effects


class FactorsGoal:
    """Every round launches each combination once; ends when every effect has shown."""

    def __init__(
        self, factors: Mapping[str, Sequence[str]], confidence: float, rounds: int
    ) -> None:
        self._factors, self._confidence, self._rounds = factors, confidence, rounds
        self.cells = cells(factors)
        self.seen: list[dict[Cell, Vote]] = []
        self.crashes: dict[Cell, int] = dict.fromkeys(self.cells, 0)
        self.trials: dict[Cell, int] = dict.fromkeys(self.cells, 0)

    @property
    def factors(self) -> tuple[str, ...]:
        """Their names, in the order of a cell's levels."""
        return tuple(self._factors)

    def arm_for(self, ticket: int) -> int:
        return ticket % len(self.cells)

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        number = trial.ticket // len(self.cells)
        while len(self.seen) <= number:
            self.seen.append({})
        cell = self.cells[arm]
        self.seen[number][cell] = vote
        if vote in (Vote.CRASH, Vote.SURVIVAL):
            self.trials[cell] += 1
            self.crashes[cell] += vote is Vote.CRASH

    def reached(self) -> Ending | None:
        whole = [number for number in self.seen if len(number) == len(self.cells)]
        if len(whole) >= self._rounds:
            return Ending(Conclusion.INCONCLUSIVE, f"{self._rounds} rounds were asked for")
        if whole and all(e.difference is not Difference.NOT_SHOWN for e in self.effects()):
            return Ending(Conclusion.CRASHES, "every effect has shown")
        return None

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        del arm, trial, vote
        return False

    def wanted(self) -> int | None:
        whole = sum(len(number) for number in self.seen)
        return max(0, self._rounds * len(self.cells) - whole)

    def spent(self) -> int:
        return sum(self.trials.values())

    def effects(self) -> list[Effect]:
        """The table, from the rounds so far."""
        return effects(self._factors, self.seen, self._confidence)
