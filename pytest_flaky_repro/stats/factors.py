"""What matters? Crash rates over a small full factorial design, with stated error.

Every round launches each combination of levels once. For each factor, each level is compared
with the factor's first level inside every combination of the others (a stratum), by the paired
e-process of compare.py. Strata are combined half by product (the same effect everywhere adds
up) and half by average (an effect in one stratum alone still shows); both are e-processes, and
so is their mean. With m effects in the table one is called at m / a, so that the chance of any
wrong call in the whole table, at any stop, is at most a.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats.compare import Comparison, Difference
from pytest_flaky_repro.stats.design import complement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Cell = tuple[str, ...]
"""One level of each factor, in the order of the factors."""


@dataclass(frozen=True)
class Effect:
    """One level against the first level of its factor, over all strata.

    ``difference`` reads a as the baseline and b as the level; ``pairs`` counts pairs in which
    both trials came to a verdict.
    """

    factor: str
    baseline: str
    level: str
    pairs: int
    crashes_baseline: int
    crashes_level: int
    log_e: float
    difference: Difference


def cells(factors: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Every combination of levels; one round launches each once, in this order."""
    for name, levels in factors.items():
        if len(set(levels)) != len(levels) or len(levels) < 2:
            raise UsageError(f"factor {name!r} needs two or more different levels, got {levels!r}")
    if not factors:
        raise UsageError("a factorial design needs at least one factor")
    return list(itertools.product(*factors.values()))


def effects(
    factors: Mapping[str, Sequence[str]],
    rounds: Sequence[Mapping[Cell, Vote]],
    confidence: float = 0.95,
) -> list[Effect]:
    """Compute the whole table; a cell missing from a round counts as void there."""
    combinations = cells(factors)
    contrasts = [
        (index, level)
        for index, levels in enumerate(factors.values())
        for level in list(levels)[1:]
    ]
    limit = math.log(len(contrasts)) - math.log(complement(confidence))
    table = []
    for index, level in contrasts:
        name = list(factors)[index]
        baseline = factors[name][0]
        strata = [
            Comparison.of(
                (
                    seen.get(cell, Vote.VOID),
                    seen.get((*cell[:index], level, *cell[index + 1 :]), Vote.VOID),
                )
                for seen in rounds
            )
            for cell in combinations
            if cell[index] == baseline
        ]
        table.append(_effect(name, baseline, level, strata, limit))
    return table


def _effect(
    factor: str, baseline: str, level: str, strata: Sequence[Comparison], limit: float
) -> Effect:
    crashes_a = sum(stratum.crashes_a for stratum in strata)
    crashes_b = sum(stratum.crashes_b for stratum in strata)
    product = sum(stratum.log_e for stratum in strata)
    highest = max(stratum.log_e for stratum in strata)
    total = math.fsum(math.exp(stratum.log_e - highest) for stratum in strata)
    average = highest + math.log(total / len(strata))
    top = max(product, average)
    log_e = top + math.log(0.5 * (math.exp(product - top) + math.exp(average - top)))
    difference = Difference.NOT_SHOWN
    if log_e >= limit:
        more_a = crashes_a > crashes_b
        difference = Difference.A_CRASHES_MORE if more_a else Difference.B_CRASHES_MORE
    pairs = sum(stratum.pairs for stratum in strata)
    return Effect(factor, baseline, level, pairs, crashes_a, crashes_b, log_e, difference)
