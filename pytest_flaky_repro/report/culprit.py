"""A culprit search in words: the line that shows where it is, the report at its end, its JSON."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from typing import Any

from pytest_flaky_repro.culprit.result import (
    Claim,
    Confirmation,
    CulpritSet,
    Kind,
    Leader,
    Result,
)
from pytest_flaky_repro.culprit.testing import unit_of
from pytest_flaky_repro.culprit.watching import Activity, View
from pytest_flaky_repro.report.sentences import (
    confidence,
    counted,
    downwards,
    percent,
    printable,
    upwards,
)

SHOWN = 10


def progress_line(view: View) -> str:
    """Where a search is: what it does, what is left, what it took and will take."""
    parts = []
    if view.subset is not None and view.activity is not Activity.DONE:
        seen = f", {view.crashed}/{view.survived + view.crashed} crashed"
        doing = "building" if view.activity is Activity.BUILDING else "testing"
        parts.append(f"{doing} {view.subset}{'' if doing == 'building' else seen}")
    if view.leaders:
        leaders = ", ".join(f"{each.candidate.name} {_odds(each)}" for each in view.leaders[:2])
        parts.append(f"{view.candidates_left} left ({leaders})")
    else:
        parts.append(f"{view.candidates_left} left")
    spent, unit = view.spent, unit_of(view.spent.boot_size)
    builds, trials = counted(spent.builds, "builds"), counted(spent.trials, unit)
    parts.append(f"{builds}, {trials}, {spent.crashes} crashed")
    if view.expected_trials >= 1 and view.activity is not Activity.DONE:
        ahead = counted(round(view.expected_trials), unit)
        if view.expected_builds >= 0.5:
            ahead = f"{counted(round(view.expected_builds), 'builds')}, {ahead}"
        parts.append(f"about {ahead}, {duration(view.expected_s)} to go")
    return printable("; ".join(parts))


def duration(seconds: float) -> str:
    """For people: 90 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def report_lines(result: Result) -> list[str]:
    """The report at the end of a search."""
    lines = [printable(headline(result.kind, [found.names for found in result.sets]))]
    for found in result.sets:
        lines += _set_lines(found, result, many=len(result.sets) > 1)
    lines += [
        printable(f"    {subset} crashes, too, and cannot be had without {', '.join(needs.names)}")
        for subset, needs in result.explained
    ]
    if result.kind is Kind.UNRESOLVED:
        lines += _unresolved(result)
    elif result.kind is Kind.NO_CRASH:
        ruled_out = f"that {upwards(result.rate[2])} or more of {_unit(result)} crash is ruled out"
        lines.append(f"    {result.why}; {ruled_out}")
    elif result.kind is Kind.NOT_HERE:
        lines += [
            f"    {result.why}: P = {probability(result.probability, result.confidence)}",
            "    what makes it crash is outside of the candidates, in what good and bad share",
        ]
    return [*lines, *_footer(result)]


def headline(kind: Kind, names: Sequence[Sequence[str]]) -> str:
    """The answer in one line; ``names`` are those of each set."""
    sets = [" and ".join(members) for members in names]
    if kind is Kind.SINGLE:
        return f"culprit: {sets[0]}"
    if kind is Kind.ALL_OF:
        return f"culprits, only together: {sets[0]}"
    if kind is Kind.ANY_OF:
        return f"{len(sets)} culprits, each by itself: {'; '.join(sets)}"
    if kind is Kind.NOT_HERE:
        return "not in these candidates: it crashes with all of them good"
    if kind is Kind.NO_CRASH:
        return "no crash: with all candidates bad it did not crash (often enough)"
    return "unresolved" + (f", found so far: {'; '.join(sets)}" if sets else "")


def _set_lines(found: CulpritSet, result: Result, *, many: bool) -> list[str]:
    lines = []
    if many:
        lines.append(printable(f"  {' and '.join(found.names)}"))
    details = [c for c in found.candidates if c.detail]
    lines += [printable(f"    {c.name}: {c.detail}") for c in details]
    wanted = confidence(result.confidence)
    sure = probability(found.probability, result.confidence)
    lines.append(f"    P(culprit) = {sure}, asked for: {wanted}")
    for each in found.confirmations:
        lines += [f"    {line}" for line in _confirmation(each, result)]
    return lines


def _confirmation(each: Confirmation, result: Result) -> list[str]:
    bounds = (
        f"rate {downwards(each.rate_lower)} to {upwards(each.rate_upper)} "
        f"at {confidence(result.confidence)} each"
    )
    seen = (str(each.subset), each.survived, each.crashed, each.error)
    return [confirmed(each.claim, *seen, bounds, _unit(result))]


