"""``flaky-repro combine DIR...``: one verdict from the evidence of many jobs."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_flaky_repro.campaign.combination import Combined, combine, read_jobs
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.report import boots
from pytest_flaky_repro.report.sentences import (
    confidence,
    counted,
    printable,
)
from pytest_flaky_repro.stats import statement
from pytest_flaky_repro.stats.agreement import Agreed
from pytest_flaky_repro.stats.control import ControlCheck, ControlState
from pytest_flaky_repro.stats.family import FamilyRule, false_calls

CRASHES, UNDECIDED = 1, 3


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="evidence of jobs")
    parser.add_argument(
        "--family",
        choices=[rule.value for rule in FamilyRule],
        default=FamilyRule.NONE.value,
        help="how errors are shared among several experiments (default: each keeps its own)",
    )
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.epilog = (
        "exit status: 0 all safe, 1 a kernel crashes, 3 undecided or nothing ran, 2 bad input"
    )


def run(options: argparse.Namespace) -> int:
    family = FamilyRule(options.family)
    jobs = read_jobs(options.folders)
    if not jobs:
        names = ", ".join(str(folder) for folder in options.folders)
        raise UsageError(
            f"no job's evidence in {names}: there is no whole plan line, or only calibrations, "
            "comparisons and factors. Give folders that tests with repro.check() left"
        )
    verdicts = combine(jobs, family)
    if options.json:
        print(json.dumps([_record(verdict) for verdict in verdicts], indent=1))
    else:
        print("\n".join(line for verdict in verdicts for line in _lines(verdict)))
        print("\n".join(_family_lines(verdicts, family)))
    conclusions = {verdict.conclusion for verdict in verdicts}
    if Conclusion.CRASHES in conclusions:
        return CRASHES
    return 0 if conclusions == {Conclusion.SAFE} else UNDECIDED


def _record(verdict: Combined) -> dict[str, Any]:
    agreement = verdict.agreement
    return {
        "item": verdict.item,
        "items": list(verdict.items),
        "kernel": verdict.kernel,
        "plan_hash": verdict.plan_hash,
        "verdict": verdict.conclusion.value,
        "trials": verdict.tally.trials_low,
        "crashes": verdict.tally.crashes,
        "lost": verdict.lost,
        "void": verdict.void,
        "jobs": verdict.jobs,
        "unit": verdict.unit,
        "boot": verdict.shared.how if verdict.shared is not None else "cold",
        "confidence_safe": verdict.design.confidence_safe,
        "confidence_crash": verdict.design.confidence_crash,
        "min_rate": verdict.design.min_rate,
        "rate_lower": verdict.rate_lower,
        "rate_upper": verdict.rate_upper,
        "still_needed": verdict.still_needed,
        "control": verdict.control.state.value if verdict.control is not None else None,
        "hosts": agreement.verdict.value if agreement is not None else None,
        "hosts_p_value": agreement.p_value if agreement is not None else None,
    }


def _lines(verdict: Combined) -> list[str]:
    tally, design = verdict.tally, verdict.design
    spent = [f"{verdict.lost} lost"] * bool(verdict.lost)
    spent += [f"{verdict.void} void"] * bool(verdict.void)
    extra = f" (and {', '.join(spent)})" if spent else ""
    lines = [
        (
            f"{verdict.conclusion.value.upper()}  {printable(verdict.item)}: {tally.crashes} "
            f"crashed of {_counts(verdict)}{extra} in {counted(verdict.jobs, 'jobs')}"
        )
    ]
    if len(verdict.items) > 1:
        others = ", ".join(printable(item) for item in verdict.items[1:])
        lines.append(f"    the same question was asked by {others}")
    if verdict.conclusion is Conclusion.INFRASTRUCTURE:
        lines.append("    No trial began: nothing was learned. Each job's own output says why.")
    if verdict.conclusion is Conclusion.SAFE:
        lines.append(f"    {_meaning_of_safe(verdict)}")
    elif tally.trials_low:
        least, most = boots.bounds_said(verdict.rate_lower, verdict.rate_upper, verdict.shared)
        lines.append(
            f"    rate at least {least} at {confidence(design.confidence_crash)}, at most {most} "
            f"at {confidence(design.confidence_safe)}, whenever the jobs stopped"
        )
    if verdict.conclusion is Conclusion.INCONCLUSIVE and verdict.still_needed is not None:
        more = counted(verdict.still_needed, f"more surviving {verdict.unit}")
        lines.append(f"    {more} would make it safe")
    if verdict.control is not None:
        lines.append(f"    {_control(verdict.control, verdict.unit)}")
    if verdict.agreement is not None:
        lines.append(f"    hosts: {_agreement(verdict)}")
    return lines


def _counts(verdict: Combined) -> str:
    """``11 trials``; where they shared boots ``9 boots (batch, 36 trials)``."""
    shared = verdict.shared
    said = counted(verdict.tally.trials_low, verdict.unit)
    if shared is None:
        return said
    return f"{said} ({shared.how}, {counted(shared.trials.trials_low, 'trials')})"


def _meaning_of_safe(verdict: Combined) -> str:
    if verdict.shared is not None:
        source = verdict.min_rate_source
        return boots.meaning_of_safe(verdict.design, verdict.shared, source=source)
    return statement.meaning(Conclusion.SAFE, verdict.design)


def _control(control: ControlCheck, unit: str) -> str:
    trials = counted(control.trials, f"control {unit}")
    seen = f"the known-bad kernel crashed in {control.crashes} of {trials}"
    if control.state is ControlState.CONFIRMED:
        return seen
    return f"{seen}: that is too little for survivals to prove anything"


def _agreement(verdict: Combined) -> str:
    agreement = verdict.agreement
    assert agreement is not None
    said = {
        Agreed.AGREE: "their crash rates agree",
        Agreed.DOUBTFUL: "their crash rates may differ: look before you trust the pooled verdict",
        Agreed.DISAGREE: "their crash rates differ: the pooled verdict does not hold for each",
    }[agreement.verdict]
    return f"{said} (p = {agreement.p_value:.2g})"


def _family_lines(verdicts: Sequence[Combined], family: FamilyRule) -> list[str]:
    if len(verdicts) < 2:
        return []
    error = max(verdict.design.error_safe for verdict in verdicts)
    if family is FamilyRule.BONFERRONI:
        error *= len(verdicts)  # what was asked for the family: members already got their share
    calls = false_calls(error, len(verdicts), family)
    numbers = {
        "expected false calls of safe": calls.expected,
        "chance of any": calls.any_chance,
        "expected share of false ones among them": calls.share,
    }
    said = [f"{name} <= {value:.3g}" for name, value in numbers.items() if not math.isnan(value)]
    return [f"family of {len(verdicts)} ({family.value}): {', '.join(said)}"]
