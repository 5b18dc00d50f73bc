"""``flaky-repro factors``: what matters? A table with stated error."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pytest_flaky_repro import conduct, crash
from pytest_flaky_repro import settings as options_of
from pytest_flaky_repro.bench import Bench
from pytest_flaky_repro.campaign.factorial import FactorsGoal
from pytest_flaky_repro.campaign.trials import Progress
from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.kernels import parse_kernels
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.report.sentences import confidence, counted, percent, printable
from pytest_flaky_repro.request import FactorLevel, Request, build_rules
from pytest_flaky_repro.settings import Settings, Sources, resolve
from pytest_flaky_repro.stats.compare import Difference


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("--reproducer", type=Path, required=True, metavar="PATH")
    argument("--kernel", action="append", default=[], metavar="[NAME=]PATH", help="repeatable")
    argument("--smp", default="", metavar="N,N", help="numbers of CPUs, such as 1,2")
    argument(
        "--env", action="append", default=[], metavar="NAME=A,B",
        help="values of an environment variable, such as GOMAXPROCS=1,8; repeatable",
    )  # fmt: skip
    argument(
        "--append", action="append", default=[], metavar="ARGS",
        help="kernel command lines to compare with the plain one; repeatable",
    )  # fmt: skip
    argument("--rounds", default="100", metavar="N", help="at most so many rounds (default: 100)")
    argument("--confidence", default="0.95", metavar="C")
    argument("--crash", metavar="REGEX", help="the crash that counts")
    for name in ("trial-time", "memory", "accel", "jobs", "evidence", "qemu"):
        argument(f"--{name}", metavar=name.upper().replace("-", "_"))
    argument("--resume", action="store_true", help="go on from the evidence of an earlier run")
    argument("--json", action="store_true", help="for machines")


def run(options: argparse.Namespace) -> int:
    settings = _settings(options)
    factors = _factors(options)
    rounds = _rounds(options.rounds)
    expected = crash.Signature.parse(options.crash, "--crash") if options.crash else None
    goal = FactorsGoal(
        {name: [level.name for level in levels] for name, levels in factors.items()},
        settings["confidence"],
        rounds,
    )
    bench = Bench(Path.cwd())
    base = Request(
        item=f"factors of {options.reproducer}",
        kernel=next(iter(parse_kernels(options.kernel, Path.cwd()).values())),
        reproducer=Path.cwd() / options.reproducer,
        named_by="--reproducer",
        rules=build_rules(settings, expected, (0,)),
        command=shlex.join(["flaky-repro", *options.words]),
    )
    with ExitStack() as stack:
        ending = conduct.factorial(bench, stack, base, settings, factors, goal, _tell)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    if ending.conclusion is Conclusion.INFRASTRUCTURE or not goal.spent():
        raise InfrastructureError(
            f"nothing was learned: {printable(ending.why)}; "
            f"{counted(goal.spent(), 'trials')} came to an end. "
            "'flaky-repro doctor --boot' with this kernel says what is missing"
        )
    report = _report(goal, settings, ending.why)
    print(json.dumps(report, indent=1) if options.json else "\n".join(_lines(report)))
    return 0


def _rounds(text: str) -> int:
    try:
        return options_of.count(text)
    except ValueError as error:
        raise UsageError(f"--rounds {text}: expected {error}") from None


def _settings(options: argparse.Namespace) -> Settings:
    given = {
        name: getattr(options, name)
        for name in ("confidence", "trial_time", "memory", "accel", "jobs", "evidence", "qemu")
    }
    sources = Sources({}, {**given, "resume": options.resume or None}, {}, {})
    return resolve(sources)


def _factors(options: argparse.Namespace) -> dict[str, list[FactorLevel]]:
    kernels = parse_kernels(options.kernel, Path.cwd())
    if not kernels:
        raise UsageError("--kernel PATH is needed: one to test on, two or more to compare")
    factors: dict[str, list[FactorLevel]] = {}
    if len(kernels) > 1:
        factors["kernel"] = [FactorLevel(name, kernel=k) for name, k in kernels.items()]
    if options.smp:
        factors["smp"] = _smp_levels(options.smp)
    for text in options.env:
        name, levels = _env_levels(text)
        if name in factors or (name == "append" and options.append):
            raise UsageError(
                f"--env {text}: there is another factor called {name}; name all its values at once"
            )
        factors[name] = levels
    if options.append:
        factors["append"] = _append_levels(options.append)
    if not factors:
        raise UsageError(
            "nothing to compare: give two kernels, or --smp 1,2, --env NAME=A,B, --append ARGS"
        )
    return factors


def _smp_levels(text: str) -> list[FactorLevel]:
    try:
        numbers = [options_of.count(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"--smp {text}: expected numbers of CPUs, such as 1,2") from None
    return _different(f"--smp {text}", [FactorLevel(str(n), smp=n) for n in numbers])


def _env_levels(text: str) -> tuple[str, list[FactorLevel]]:
    name, equals, values = text.partition("=")
    if not (name and equals and values):
        raise UsageError(f"--env {text}: expected NAME=A,B")
    levels = [FactorLevel(v, environment=(f"{name}={v}",)) for v in values.split(",")]
    return name, _different(f"--env {text}", levels)


def _append_levels(texts: Sequence[str]) -> list[FactorLevel]:
    if not all(words.strip() for words in texts):
        raise UsageError("--append '': expected words to add to the plain command line")
    levels = [FactorLevel("(plain)"), *(FactorLevel(words, append=words) for words in texts)]
    return _different("--append", levels)


def _different(option: str, levels: list[FactorLevel]) -> list[FactorLevel]:
    if len({level.name for level in levels}) < max(2, len(levels)):
        raise UsageError(f"{option}: expected two or more values to compare, each another")
    return levels


def _tell(progress: Progress) -> None:
    crashed = sum(vote.value == "crash" for vote in progress.votes)
    trials = counted(len(progress.trials), "trials")
    text = f"\r{trials}, {crashed} crashed, {progress.elapsed_s:.0f} s "
    if sys.stderr.isatty():
        print(text, end="", file=sys.stderr, flush=True)


def _report(goal: FactorsGoal, settings: Settings, why: str) -> dict[str, Any]:
    return {
        "confidence": settings["confidence"],
        "why": why,
        "rounds": len(goal.seen),
        "evidence": settings["evidence"],
        "factors": list(goal.factors),
        "cells": [
            {"cell": list(cell), "trials": goal.trials[cell], "crashes": goal.crashes[cell]}
            for cell in goal.cells
        ],
        "effects": [
            {
                "factor": effect.factor,
                "baseline": effect.baseline,
                "level": effect.level,
                "pairs": effect.pairs,
                "crashes_baseline": effect.crashes_baseline,
                "crashes_level": effect.crashes_level,
                "log_e": effect.log_e,
                "difference": _difference(effect.difference),
            }
            for effect in goal.effects()
        ],
    }


def _difference(found: Difference) -> str:
    return {
        Difference.A_CRASHES_MORE: "fewer crashes",
        Difference.B_CRASHES_MORE: "more crashes",
        Difference.NOT_SHOWN: "not shown",
    }[found]


def _lines(report: dict[str, Any]) -> list[str]:
    lines = [f"{'trials':>7} {'crashes':>8}   combination"]
    lines += [
        f"{cell['trials']:7} {cell['crashes']:8}   {_combination(report['factors'], cell['cell'])}"
        for cell in report["cells"]
    ]
    lines += ["", "does it matter?"]
    for effect in report["effects"]:
        share_a = _share(effect["crashes_baseline"], effect["pairs"])
        share_b = _share(effect["crashes_level"], effect["pairs"])
        lines.append(
            f"  {effect['factor']} {printable(effect['level'])} against "
            f"{printable(effect['baseline'])}: {effect['difference']} ({share_b} against {share_a} "
            f"of {counted(effect['pairs'], 'trials')} each)"
        )
    error = percent(1 - report["confidence"])
    lines += [
        "",
        (
            "If nothing mattered, any difference at all would have been called with probability "
            f"at most {error} ({confidence(report['confidence'])} for the whole table). "
            f"Ended: {printable(report['why'])}."
        ),
        f"The trials are on record in {printable(report['evidence'])}.",
    ]
    return lines


def _combination(factors: Sequence[str], levels: Sequence[str]) -> str:
    """Such as ``kernel=old, smp=2``."""
    pairs = zip(factors, levels, strict=True)
    return printable(", ".join(f"{factor}={level}" for factor, level in pairs))


def _share(crashes: int, trials: int) -> str:
    return percent(crashes / trials) if trials else "none"
