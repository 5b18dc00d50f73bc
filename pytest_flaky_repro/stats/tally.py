"""What a campaign has seen so far, as the statistics may use it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Vote

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class Tally:
    """Counts over the hole-free prefix of trials in launch order.

    ``trials_low`` counts intact trials (survived or crashed), ``trials_high`` adds those that
    started and were lost, ``crashes`` counts crashes. Whoever doubts the harness gets the
    doubt's worth: the safe line reads ``trials_low`` and the crash line ``trials_high``.
    """

    trials_low: int = 0
    trials_high: int = 0
    crashes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.crashes <= self.trials_low <= self.trials_high:
            raise UsageError(
                "a tally needs 0 <= crashes <= trials_low <= trials_high, got "
                f"crashes={self.crashes}, trials_low={self.trials_low}, "
                f"trials_high={self.trials_high}"
            )

    def add(self, vote: Vote) -> Tally:
        """Count one more trial; VOID leaves the tally as it is."""
        if vote is Vote.CRASH:
            return Tally(self.trials_low + 1, self.trials_high + 1, self.crashes + 1)
        if vote is Vote.SURVIVAL:
            return Tally(self.trials_low + 1, self.trials_high + 1, self.crashes)
        if vote is Vote.LOST:
            return replace(self, trials_high=self.trials_high + 1)
        return self

    @classmethod
    def of(cls, votes: Iterable[Vote]) -> Tally:
        """Count a whole log, in launch order."""
        tally = cls()
        for vote in votes:
            tally = tally.add(vote)
        return tally

    @property
    def lost(self) -> int:
        """Trials that started and came to no verdict."""
        return self.trials_high - self.trials_low

    def __add__(self, other: Tally) -> Tally:
        """Pool two logs of one experiment (see agreement.py for when that is allowed)."""
        return Tally(
            self.trials_low + other.trials_low,
            self.trials_high + other.trials_high,
            self.crashes + other.crashes,
        )
