"""The lines above a run: what will be tested, how, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.machine.accel import describe_quickly
from pytest_flaky_repro.question import design_of, solved
from pytest_flaky_repro.report.sentences import confidence, percent
from pytest_flaky_repro.session import session_of, settings_of
from pytest_flaky_repro.settings import AutoTime

if TYPE_CHECKING:
    import pytest

    from pytest_flaky_repro.settings import Settings
    from pytest_flaky_repro.stats import Plan


def header(config: pytest.Config) -> list[str]:
    """Kernels, accelerator, plan."""
    settings = settings_of(config)
    kernels = session_of(config).kernels.values()
    named = ", ".join(
        f"{kernel.name} ({kernel.path})" if kernel.name != kernel.path.name else str(kernel.path)
        for kernel in kernels
    )
    wanted = settings["accel"]
    where = settings["dask"]
    if where is not None:
        accel = f"{wanted}, on the workers of {where}"
    else:
        accel = wanted if config.option.collectonly else describe_quickly(wanted)
    return [
        f"flaky-repro: kernel: {named or 'none'}",
        (
            f"flaky-repro: accel: {accel}, smp {settings['smp']}, "
            f"{settings['memory']} MiB, trial time {_trial_time(settings)}"
        ),
        *(f"flaky-repro: plan: {line}" for line in plan_lines(settings)),
    ]


def _trial_time(settings: Settings) -> str:
    seconds = settings["trial_time"]
    if isinstance(seconds, AutoTime):
        return f"auto (up to {float(seconds):g} s)"
    return f"{seconds:g} s"


def plan_lines(settings: Settings) -> list[str]:
    """What the statistics will ask for, known before anything is booted."""
    try:
        plan = solved(design_of(settings))
    except ReproError as error:
        return [str(error)]
    design = plan.design
    default = " (default)" if settings.source("min_rate") == "default" else ""
    noise = f", noise {percent(design.noise)}" if design.noise else ""
    sure = confidence(design.confidence_safe)
    if design.confidence_crash != design.confidence_safe:
        sure += f" (safe), {confidence(design.confidence_crash)} (crashes)"
    lines = [
        (
            f"confidence {sure}, min rate {percent(design.min_rate)}{default}{noise}: "
            f"safe after {plan.safe_at(0)} trials without a crash; about "
            f"{plan.expected_trials(design.min_rate):.0f} trials to 'crashes' at that rate"
        )
    ]
    if design.noise:
        lines.append(_boundaries(plan))
    budget = settings["max_trials"]
    if budget is not None:
        worst = plan.worst_inconclusive_chance(budget)
        lines.append(
            f"budget {budget} trials: inconclusive with probability at most "
            f"{percent(worst.p_inconclusive)} (at a crash rate of {percent(worst.rate)})"
        )
    return lines


def _boundaries(plan: Plan) -> str:
    safe = ", ".join(f"{plan.safe_at(x)} with {x}" for x in range(3))
    crash = ", ".join(f"{plan.crash_at(x)}" for x in range(1, 4))
    worst = plan.worst_case()
    return (
        f"safe at trial {safe} crashed; crashes if crash 1, 2, 3 comes by trial {crash}; longest, "
        f"on average {worst.expected_trials:.0f} trials, at a rate of {percent(worst.rate)}"
    )
