"""Verdicts in words. Every sentence carries its condition; none says how sure anything *is*.

A verdict of *safe* at confidence C means: if the crash rate were p1 or more, this would have been
said with probability at most 1 - C. It is no probability that the kernel is fixed.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_flaky_repro.outcomes import Conclusion, Outcome
from pytest_flaky_repro.report import boots, lengths
from pytest_flaky_repro.stats import statement
from pytest_flaky_repro.stats.bounds import e_values, rate_bounds
from pytest_flaky_repro.stats.budget import rate_excluded_with_losses
from pytest_flaky_repro.stats.compare import Difference
from pytest_flaky_repro.stats.design import complement
from pytest_flaky_repro.stats.statement import (
    confidence,
    counted,
    downwards,
    percent,
    printable,
    upwards,
)
from pytest_flaky_repro.stats.tally import Tally

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.comparison import ComparisonVerdict
    from pytest_flaky_repro.campaign.verdict import KindCount, Verdict
    from pytest_flaky_repro.settings import Settings

__all__ = [
    "again",
    "comparison_explanation",
    "comparison_word",
    "confidence",
    "console_tail",
    "counted",
    "downwards",
    "duration",
    "explanation",
    "headline",
    "kind_rate",
    "percent",
    "printable",
    "rate_bounds_said",
    "safe_bound",
    "upwards",
    "word",
]


_OUTPUTS = ("--repro-html", "--repro-metrics")  # who repeats one test keeps the run's


def word(verdict: Verdict) -> str:
    """The verdict as the word beside a test's name."""
    if verdict.shared is not None:
        return boots.word(verdict, verdict.shared)
    return statement.word(verdict.conclusion, verdict.design, verdict.tally)


def safe_bound(verdict: Verdict) -> float:
    """The crash rate that *safe* rules out: what the data reached, at most the rate asked for."""
    return statement.safe_bound(verdict.design, verdict.tally)


def headline(verdict: Verdict) -> str:
    """One line: the verdict, the counts, what ended it."""
    counts = f"{verdict.crashes} crashed of {counted(verdict.intact, verdict.unit)}"
    if verdict.shared is not None:
        counts += f" ({counted(verdict.shared.trials.trials_low, 'trials')})"
    spent = [f"{verdict.lost} lost"] * bool(verdict.lost) + [f"{verdict.void} void"] * bool(
        verdict.void
    )
    extra = f" (and {', '.join(spent)})" if spent else ""
    return f"{verdict.conclusion.value}: {counts}{extra}: {printable(verdict.why)}"


def explanation(verdict: Verdict) -> list[str]:
    """What the verdict means, and what it does not."""
    explain = {
        Conclusion.SAFE: _explain_safe,
        Conclusion.CRASHES: _explain_crashes,
        Conclusion.INCONCLUSIVE: _explain_inconclusive,
        Conclusion.INFRASTRUCTURE: _explain_infrastructure,
    }
    said = explain[verdict.conclusion](verdict)
    if verdict.shared is not None:
        said += boots.lines(verdict, verdict.shared)
    if verdict.note:
        said.append(f"{verdict.note[:1].upper()}{verdict.note[1:]}.")
    return said + _resumed(verdict) + lengths.lines(verdict)


def _resumed(verdict: Verdict | ComparisonVerdict) -> list[str]:
    """What ``--repro-resume`` brought: trials of another folder or name are easily taken for it."""
    if verdict.earlier is None:
        return []
    if verdict.earlier:
        trials = "1 trial is" if verdict.earlier == 1 else f"{verdict.earlier} trials are"
        return [f"{trials} from an earlier run (--repro-resume)."]
    folder = printable(str(verdict.evidence.parent))
    return [f"--repro-resume: nothing to go on from in {folder}: started anew."]


def _rate_source(verdict: Verdict) -> str:
    """Where the minimum rate comes from, where that is worth a word."""
    source = verdict.min_rate_source
    if verdict.calibration is not None:
        return f"from the known-bad kernel {source}"
    return "default" if source == "default" else ""


