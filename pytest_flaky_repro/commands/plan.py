"""``flaky-repro plan``: what a verdict costs, before anything is booted."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from pytest_flaky_repro import settings
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.report import plan_picture
from pytest_flaky_repro.report.sentences import confidence, counted, percent, upwards
from pytest_flaky_repro.stats import Design, plan_for
from pytest_flaky_repro.stats.budget import largest_confidence, smallest_min_rate
from pytest_flaky_repro.stats.fixed import FixedTest, fixed_test

_HOUR, _DAY, _YEAR = 3600, 86400, 31556952
_LONGEST_S = 1e9  # of a trial: thirty years

RATES = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)  # of the minimum rate


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("--confidence", default="0.95", metavar="C")
    argument("--min-rate", default=str(settings.DEFAULT_MIN_RATE), metavar="P")
    argument("--noise", default="0", metavar="P")
    argument("--boot-seconds", default="2", metavar="S", help="of one boot (default: 2)")
    argument("--trial-time", default="10", metavar="S", help="of one trial (default: 10)")
    argument("--jobs", default="1", metavar="N", help="guests at once (default: 1)")
    argument("--max-trials", metavar="N", help="what would this budget buy?")
    argument(
        "--picture", type=Path, metavar="FILE",
        help="draw the chances and the trials over the true crash rate (.svg, .png or .pdf)",
    )  # fmt: skip
    argument("--json", action="store_true", help="for machines")


def run(options: argparse.Namespace) -> int:
    if options.picture is not None:
        plan_picture.check(options.picture)
    report = foretell(options)
    if options.picture is not None:
        _draw(options, report)
    text = json.dumps(report, indent=1, allow_nan=False) if options.json else _text(report)
    print(text)
    return 0


def _draw(options: argparse.Namespace, report: dict[str, Any]) -> None:
    design = _design(options)
    picture = plan_picture.PlanPicture(
        plan=plan_for(design),
        fixed=fixed_test(design),
        budget=report["max_trials"],
        seconds_per_trial=report["seconds_per_trial"] / report["jobs"],
    )
    plan_picture.draw(options.picture, picture)


def foretell(options: argparse.Namespace) -> dict[str, Any]:
    """All numbers of the plan; times in seconds, rates per trial."""
    design = _design(options)
    sure = design.confidence_safe
    per_trial: float = _value(options, "boot_seconds", _seconds)
    per_trial += _value(options, "trial_time", _seconds)
    jobs = _value(options, "jobs", settings.count)
    budget = None
    if options.max_trials is not None:
        budget = _value(options, "max_trials", settings.count)
    plan = plan_for(design)
    rates = sorted({min(0.999, share * design.min_rate) for share in RATES} | {design.noise})
    fixed = fixed_test(design)
    rows = [_row(point, per_trial, jobs, fixed) for point in plan.operating_curve(rates, budget)]
    return {
        "confidence": sure,
        "min_rate": design.min_rate,
        "noise": design.noise,
        "safe_after": plan.safe_at(0),
        "safe_after_seconds": math.ceil(plan.safe_at(0) / jobs) * per_trial,
        "seconds_per_trial": per_trial,
        "jobs": jobs,
        "max_trials": budget,
        "plan_hash": plan.digest(),
        "fixed_trials": fixed.trials if fixed is not None else None,
        "fixed_most_crashes": fixed.most_crashes if fixed is not None else None,
        "rates": rows,
        "budget_buys": _buys(design, budget) if budget is not None else None,
    }


def _design(options: argparse.Namespace) -> Design:
    sure = _value(options, "confidence", settings.confidence)
    rate = _value(options, "min_rate", settings.rate)
    noise = _value(options, "noise", settings.noise_rate)
    try:
        return Design(rate, noise, sure, sure)
    except UsageError as error:
        raise UsageError(f"--confidence, --min-rate, --noise: {error}") from error


def _buys(design: Design, budget: int) -> dict[str, Any]:
    """The plan turned round: what so many trials can answer with a good chance of an answer."""
    rate = smallest_min_rate(
        budget, design.confidence_safe, design.confidence_crash, noise=design.noise
    )
    sure = largest_confidence(budget, design.min_rate, noise=design.noise)
    return {
        "min_rate": rate.design.min_rate if rate is not None else None,
        "confidence": sure.design.confidence_safe if sure is not None else None,
        "chance_of_safe": [p.chance if p is not None else None for p in (rate, sure)],
    }


def _row(
    point: Any, per_trial: float, jobs: int, fixed: FixedTest | None
) -> dict[str, float | None]:
    turns = point.expected_trials / jobs
    if jobs > 1:  # the last may not be full, and takes as long as any
        turns = math.ceil(round(turns, 9))
    return {
        "rate": point.rate,
        "p_safe": point.p_safe,
        "p_crash": point.p_crash,
        "p_inconclusive": point.p_inconclusive,
        "expected_trials": point.expected_trials,
        "expected_seconds": turns * per_trial,
        "p_safe_fixed": fixed.p_safe(point.rate) if fixed is not None else None,
    }


def _seconds(text: str) -> float:
    value = settings.seconds(text)
    if value > _LONGEST_S:
        raise ValueError(f"at most {_LONGEST_S:g} seconds")
    return value


def _value(options: argparse.Namespace, name: str, parse: settings.Parse) -> Any:
    text = getattr(options, name)
    try:
        return parse(text)
    except ValueError as error:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{flag} {text}: expected {error}") from None


def _text(report: dict[str, Any]) -> str:
    return "\n".join(_lines(report))


def _lines(report: dict[str, Any]) -> list[str]:
    most = report["max_trials"]
    budget = f", at most {counted(most, 'trials')}" if most else ""
    lines = [
        (
            f"confidence {confidence(report['confidence'])}, minimum rate "
            f"{percent(report['min_rate'])}, noise {percent(report['noise'])}{budget}"
        ),
        (
            f"safe after {counted(report['safe_after'], 'trials')} without a crash: "
            f"{_time(report['safe_after_seconds'])} with {counted(report['jobs'], 'guests')} at "
            f"once, {report['seconds_per_trial']:g} s each"
        ),
        *_fixed_lines(report),
        "",
        "if this share of   it would say                        after, on average",
        "trials crashes     crashes   safe      inconclusive   trials   time",
    ]
    lines += [
        f"{percent(row['rate']):>8}          {_chance(row['p_crash'])}  {_chance(row['p_safe'])}  "
        f"{_chance(row['p_inconclusive'])}     {row['expected_trials']:8.1f}   "
        f"{_time(row['expected_seconds'])}"
        for row in report["rates"]
    ]
    return lines + _budget_lines(report)


def _fixed_lines(report: dict[str, Any]) -> list[str]:
    """What the same promises would cost if every trial were always run."""
    if report["fixed_trials"] is None:
        return []
    seconds = math.ceil(report["fixed_trials"] / report["jobs"]) * report["seconds_per_trial"]
    crashes, trials = report["fixed_most_crashes"], counted(report["fixed_trials"], "trials")
    most = f", safe with up to {crashes} crash{'es' * (crashes > 1)}" if crashes else ""
    return [f"a test of fixed length: {trials} always{most}: {_time(seconds)}"]


def _budget_lines(report: dict[str, Any]) -> list[str]:
    buys = report["budget_buys"]
    if buys is None:
        return []
    lines = ["", f"{report['max_trials']} trials buy, for a healthy kernel:"]
    if buys["min_rate"] is not None:
        lines.append(
            f"    at confidence {confidence(report['confidence'])}, a minimum rate of "
            f"{upwards(buys['min_rate'])}"
        )
    if buys["confidence"] is not None:
        lines.append(
            f"    at a minimum rate of {percent(report['min_rate'])}, a confidence of "
            f"{confidence(_downwards(buys['confidence']))}"
        )
    return lines if lines[2:] else [*lines, "    no answer: it is too small"]


def _downwards(sure: float) -> float:
    """A confidence with few digits that is never above the one bought."""
    digits: int = 1 - math.floor(math.log10(1 - sure))  # two that count, of the error
    scale = 10.0**digits
    return math.floor(sure * scale) / scale


def _chance(value: float) -> str:
    return f"{100 * value:7.2f}%"


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / 60:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} h"
    if seconds < 2 * _YEAR:
        return f"{seconds / _DAY:.1f} days"
    return f"{seconds / _YEAR:.3g} years" if seconds < 1e4 * _YEAR else "more than 10000 years"
