"""The test of fixed length that keeps the same promises: what a sequential plan is held against.

Run n trials, whatever happens, and call the kernel safe when at most c crashed. Both errors are
binomial tails (NIST/SEMATECH e-Handbook, 6.2.3.2, a single sampling plan with two risk points).
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flaky_repro.stats.design import Design
from pytest_flaky_repro.stats.plan import plan_for

_MOST_CRASHES = 10_000


@dataclass(frozen=True)
class FixedTest:
    """``trials`` are always run; with up to ``most_crashes`` crashes the verdict is safe."""

    trials: int
    most_crashes: int

    def p_safe(self, rate: float) -> float:
        """The chance of *safe* at a true crash rate; all else is *crashes*."""
        if self.most_crashes == 0:
            return float((1.0 - rate) ** self.trials)
        from scipy.special import bdtr

        return float(bdtr(self.most_crashes, self.trials, rate))


def fixed_test(design: Design) -> FixedTest | None:
    """The shortest one for ``design``; None when it would have to count too many crashes."""
    if design.noise == 0:
        return FixedTest(plan_for(design).safe_at(0), 0)
    from scipy.special import bdtr, bdtrc

    trials = 1
    for most in range(_MOST_CRASHES):
        trials = _first(trials, lambda n, c=most: bdtr(c, n, design.min_rate) <= design.error_safe)
        if bdtrc(most, trials, design.noise) <= design.error_crash:
            return FixedTest(trials, most)
    return None


def _first(begin: int, holds: object) -> int:
    """The first number from ``begin`` up for which ``holds``, which stays true from there on."""
    assert callable(holds)
    high = begin
    while not holds(high):
        high *= 2
    low = begin - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
