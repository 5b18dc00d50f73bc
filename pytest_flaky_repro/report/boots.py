"""What is said of verdicts whose trials shared boots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats.bounds import zero_crash_upper
from pytest_flaky_repro.stats.clusters import Basis, cheapest_size, design_effect, trial_rate
from pytest_flaky_repro.stats.statement import confidence, downwards, percent, safe_bound, upwards

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.verdict import SharedBoots, Verdict

UNKNOWN = 0.02  # an interval that reaches so near to 0 and to 1 says nothing


def word(verdict: Verdict, shared: SharedBoots) -> str:
    """``SAFE (0/59 boots, 412 trials, <= 5.0% of boots at 95%)``.

    With a correlation that was asked for the bound is one of trials, as the question was.
    """
    counts = f"{verdict.crashes}/{verdict.intact} boots, {shared.trials.trials_low} trials"
    if verdict.conclusion is Conclusion.INFRASTRUCTURE:
        return "INFRASTRUCTURE"
    if verdict.conclusion is not Conclusion.SAFE:
        return f"{verdict.conclusion.name} ({counts})"
    sure = confidence(verdict.design.confidence_safe)
    if shared.basis is Basis.BOUNDED:
        return f"SAFE ({counts}, rate <= {_bound_of_trials(verdict, shared)} at {sure})"
    bound = upwards(safe_bound(verdict.design, verdict.tally))
    return f"SAFE ({counts}, <= {bound} of boots at {sure})"


def _bound_of_trials(verdict: Verdict, shared: SharedBoots) -> str:
    """What the bound on boots says of trials, at the correlation that was vouched for."""
    bound = safe_bound(verdict.design, verdict.tally)
    return upwards(trial_rate(bound, shared.assumed, shared.size))


def meaning_of_safe(verdict: Verdict, shared: SharedBoots, condition: str) -> str:
    """The condition under which *safe* would have been said wrongly, and how often."""
    design, asked = verdict.design, shared.asked
    often = f"this would have been said with probability at most {percent(design.error_safe)}"
    if shared.basis is Basis.BOOTS:
        default = " (default)" * (verdict.min_rate_source == "default")
        return (
            f"If {percent(asked.min_rate)}{default} or more of the trials in a fresh boot crashed "
            f"({condition}), {often}, however crashes cluster by boot: each boot counts once."
        )
    if shared.basis is Basis.BOUNDED:
        return (
            f"If {percent(asked.min_rate)} or more of the trials crashed ({condition}), and two "
            f"trials of one boot correlate by {shared.assumed:g} at most, {often}. That bound is "
            "taken on your word (--repro-correlation): nothing here has tested it."
        )
    return (
        f"If {percent(design.min_rate)} or more of the boots of up to {shared.size} trials showed "
        f"a crash, as the known-bad kernel's do ({verdict.min_rate_source}; {condition}), {often}, "
        "however crashes cluster by boot."
    )


def lines(verdict: Verdict, shared: SharedBoots) -> list[str]:
    """How many boots and trials, how alike trials of one boot were, what would be cheaper."""
    trials, boots = shared.trials.trials_low, verdict.intact
    said = [f"{boots} boots ({shared.how}) took {trials} trials, at most {shared.size} each."]
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


def _correlation(shared: SharedBoots) -> list[str]:
    seen = shared.correlation
    if not seen.dead_boots:
        return ["No boot has crashed, so nothing is known of how crashes cluster by boot."]
    dead = f"{seen.dead_boots} dead of {seen.boots} boots"
    if seen.lower < UNKNOWN and seen.upper > 1 - UNKNOWN:
        return [f"How crashes cluster by boot cannot be told yet ({dead})."]
    size = cheapest_size(seen.upper, shared.boot_s, shared.trial_s)
    advice = f"{size} trials a boot (--repro-batch)" if size > 1 else "cold boots (--repro-boot)"
    said = (
        f"Correlation of crashes within a boot: about {percent(seen.estimate)}, from "
        f"{downwards(seen.lower)} to {upwards(seen.upper)} at {confidence(seen.confidence)} each "
        f"({dead}; beta-binomial model). Were it at the upper bound, {advice} would be cheapest."
    )
    return [said]
