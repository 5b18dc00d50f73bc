"""Do two kernels crash at different rates? An anytime-valid test of interleaved pairs.

The 2x2 e-process of R. Turner, A. Ly and P. Grünwald (Statist. Probab. Lett. 198, 2023): after
each pair, one trial of either kernel, bet on it with the rates learnt from the pairs before.
Under "the rates are equal", whatever the rate, the wealth has mean at most 1 at any stop, so it
reaches 1/a with probability at most a.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats.bounds import RateBounds, rate_bounds
from pytest_flaky_repro.stats.design import complement
from pytest_flaky_repro.stats.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

_PRIOR = 0.18
"""Beta(.18, .18) on each rate, the default of the paper: near minimax regret."""


class Difference(enum.Enum):
    """What a comparison says."""

    NOT_SHOWN = "not shown"
    A_CRASHES_MORE = "a crashes more"
    B_CRASHES_MORE = "b crashes more"

    def __bool__(self) -> bool:
        raise TypeError("a Difference has more than two answers: compare it by identity")


@dataclass(frozen=True)
class Comparison:
    """Two kernels' pairs so far, as an immutable wealth process.

    A pair enters when both trials are intact; a void or lost trial takes its partner with it
    (equal kernels lose trials alike, so that favours neither).
    """

    pairs: int = 0
    crashes_a: int = 0
    crashes_b: int = 0
    log_e: float = 0.0

    def add(self, a: Vote, b: Vote) -> Comparison:
        """Bet on one more pair, given in launch order."""
        intact = (Vote.CRASH, Vote.SURVIVAL)
        if a not in intact or b not in intact:
            return self
        crashed_a, crashed_b = a is Vote.CRASH, b is Vote.CRASH
        rate_a = (self.crashes_a + _PRIOR) / (self.pairs + 2 * _PRIOR)
        rate_b = (self.crashes_b + _PRIOR) / (self.pairs + 2 * _PRIOR)
        both = 0.5 * (rate_a + rate_b)
        gain = _log(rate_a, hit=crashed_a) - _log(both, hit=crashed_a)
        gain += _log(rate_b, hit=crashed_b) - _log(both, hit=crashed_b)
        return Comparison(
            self.pairs + 1,
            self.crashes_a + crashed_a,
            self.crashes_b + crashed_b,
            self.log_e + gain,
        )

    @classmethod
    def of(cls, pairs: Iterable[tuple[Vote, Vote]]) -> Comparison:
        """Replay a whole log of pairs."""
        seen = cls()
        for a, b in pairs:
            seen = seen.add(a, b)
        return seen

    def difference(self, confidence: float) -> Difference:
        """Say whether a difference is shown by now; ask after every pair and stop at will."""
        if self.log_e < -math.log(complement(confidence)):
            return Difference.NOT_SHOWN
        if self.crashes_a > self.crashes_b:
            return Difference.A_CRASHES_MORE
        return Difference.B_CRASHES_MORE

    def intervals(self, confidence: float) -> tuple[RateBounds, RateBounds]:
        """Two-sided anytime intervals of both rates, each one holding at ``confidence``."""
        side = 1.0 - complement(confidence) / 2
        tallies = (
            Tally(self.pairs, self.pairs, crashes) for crashes in (self.crashes_a, self.crashes_b)
        )
        a, b = (rate_bounds(tally, side) for tally in tallies)
        return (
            RateBounds(a.lower, a.upper, confidence),
            RateBounds(b.lower, b.upper, confidence),
        )


def _log(rate: float, *, hit: bool) -> float:
    return math.log(rate) if hit else math.log1p(-rate)
