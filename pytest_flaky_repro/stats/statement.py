"""What a verdict means, in one sentence that carries its condition.

A verdict speaks of the procedure, never of the kernel: no probability that *this* kernel is
fixed can be had without a prior, so no sentence here attaches the confidence to the kernel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.bounds import clean_trials_needed, e_values, rate_bounds
from pytest_flaky_repro.stats.plan import Decision

if TYPE_CHECKING:
    from pytest_flaky_repro.stats.design import Design
    from pytest_flaky_repro.stats.plan import Plan
    from pytest_flaky_repro.stats.tally import Tally


def meaning(design: Design, decision: Decision, where: str = "here") -> str:
    """Say what a decision means; ``where`` names hosts, reproducer and trial time."""
    if decision is Decision.SAFE:
        return (
            f"if the crash rate per trial were {design.min_rate:g} or more {where}, this would "
            f"have been said with probability at most {design.error_safe:g}"
        )
    if decision is Decision.CRASHES and design.noise == 0:
        return f"a crash was seen {where}, and a healthy kernel was taken never to show one"
    if decision is Decision.CRASHES:
        return (
            f"if the crash rate per trial were {design.noise:g} or less {where}, this would "
            f"have been said with probability at most {design.error_crash:g}"
        )
    return f"neither a crash rate of {design.min_rate:g} nor one of {design.noise:g} is ruled out"


def so_far(plan: Plan, tally: Tally, confidence: float) -> str:
    """Say what an unfinished campaign has ruled out and what it still needs."""
    bounds, values = rate_bounds(tally, confidence), e_values(plan.design, tally)
    needed = clean_trials_needed(plan, tally)
    ahead = "no number of clean trials" if needed is None else f"{needed} more clean trials"
    crashes = "1 crash" if tally.crashes == 1 else f"{tally.crashes} crashes"
    return (
        f"{crashes} in {tally.trials_low} intact trials"
        f"{f' and {tally.lost} lost' if tally.lost else ''}; rate between {bounds.lower:.3g} and "
        f"{bounds.upper:.3g} (each bound fails with probability at most {1 - confidence:.3g}, "
        f"at any stop); evidence against {plan.design.min_rate:g} or more: "
        f"{values.against_min_rate:.3g}, against {plan.design.noise:g} or less: "
        f"{values.against_noise:.3g}; {ahead} would make it safe"
    )