def _condition(verdict: Verdict) -> str:
    subject = verdict.subject
    cpus = "1 CPU" if subject.smp == 1 else f"{subject.smp} CPUs"
    return (
        f"with this reproducer, {cpus}, trials of up to {subject.trial_time:g} s, and these hosts"
    )


def _meaning_of_safe(verdict: Verdict) -> str:
    if verdict.shared is not None:
        source, condition = verdict.min_rate_source, _condition(verdict)
        return boots.meaning_of_safe(verdict.design, verdict.shared, condition, source)
    source = _rate_source(verdict)
    return statement.meaning(Conclusion.SAFE, verdict.design, _condition(verdict), source)


def _explain_safe(verdict: Verdict) -> list[str]:
    design = verdict.design
    lines = [
        _meaning_of_safe(verdict),
        (
            f"The data rule out a crash rate above {upwards(safe_bound(verdict))} "
            f"{'of boots ' * (verdict.shared is not None)}"
            f"at confidence {confidence(design.confidence_safe)}."
        ),
    ]
    if verdict.calibration is not None and verdict.control is not None:
        lines.append(
            f"The known-bad kernel crashed in {verdict.control.crashes} of "
            f"{counted(verdict.control.trials, verdict.unit)} run between these: it still crashes "
            "here."
        )
    elif verdict.calibration is not None:
        lines.append(
            "No trials of the known-bad kernel were run between these (--repro-control-every 0): "
            "a host that hides the crash would not have been noticed."
        )
    lost, void = verdict.lost, verdict.void
    if lost + void:
        tally = Tally(verdict.intact, verdict.intact + lost, verdict.crashes)
        total = rate_excluded_with_losses(design, tally, void)
        was = "was" if lost == 1 else "were"
        lines.append(
            f"{counted(lost, 'trials')} {was} lost after START and {void} never started: if the "
            f"bug hides behind those, only a total rate of {upwards(total)} or more is ruled out."
        )
    return lines


def _explain_crashes(verdict: Verdict) -> list[str]:
    design = verdict.design
    of_trials = " of trials" if verdict.shared is not None else ""
    bound = f"The crash rate{of_trials} is at least {downwards(verdict.rate_lower)} at confidence "
    lines = [statement.meaning(Conclusion.CRASHES, design, unit=verdict.unit)]
    if verdict.rate_lower > 0:
        lines.append(f"{bound}{confidence(design.confidence_crash)}.")
    return lines


def _explain_inconclusive(verdict: Verdict) -> list[str]:
    design = verdict.design
    lines = []
    if verdict.intact:
        lines.append(
            f"So far a crash rate above {upwards(verdict.rate_upper)} "
            f"{'of boots ' * (verdict.shared is not None)}"
            f"is ruled out at confidence {confidence(design.confidence_safe)}."
        )
    if verdict.calibrates:  # no minimum rate was asked about
        return [*lines, _more_of_calibration(verdict), *_if_hangs_count(verdict)]
    if verdict.intact:
        values = e_values(design, verdict.tally)
        against_noise = f"; against {percent(design.noise)} or less: {values.against_noise:.3g}"
        lines.append(
            f"Evidence (e-values) against a rate of {percent(design.min_rate)} or more: "
            f"{values.against_min_rate:.3g}{against_noise if design.noise else ''}."
        )
    source = _rate_source(verdict)
    if verdict.still_needed is not None:
        lines.append(
            f"{counted(verdict.still_needed, f'more surviving {verdict.unit}')} would make it safe "
            f"at {percent(design.min_rate)}{f' ({source})' if source else ''}; go on with "
            "--repro-resume, and a larger budget if it was spent."
        )
    return lines + _if_hangs_count(verdict)


