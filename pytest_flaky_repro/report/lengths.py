"""What a calibration says about the trials' length, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.duration import LEVEL, Hazard
from pytest_flaky_repro.stats.statement import percent

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.verdict import Verdict
    from pytest_flaky_repro.stats.duration import Advice


def lines(verdict: Verdict) -> list[str]:
    """The length that is, or would be, best, and when crashes come; nothing if not known."""
    advice = verdict.advice
    if advice is None:
        return []
    best, share = advice.length, percent(advice.length.cost)
    said = []
    if best.seconds == verdict.subject.trial_time < advice.longest:
        said.append(
            f"The trial time, {best.seconds:g} s, was chosen by {advice.crashes} crashes in trials "
            f"of up to {advice.longest:g} s: about {share} of the machine time to 'safe'. The "
            "crash rate was then learned anew, at that length."
        )
    elif best.seconds < advice.longest:
        said.append(
            f"Trials of {best.seconds:g} s would bring 'safe' in about {share} of the machine "
            f"time of {advice.longest:g} s: --repro-trial-time auto calibrates anew at such a "
            "length (the rate learned here is not theirs)."
        )
    return said + _when(advice)


def _when(advice: Advice) -> list[str]:
    """Where the hazard is not constant: what of it, and what to do."""
    test = (
        f"(a constant hazard is rejected at a level of {percent(LEVEL)}, p = {advice.p_value:.2g})"
    )
    if advice.hazard is Hazard.RISING:
        said = (
            f"Crashes come late in a trial {test}: there is a warm-up, so shorter trials would "
            "hardly ever crash, and longer ones may crash much more often: try "
            f"--repro-trial-time auto:{4 * advice.longest:g}."
        )
        return [said]
    if advice.hazard is Hazard.FALLING:
        said = (
            f"Crashes come early in a trial, or not at all {test}: what has survived its first "
            "seconds seldom crashes later, so more boots find this bug, not longer trials."
        )
        return [said]
    return []
