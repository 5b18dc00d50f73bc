"""The two decision lines over the (trials, crashes) lattice, in integers only.

A line is a short explicit prefix, where lattice effects are large, and a straight tail. The
tail is fixed-point arithmetic, so that every machine reads the same threshold from the same
plan.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

SCALE = 1 << 20
"""Fixed-point unit of slopes and intercepts: thresholds are in trials, times SCALE."""

NEVER = sys.maxsize
"""A number of trials that no campaign reaches."""


@dataclass(frozen=True)
class Line:
    """Threshold in trials as a function of crashes: prefix[0], prefix[1], ... then straight.

    ``first`` is the crash count of ``prefix[0]``; beyond the prefix the threshold is
    ``slope * crashes + intercept`` in units of 1/SCALE, rounded up for the safe line and down
    for the crash line (``roof``), and never below what came before it.
    """

    first: int
    prefix: tuple[int, ...]
    slope: int
    intercept: int
    roof: int  # SCALE - 1 rounds up, 0 rounds down

    def at(self, crashes: int) -> int:
        """Threshold in trials; 0 below ``first``."""
        index = crashes - self.first
        if index < 0:
            return 0
        if index < len(self.prefix):
            return self.prefix[index]
        straight = (self.slope * crashes + self.intercept + self.roof) // SCALE
        return max(straight, self.prefix[-1] if self.prefix else 0)

    def then(self, threshold: int) -> Line:
        """Return the same line with one more explicit threshold."""
        return Line(self.first, (*self.prefix, threshold), self.slope, self.intercept, self.roof)

    def lifted(self, intercept: int) -> Line:
        """Return the same line with another straight tail."""
        return Line(self.first, self.prefix, self.slope, intercept, self.roof)


@dataclass(frozen=True)
class Lines:
    """Both lines of a plan.

    With x crashes seen: *safe* once the intact trials reach ``safe.at(x)``; *crashes* when the
    x-th crash comes no later than trial ``crash.at(x)``, x >= 1. The crash line is read first.
    Lines whose errors are spent early may meet: then both claims, "below p1" and "above p0",
    hold beyond the meeting point, and the campaign has a hard maximum of trials.
    """

    safe: Line
    crash: Line