def _more_of_calibration(verdict: Verdict) -> str:
    return (
        "To learn its rate, allow it more trials (--repro-calibrate-trials) or longer ones, in "
        f"which more crash (--repro-trial-time, {verdict.subject.trial_time:g} s here), or ask for "
        "fewer crashes (--repro-calibrate-crashes). Does it crash at all with this reproducer: "
        "test it by --kernel first."
    )


def kind_rate(verdict: Verdict, kind: KindCount) -> str:
    """How often this kind of crash is seen: an interval that holds whenever one stopped."""
    sure = verdict.design.confidence_safe
    trials = Tally(verdict.intact, verdict.tally.trials_high, min(kind.count, verdict.intact))
    side = 1.0 - complement(sure) / 2
    bounds = rate_bounds(trials, side, verdict.unknown)
    rate = f"{downwards(bounds.lower)} to {upwards(bounds.upper)} of {verdict.unit}"
    return f"{rate} at {confidence(sure)}"


def rate_bounds_said(verdict: Verdict) -> tuple[str, str]:
    """``1.7% or more`` and ``51% or less``, of trials or boots where that is not plain."""
    least, most = boots.bounds_said(verdict.rate_lower, verdict.rate_upper, verdict.shared)
    return f"{least} or more", f"{most} or less"


def comparison_word(verdict: ComparisonVerdict) -> str:
    """What a comparison found, in a few words."""
    a, b = verdict.a.kernel, verdict.b.kernel
    said = {
        Difference.A_CRASHES_MORE: f"{a} CRASHES MORE THAN {b}",
        Difference.B_CRASHES_MORE: f"{b} CRASHES MORE THAN {a}",
        Difference.NOT_SHOWN: "NO DIFFERENCE SHOWN",
    }[verdict.difference]
    return f"{said} ({verdict.crashes_a} and {verdict.crashes_b} of {verdict.pairs} each)"


def comparison_explanation(verdict: ComparisonVerdict) -> list[str]:
    """What it means, with both intervals."""
    sure = confidence(verdict.confidence)
    error = percent(complement(verdict.confidence))
    lines = [
        f"{side.kernel}: rate between {downwards(rate.lower)} and {upwards(rate.upper)} at {sure}"
        for side, rate in ((verdict.a, verdict.rate_a), (verdict.b, verdict.rate_b))
    ]
    if verdict.difference is Difference.NOT_SHOWN:
        lines.append("Not shown is not equal: more pairs might show a difference.")
        return lines + _resumed(verdict)
    said = f"this would have been said with probability at most {error}."
    return [*lines, f"If the rates were equal, {said}", *_resumed(verdict)]


def _explain_infrastructure(verdict: Verdict) -> list[str]:
    return [statement.meaning(Conclusion.INFRASTRUCTURE, verdict.design), *_if_hangs_count(verdict)]


def _if_hangs_count(verdict: Verdict) -> list[str]:
    """For those who are after a kernel that hangs."""
    hung = sum(trial.outcome is Outcome.HUNG for trial in verdict.trials)
    if not hung or hung > verdict.lost:  # the latter: they are counted
        return []
    trials = counted(hung, "trials")
    return [f"{trials} hung, which proves nothing by itself: --repro-hung crash counts that."]


def duration(seconds: float) -> str:
    """90 s, 12 min, 3.1 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def again(nodeid: str, settings: Settings, extra: Mapping[str, str] | None = None) -> str:
    """The command that runs one test again with the same settings."""
    words = ["pytest"]
    if "::" in nodeid:
        words.append(nodeid)
    given = {k: v for k, v in settings.given().items() if k not in _OUTPUTS}
    for name, value in {**given, **(extra or {})}.items():
        words += [f"{name}={part}" for part in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def console_tail(console: bytes, lines: int = 25) -> list[str]:
    """The end of a console, safe to print."""
    text = console[-16384:].decode("utf-8", "replace").replace("\r", "")
    return [printable(line)[:300] for line in text.strip("\n").split("\n")[-lines:]]
