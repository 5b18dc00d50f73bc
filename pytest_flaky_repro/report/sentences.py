"""Verdicts in words. Every sentence carries its condition; none says how sure anything *is*.

A verdict of *safe* at confidence C means: if the crash rate were p1 or more, this would have been
said with probability at most 1 - C. It is no probability that the kernel is fixed.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from typing import TYPE_CHECKING

from pytest_flaky_repro.evidence import UNFINISHED
from pytest_flaky_repro.machine.conversation import STOPPED
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.stats.bounds import e_values, rate_bounds, zero_crash_upper
from pytest_flaky_repro.stats.budget import rate_excluded_with_losses
from pytest_flaky_repro.stats.compare import Difference
from pytest_flaky_repro.stats.design import complement
from pytest_flaky_repro.stats.tally import Tally

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.comparison import ComparisonVerdict
    from pytest_flaky_repro.campaign.loop import Snapshot
    from pytest_flaky_repro.campaign.verdict import KindCount, Verdict
    from pytest_flaky_repro.settings import Settings

_UNPRINTABLE = re.compile(r"[^\t\n\x20-\x7e\u00a1-\u2027\u2030-\u205f\u2070-\ud7ff]")


def percent(rate: float) -> str:
    """0.0099829 -> '1.0%', 0.00012 -> '0.012%'."""
    value = 100 * rate
    if value >= 10 or value == 0:
        return f"{value:.0f}%"
    return f"{value:.1f}%" if value >= 0.95 else f"{value:.2g}%"


def upwards(rate: float) -> str:
    """A percentage that is never below ``rate``: an upper bound may be rounded up only."""
    shown = percent(rate)
    if float(shown[:-1]) >= 100 * rate * (1 - 1e-12):
        return shown
    digits = 0 if 100 * rate >= 10 else 1 if 100 * rate >= 0.95 else 3
    return f"{100 * rate + 0.5 * 10**-digits:.{digits}f}%"


def downwards(rate: float) -> str:
    """A percentage that is never above ``rate``: a lower bound may be rounded down only."""
    shown = percent(rate)
    if float(shown[:-1]) <= 100 * rate * (1 + 1e-12):
        return shown
    value = Decimal(100 * rate)
    digits = 0 if value >= 10 else 1 - value.adjusted()
    return f"{value.quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR):f}%"


def confidence(value: float) -> str:
    """0.99 -> '99%', 0.999 -> '99.9%'."""
    return f"{100 * value:.10g}%"


def printable(text: str) -> str:
    """Guest text with everything that could move a terminal's cursor made visible."""
    return _UNPRINTABLE.sub(lambda m: f"\\x{ord(m[0]):02x}", text)


def word(verdict: Verdict) -> str:
    """The verdict as the word beside a test's name."""
    design = verdict.design
    if verdict.conclusion is Conclusion.SAFE:
        bound = f"rate <= {upwards(safe_bound(verdict))} at {confidence(design.confidence_safe)}"
        return f"SAFE ({verdict.crashes}/{verdict.intact}, {bound})"
    if verdict.conclusion is Conclusion.CRASHES:
        return f"CRASHES ({verdict.crashes}/{verdict.intact})"
    if verdict.conclusion is Conclusion.INCONCLUSIVE:
        return f"INCONCLUSIVE ({verdict.crashes}/{verdict.intact})"
    return "INFRASTRUCTURE"


def safe_bound(verdict: Verdict) -> float:
    """The crash rate that *safe* rules out: what the data reached, at most the rate asked for."""
    if verdict.crashes == 0 and verdict.intact:
        return zero_crash_upper(verdict.intact, verdict.design.confidence_safe)
    return verdict.design.min_rate


def headline(verdict: Verdict) -> str:
    """One line: the verdict, the counts, what ended it."""
    counts = f"{verdict.crashes} crashed of {verdict.intact} trials"
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
    return explain[verdict.conclusion](verdict)


def _min_rate(verdict: Verdict) -> str:
    source = verdict.min_rate_source
    if verdict.calibration is not None:
        return f"{percent(verdict.design.min_rate)} (from the known-bad kernel {source})"
    return f"{percent(verdict.design.min_rate)}{' (default)' * (source == 'default')}"


def _condition(verdict: Verdict) -> str:
    subject = verdict.subject
    cpus = "1 CPU" if subject.smp == 1 else f"{subject.smp} CPUs"
    return (
        f"with this reproducer, {cpus}, trials of up to {subject.trial_time:g} s, and these hosts"
    )


