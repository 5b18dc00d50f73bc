"""What is said of verdicts whose trials shared boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats.bounds import zero_crash_upper
from pytest_flaky_repro.stats.clusters import Basis, cheapest_size, design_effect, trial_rate
from pytest_flaky_repro.stats.statement import (
    confidence,
    counted,
    downwards,
    percent,
    safe_bound,
    upwards,
)

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.verdict import SharedBoots, Verdict
    from pytest_flaky_repro.stats.clusters import Correlation
    from pytest_flaky_repro.stats.design import Design
    from pytest_flaky_repro.stats.tally import Tally

UNKNOWN = 0.02  # an interval that reaches so near to 0 and to 1 says nothing


def word(verdict: Verdict, shared: SharedBoots) -> str:
    """``SAFE (0/59 boots, 412 trials, <= 5.0% of boots at 95%)``.

    With a correlation that was asked for the bound is one of trials, as the question was.
    """
    counts = f"{verdict.crashes}/{counted_boots(verdict.tally, shared)}"
    if verdict.conclusion is Conclusion.INFRASTRUCTURE:
        return "INFRASTRUCTURE"
    if verdict.conclusion is not Conclusion.SAFE:
        return f"{verdict.conclusion.name} ({counts})"
    sure = confidence(verdict.design.confidence_safe)
    if shared.basis is Basis.BOUNDED:
        return f"SAFE ({counts}, rate <= {_bound_of_trials(verdict, shared)} at {sure})"
    bound = upwards(safe_bound(verdict.design, verdict.tally))
    return f"SAFE ({counts}, <= {bound} of boots at {sure})"


def counted_boots(tally: Tally, shared: SharedBoots) -> str:
    """``59 boots, 412 trials``."""
    trials = counted(shared.trials.trials_low, "trials")
    return f"{counted(tally.trials_low, 'boots')}, {trials}"


def bounds_said(lower: float, upper: float, shared: SharedBoots | None) -> tuple[str, str]:
    """Both bounds of a crash rate, each with what it is a rate of where that is not plain."""
    of_trials, of_boots = (" of trials", " of boots") if shared is not None else ("", "")
    return f"{downwards(lower)}{of_trials}", f"{upwards(upper)}{of_boots}"


def _bound_of_trials(verdict: Verdict, shared: SharedBoots) -> str:
    """What the bound on boots says of trials, at the correlation that was vouched for."""
    bound = safe_bound(verdict.design, verdict.tally)
    return upwards(trial_rate(bound, shared.assumed, shared.size))


def meaning_of_safe(
    design: Design, shared: SharedBoots, condition: str = "", source: str = ""
) -> str:
    """The condition under which *safe* would have been said wrongly, and how often.

    ``source`` says where the minimum rate comes from.
    """
    asked, where = shared.asked, f" ({condition})" if condition else ""
    often = f"this would have been said with probability at most {percent(design.error_safe)}"
    if shared.basis is Basis.BOOTS:
        default = " (default)" * (source == "default")
        return (
            f"If {percent(asked.min_rate)}{default} or more of the trials in a fresh boot crashed"
            f"{where}, {often}, however crashes cluster by boot: each boot counts once."
        )
    if shared.basis is Basis.BOUNDED:
        return (
            f"If {percent(asked.min_rate)} or more of the trials crashed{where}, and two "
            f"trials of one boot correlate by {shared.assumed:g} at most, {often}. That bound is "
            "taken on your word (--repro-correlation): nothing here has tested it."
        )
    known = f", as the known-bad kernel's do ({source}{'; ' * bool(condition)}{condition})"
    return (
        f"If {percent(design.min_rate)} or more of the boots of up to {shared.size} trials showed "
        f"a crash{known if source else where}, {often}, however crashes cluster by boot."
    )


def lines(verdict: Verdict, shared: SharedBoots) -> list[str]:
    """How many boots and trials, how alike trials of one boot were, what would be cheaper."""
    trials, boots = shared.trials.trials_low, verdict.intact
    took = f"{counted(boots, 'boots')} ({shared.how}) took {counted(trials, 'trials')}"
    said = [f"{took}, at most {shared.size} each."]
    clean = verdict.conclusion is Conclusion.SAFE and not shared.trials.crashes
    if clean and trials and shared.basis is Basis.BOOTS:
        sure = verdict.design.confidence_safe
        said.append(
            f"Were the trials of one boot independent, {upwards(zero_crash_upper(trials, sure))} "
            "would be ruled out: that they are is not known."
        )
    if clean and shared.basis is Basis.BOUNDED:
        said.append(
            f"For trials, that is {_bound_of_trials(verdict, shared)}; a "
            "boot counts as many independent trials as its design effect of "
            f"{design_effect(shared.asked.min_rate, shared.assumed, shared.size):.2g} leaves."
        )
    if shared.basis is Basis.BOOTS and verdict.conclusion is not Conclusion.CRASHES:
        said.append(
            "With a known-bad kernel (--repro-calibrate NAME=PATH) whole boots count, and far "
            "fewer of them may do."
        )
    return [*said, *_correlation(shared)]


def is_known(seen: Correlation) -> bool:
    """Whether anything can be told of how crashes cluster by boot."""
    return bool(seen.dead_boots) and not (seen.lower < UNKNOWN and seen.upper > 1 - UNKNOWN)


def _correlation(shared: SharedBoots) -> list[str]:
    seen = shared.correlation
    if not seen.dead_boots:
        return ["No boot has crashed, so nothing is known of how crashes cluster by boot."]
    dead = f"{seen.dead_boots} dead of {counted(seen.boots, 'boots')}"
    if not is_known(seen):
        return [f"How crashes cluster by boot cannot be told yet ({dead})."]
    size = cheapest_size(seen.upper, shared.boot_s, shared.trial_s)
    advice = f"{size} trials a boot (--repro-batch)" if size > 1 else "cold boots (--repro-boot)"
    said = (
        f"Correlation of crashes within a boot: about {percent(seen.estimate)}, from "
        f"{downwards(seen.lower)} to {upwards(seen.upper)} at {confidence(seen.confidence)} each "
        f"({dead}; beta-binomial model). Were it at the upper bound, {advice} would be cheapest."
    )
    return [said]
