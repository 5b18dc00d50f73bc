"""Many kernels, one set of promises.

``none``: each kernel keeps its own confidences; m kernels make up to m times the wrong calls.
``bonferroni``: each kernel is judged at error/m, fixed before the first trial; the chance of
any wrong call stays within the error (C. E. Bonferroni 1936). ``ebh``: e-values, one per
kernel, judged together; the expected share of wrong calls among those made stays within the
error, under any dependence (R. Wang and A. Ramdas, J. R. Statist. Soc. B 84, 2022, 822-852).
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flaky_repro.stats.design import Design


class FamilyRule(enum.Enum):
    """How the error is shared over a family of kernels."""

    NONE = "none"
    BONFERRONI = "bonferroni"
    EBH = "ebh"


@dataclass(frozen=True)
class FalseCalls:
    """What to expect at worst over a whole family, each side by itself.

    ``expected`` bounds the mean number of wrong verdicts, ``any_chance`` the chance of one or
    more, ``share`` the expected wrong share among the verdicts of that side; NaN where the rule
    promises nothing.
    """

    expected: float
    any_chance: float
    share: float


def member_design(design: Design, members: int, rule: FamilyRule) -> Design:
    """Return the design for each of ``members`` kernels, all declared up front."""
    _count(members)
    if rule is not FamilyRule.BONFERRONI:
        return design
    return replace(
        design,
        confidence_safe=1.0 - design.error_safe / members,
        confidence_crash=1.0 - design.error_crash / members,
    )


def false_calls(error: float, members: int, rule: FamilyRule) -> FalseCalls:
    """Bound the wrong verdicts of one side, whichever kernels are bad."""
    _count(members)
    if rule is FamilyRule.BONFERRONI:
        return FalseCalls(expected=error, any_chance=error, share=error)
    if rule is FamilyRule.EBH:
        return FalseCalls(expected=math.nan, any_chance=math.nan, share=error)
    return FalseCalls(
        expected=members * error,
        any_chance=min(1.0, members * error),
        share=math.nan,
    )


def e_bh(log_e_values: Sequence[float], error: float) -> frozenset[int]:
    """Return the positions that e-BH rejects at false discovery rate ``error``.

    The k largest e-values, for the largest k whose k-th is at least m / (k * error). Each
    e-value must be the one in place where its kernel stopped: a running maximum of an
    e-process is no e-value, and the rate would not be kept.
    """
    if not 0.0 < error < 1.0:
        raise UsageError(f"an error must lie strictly between 0 and 1, got {error!r}")
    members = len(log_e_values)
    if any(math.isnan(value) for value in log_e_values):
        raise UsageError("an e-value is not a number")
    order = sorted(range(members), key=lambda index: (-log_e_values[index], index))
    called = 0
    for rank, index in enumerate(order, start=1):
        if log_e_values[index] >= math.log(members / (rank * error)) - 1e-12:
            called = rank
    return frozenset(order[:called])


def _count(members: int) -> None:
    if members < 1:
        raise UsageError(f"a family needs at least one kernel, got {members}")