def _explain_safe(verdict: Verdict) -> list[str]:
    design = verdict.design
    lines = [
        (
            f"If {_min_rate(verdict)} or more of the trials crashed ({_condition(verdict)}), "
            f"this would have been said with probability at most {percent(design.error_safe)}."
        ),
        (
            f"The data rule out a crash rate above {upwards(safe_bound(verdict))} "
            f"at confidence {confidence(design.confidence_safe)}."
        ),
    ]
    if verdict.calibration is not None and verdict.control is not None:
        lines.append(
            f"The known-bad kernel crashed in {verdict.control.crashes} of "
            f"{verdict.control.trials} trials run between these: it still crashes here."
        )
    elif verdict.calibration is not None:
        lines.append(
            "No trials of the known-bad kernel were run between these (--repro-control-every 0): "
            "a host that hides the crash would not have been noticed."
        )
    lost, void = _unexplained(verdict)
    if lost + void:
        tally = Tally(verdict.intact, verdict.intact + lost, verdict.crashes)
        total = rate_excluded_with_losses(design, tally, void)
        lines.append(
            f"{lost} trials were lost after START and {void} never started: if the "
            f"bug hides behind those, only a total rate of {upwards(total)} or more is ruled out."
        )
    return lines


def _unexplained(verdict: Verdict) -> tuple[int, int]:
    """Lost and void trials that no interruption of ours explains."""
    votes = [
        trial.outcome.vote
        for trial in verdict.trials
        if trial.arm == "test" and trial.detail not in (STOPPED, UNFINISHED)
    ]
    return votes.count(Vote.LOST), votes.count(Vote.VOID)


def _explain_crashes(verdict: Verdict) -> list[str]:
    design = verdict.design
    bound = f"The crash rate is at least {downwards(verdict.rate_lower)} at confidence "
    lines = []
    if design.noise == 0:
        lines.append("With a noise floor of 0 (--repro-noise), one crash is proof.")
    else:
        lines.append(
            f"If {percent(design.noise)} or fewer of the trials crashed without the kernel's "
            f"fault, this would have been said with probability at most "
            f"{percent(design.error_crash)}."
        )
    if verdict.rate_lower > 0:
        lines.append(f"{bound}{confidence(design.confidence_crash)}.")
    return lines


def _explain_inconclusive(verdict: Verdict) -> list[str]:
    design = verdict.design
    lines = []
    if verdict.intact:
        lines.append(
            f"So far a crash rate above {upwards(verdict.rate_upper)} is ruled out at "
            f"confidence {confidence(design.confidence_safe)}."
        )
        values = e_values(design, verdict.tally)
        against_noise = f"; against {percent(design.noise)} or less: {values.against_noise:.3g}"
        lines.append(
            f"Evidence (e-values) against a rate of {percent(design.min_rate)} or more: "
            f"{values.against_min_rate:.3g}{against_noise if design.noise else ''}."
        )
    if verdict.still_needed is not None:
        lines.append(
            f"{verdict.still_needed} more surviving trials would make it safe at "
            f"{_min_rate(verdict)}; go on with --repro-resume, and a larger budget if it was spent."
        )
    return lines


def kind_rate(verdict: Verdict, kind: KindCount) -> str:
    """How often trials show this kind of crash: an interval that holds whenever one stopped."""
    sure = verdict.design.confidence_safe
    trials = Tally(verdict.intact, verdict.tally.trials_high, min(kind.count, verdict.intact))
    side = 1.0 - complement(sure) / 2
    bounds = rate_bounds(trials, side)
    return f"{downwards(bounds.lower)} to {upwards(bounds.upper)} of trials at {confidence(sure)}"


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
        return [*lines, "Not shown is not equal: more pairs might show a difference."]
    said = f"this would have been said with probability at most {error}."
    return [*lines, f"If the rates were equal, {said}"]


def _explain_infrastructure(verdict: Verdict) -> list[str]:
    del verdict
    return ["Nothing was learned about the kernel: what failed is the harness or its set-up."]


def progress(snapshot: Snapshot) -> str:
    """One line on a running campaign."""
    tally = snapshot.tally
    parts = [f"{tally.trials_low} trials", f"{tally.crashes} crashed"]
    parts += [f"{snapshot.lost} lost"] * bool(snapshot.lost)
    parts += [f"{snapshot.void} void"] * bool(snapshot.void)
    if snapshot.crashes_wanted:
        parts.append(
            f"calibrating: {snapshot.crashes_wanted} crashes wanted, "
            f"at most {snapshot.trials_allowed} trials (--repro-calibrate-trials)"
        )
    if snapshot.needed:
        parts.append(f"safe in {snapshot.needed}")
        done = tally.trials_low
        if done:
            parts.append(f"about {_duration(snapshot.elapsed_s * snapshot.needed / done)}")
    subject = snapshot.subject
    return f"{printable(subject.item)}: {', '.join(parts)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def again(nodeid: str, settings: Settings, extra: Mapping[str, str] | None = None) -> str:
    """The command that runs one test again with the same settings."""
    words = ["pytest"]
    if "::" in nodeid:
        words.append(nodeid)
    for name, value in {**settings.given(), **(extra or {})}.items():
        words += [f"{name}={part}" for part in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def console_tail(console: bytes, lines: int = 25) -> list[str]:
    """The end of a console, safe to print."""
    text = console[-16384:].decode("utf-8", "replace").replace("\r", "")
    return [printable(line)[:300] for line in text.strip("\n").split("\n")[-lines:]]