def confirmed(
    claim: Claim, subset: str, survived: int, crashed: int, error: float, bounds: str, unit: str
) -> str:
    """What the trials of one image say for the answer, with the chance that they mislead."""
    said = printable(f"{subset}: {crashed} of {survived + crashed} {unit} crashed")
    if claim is Claim.SUFFICIENT:
        return f"{said} ({bounds}); that this was noise: {upwards(error)}"
    if claim is Claim.NECESSARY:
        return (
            f"{said}; that it can crash all the same, by these and by the survivals of what "
            f"contains it: {upwards(error)}"
        )
    return (
        f"{said}; another culprit as frequent would have been missed with probability "
        f"{upwards(error)}"
    )


def _unit(result: Result) -> str:
    return unit_of(result.spent.boot_size)


def _unresolved(result: Result) -> list[str]:
    lines = [f"    {printable(result.why)}"]
    if result.credible:
        together = sum(leader.probability for leader in result.credible)
        shown = result.credible[:SHOWN]
        number = len(result.credible)
        lines.append(f"    {number} candidates hold {percent(together)} of the probability:")
        lines += [f"    {_odds(each):>6}  {printable(each.candidate.name)}" for each in shown]
        if number > SHOWN:
            lines.append(f"            ... and {number - SHOWN} more")
    if result.resume:
        lines.append(f"    to go on: the same command with {result.resume}")
    return lines


def _footer(result: Result) -> list[str]:
    spent, unit = result.spent, _unit(result)
    builds, trials = counted(spent.builds, "builds"), counted(spent.trials, unit)
    if spent.boot_size > 1:
        trials += f" of up to {spent.boot_size} trials"
    lines = [
        "",
        (
            f"cost: {builds} ({duration(spent.build_s)}), {trials}, "
            f"{spent.crashes} of them crashed ({duration(spent.trial_s)})"
        ),
    ]
    if result.signature:
        lines.append(printable(f"the crash that counted: {result.signature}"))
    if result.others:
        titles = ", ".join(f"{number} x {title}" for title, number in result.others.items())
        lines.append(printable(f"other crashes, which did not count: {titles}"))
    if spent.infrastructure:
        wasted = counted(spent.infrastructure, unit)
        lines.append(f"{wasted} taught nothing (lost, or never started)")
    for subset, reason in result.skipped[:SHOWN]:
        lines.append(printable(f"skipped: {subset}: {reason}"))
    if len(result.skipped) > SHOWN:
        lines.append(f"... and {len(result.skipped) - SHOWN} more were skipped")
    if result.evidence is not None:
        lines.append(printable(f"evidence: {result.evidence}"))
    return lines


def report_data(result: Result) -> dict[str, Any]:
    """The report for machines; rates are of what ``unit`` says is counted, times in seconds."""
    low, mean, high = result.rate
    return {
        "kind": result.kind.value,
        "culprits": [_set_data(found) for found in result.sets],
        "probability": result.probability,
        "confidence": result.confidence,
        "why": result.why,
        "unit": _unit(result),
        "rate": {"lower": low, "mean": mean, "upper": high},
        "credible": _leaders(result.credible),
        "signature": result.signature,
        "spent": vars(result.spent),
        "other_crashes": dict(result.others),
        "skipped": [
            {"subset": str(subset), "bad": list(subset.names), "reason": reason}
            for subset, reason in result.skipped
        ],
        "explained": [
            {"bad": list(subset.names), "brought": list(brought.names)}
            for subset, brought in result.explained
        ],
        "evidence": str(result.evidence) if result.evidence is not None else None,
    }


def _set_data(found: CulpritSet) -> dict[str, Any]:
    return {
        "names": list(found.names),
        "details": [candidate.detail for candidate in found.candidates],
        "probability": found.probability,
        "confirmations": [
            {
                "claim": each.claim.value,
                "subset": str(each.subset),
                "image": each.image.id if each.image is not None else None,
                "kernel": str(each.image.kernel) if each.image and each.image.kernel else None,
                "survived": each.survived,
                "crashed": each.crashed,
                "error": each.error,
                "rate_lower": each.rate_lower,
                "rate_upper": each.rate_upper,
                "seeds": list(each.seeds),
            }
            for each in found.confirmations
        ],
    }


def _leaders(leaders: Sequence[Leader]) -> list[dict[str, Any]]:
    return [{"name": each.candidate.name, "probability": each.probability} for each in leaders]


def _odds(leader: Leader) -> str:
    return percent(leader.probability)


def probability(value: float, asked: float = 0.99) -> str:
    """Rounded down: 0.99987 -> 99.98%; where more is asked for, with as many digits as that has."""
    if value < 0.995:
        return downwards(value)
    wanted = Decimal(f"{100 * asked:.10f}").normalize()
    digits = max(2, -int(wanted.as_tuple().exponent))
    shown = (Decimal(repr(value)) * 100).quantize(Decimal(1).scaleb(-digits), ROUND_FLOOR)
    text = f"{shown:f}"
    return f"{text.rstrip('0').rstrip('.')}%"
