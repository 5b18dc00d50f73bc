"""Find both lines of a plan: as tight as the error budget allows, by exact computation.

Among all one-sided tests of p1 against p0 the straight line (a constant likelihood ratio) is
the quickest for the error that it really makes (A. Wald and J. Wolfowitz, Ann. Math. Statist.
19, 1948, 326-339). On a lattice the straight line cannot make exactly the error allowed: the
first thresholds are few and heavy. So each of the first thresholds is tried a little earlier
and a little later, with the straight rest re-solved to spend whatever error is left, and the
choice with the fewest expected trials is kept: under p0 for the safe line, under p1 for the
crash line.

Each line is solved without the other. Its error is that of ever crossing it, in a campaign
that never ends, so neither peeking, nor stopping, nor a longer budget can add to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.lattice import (
    CrashFront,
    Pair,
    SafeFront,
    crash_risk,
    safe_risk,
)
from pytest_flaky_repro.stats.lines import NEVER, SCALE, Line, Lines
from pytest_flaky_repro.stats.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flaky_repro.stats.design import Design

ALGORITHM = 1
"""Raised whenever the same design would get other lines: part of the plan hash."""

LEVELS = 6
"""Thresholds tuned one by one before the straight tail."""

# Rounding in the walks stays far below this share of the error.
_MARGIN = 1.0 - 1e-9
# An error budget spent to this share leaves nothing worth searching for.
_SPENT = 1.0 - 2e-3
# Intercepts are searched to this much log likelihood: it moves the error by as little.
_FINE = 1e-4


def zero_failure(min_rate: float, error: float) -> int:
    """Trials without a crash after which a rate of ``min_rate`` has probability <= error.

    n = ceil(ln b / ln(1 - p1)), the success-run theorem. Exact ties are taken.
    """
    guess = max(1, math.ceil(math.log(error) / math.log1p(-min_rate) - 1e-9))
    while guess * math.log1p(-min_rate) > math.log(error) * (1 - 1e-15):
        guess += 1
    return guess


def zero_noise_lines(design: Design) -> Lines:
    """Noise 0: the zero-failure rule; any crash decides."""
    needed = zero_failure(design.min_rate, design.error_safe)
    return Lines(
        safe=Line(0, (needed, NEVER), 0, 0, 0),
        crash=Line(1, (NEVER,), 0, 0, 0),
    )


def solve(design: Design) -> Lines:
    """Solve both lines; a second or less for odds ratios of 2 and more."""
    if design.noise == 0:
        return zero_noise_lines(design)
    pair = Pair(design.noise, design.min_rate)
    budget_safe = design.error_safe * _MARGIN
    budget_crash = design.error_crash * _MARGIN
    safe = _tail_safe(pair, _straight(pair, first=0), SafeFront.start(), budget_safe)
    crash = _tail_crash(pair, _straight(pair, first=1), CrashFront.start(), budget_crash)
    if safe is None or crash is None:  # Wald's intercept always fits at the start
        raise AssertionError("no straight line keeps the error")
    safe = _tune_safe(pair, safe, crash, budget_safe)
    crash = _tune_crash(pair, safe, crash, budget_crash)
    return Lines(safe, crash)


def _straight(pair: Pair, first: int) -> Line:
    """Start a line without intercept; its slope rounded to the side that keeps the error."""
    scaled = pair.slope * SCALE
    if first == 0:
        return Line(0, (), math.ceil(scaled), 0, SCALE - 1)
    return Line(1, (), math.floor(scaled), 0, 0)


def _smallest(fits: Callable[[int], bool], pair: Pair, low: int, high: int) -> int:
    """Find the smallest fitting intercept in [low, high], to _FINE; high must fit."""
    fine = max(1, int(SCALE * _FINE / pair.survival))
    while high - low > fine:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high


def _tail_safe(pair: Pair, line: Line, front: SafeFront, budget: float) -> Line | None:
    """Find the lowest straight rest after ``front`` that keeps the budget, if any does."""
    left = budget - front.risk
    rest = float(front.mass.sum())
    if left <= 0:
        return None
    high = math.ceil((pair.wald(left) + math.log(rest) / pair.survival) * SCALE)
    low = high - math.ceil((2.0 + 0.2 * pair.wald(left)) * SCALE)

    def fits(intercept: int) -> bool:
        return safe_risk(pair, line.lifted(intercept), front) <= budget

    return line.lifted(_smallest(fits, pair, low, high))


def _tail_crash(pair: Pair, line: Line, front: CrashFront, budget: float) -> Line | None:
    """Find the highest straight rest after ``front`` that keeps the budget, if any does."""
    left = budget - front.risk
    if left <= 0:
        return None
    high = math.ceil((pair.wald(left) + math.log(front.alive) / pair.survival) * SCALE)
    low = high - math.ceil(3.0 * pair.slope * SCALE)

    def fits(intercept: int) -> bool:
        return crash_risk(pair, line.lifted(-intercept), front) <= budget

    return line.lifted(-_smallest(fits, pair, low, high))


def _tune_safe(pair: Pair, safe: Line, crash: Line, budget: float) -> Line:
    front = SafeFront.start()
    for level in range(LEVELS):
        if safe_risk(pair, safe, front) > budget * _SPENT:
            break
        base, least = safe.at(level), front.trials + 1
        best: tuple[float, int, Line, SafeFront] | None = None
        for threshold in range(max(least, base - 1), base + 2):
            ahead = front.step(pair, threshold)
            line = _tail_safe(pair, safe.then(threshold), ahead, budget)
            if line is None:
                continue
            cost = float(walk(Lines(line, crash), [pair.p0]).trials[0])
            if best is None or cost < best[0] * (1 - 1e-12):
                best = (cost, threshold, line, ahead)
        if best is None:
            break
        safe, front = best[2], best[3]
    return safe


def _tune_crash(pair: Pair, safe: Line, crash: Line, budget: float) -> Line:
    front = CrashFront.start()
    for level in range(1, LEVELS + 1):
        if crash_risk(pair, crash, front) > budget * _SPENT:
            break
        base, least = max(crash.at(level), 0), front.trials
        best: tuple[float, int, Line, CrashFront] | None = None
        for threshold in range(max(least, base - 1), max(least, base) + 2):
            ahead = front.step(pair, threshold)
            line = _tail_crash(pair, crash.then(threshold), ahead, budget)
            if line is None:
                continue
            cost = float(walk(Lines(safe, line), [pair.p1]).trials[0])
            if best is None or cost < best[0] * (1 - 1e-12):
                best = (cost, threshold, line, ahead)
        if best is None:
            break
        crash, front = best[2], best[3]
    return crash
