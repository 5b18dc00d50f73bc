"""The lines above a run: what will be tested, how, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.boots import BootMode, mode_for
from pytest_flaky_repro.campaign.boots import Counting
from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.machine.accel import describe_quickly
from pytest_flaky_repro.question import design_of, solved
from pytest_flaky_repro.report.sentences import confidence, counted, percent
from pytest_flaky_repro.session import session_of, settings_of
from pytest_flaky_repro.settings import AutoTime

if TYPE_CHECKING:
    import pytest

    from pytest_flaky_repro.settings import Settings
    from pytest_flaky_repro.stats import Design, Plan


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
        asked = design_of(settings)
        mode = mode_for(settings, calibrated=settings["calibrate"] is not None)
        if settings["calibrate"] is not None:
            return [_learned_line(settings, asked, mode)]
        plan = solved(mode.design(asked))
    except ReproError as error:
        return [str(error)]
    default = " (default)" if settings.source("min_rate") == "default" else ""
    unit, of_trials = "trials", ""
    if mode.size > 1:
        unit, of_trials = "boots", f" of up to {mode.size} trials"
    expected = round(plan.expected_trials(plan.design.min_rate))
    lines = [
        (
            f"confidence {_confidences(asked)}, min rate {percent(asked.min_rate)}{default}"
            f"{_noise(asked)}: "
            f"safe after {counted(plan.safe_at(0), unit)}{of_trials} without a crash; about "
            f"{counted(expected, unit)} to 'crashes' at that rate"
        )
    ]
    if asked.noise:
        lines.append(_boundaries(plan, unit))
    if settings["max_trials"] is not None:
        lines.append(_budget_line(plan, settings["max_trials"], mode))
    return lines


def _confidences(asked: Design) -> str:
    sure = confidence(asked.confidence_safe)
    if asked.confidence_crash != asked.confidence_safe:
        sure += f" (safe), {confidence(asked.confidence_crash)} (crashes)"
    return sure


def _noise(asked: Design) -> str:
    return f", noise {percent(asked.noise)}" if asked.noise else ""


def _learned_line(settings: Settings, asked: Design, mode: BootMode) -> str:
    """What *safe* takes is not known before the known-bad kernel has shown its rate."""
    unit = "boots" if mode.size > 1 else "trials"
    less = f" over {settings['reduction']:g}" if settings["reduction"] > 1 else ""
    return (
        f"confidence {_confidences(asked)}{_noise(asked)}: the rate to rule out is that of "
        f"{settings['calibrate']}{less}, learned first: "
        f"from {counted(settings['calibrate_crashes'], f'crashed {unit}')} of at most "
        f"{counted(settings['calibrate_trials'], unit)}"
    )


def _budget_line(plan: Plan, budget: int, mode: BootMode) -> str:
    """What a largest number of trials leaves undecided, or that it is too small for *safe*."""
    needed = plan.safe_at(0)
    said = f"budget {counted(budget, 'trials')}"
    if mode.size > 1:
        most = needed * mode.size
        least = needed if mode.sharing.counting is Counting.FIRST else most
        trials = f"{least} to {most}" if least < most else f"{most}"
        takes = f"{counted(needed, 'boots')}, so {trials} trials"
        if budget < least:
            return f"{said} cannot reach 'safe': that takes {takes}"
        return f"{said}: 'safe' takes {takes}"
    if budget < needed:
        return f"{said} cannot reach 'safe': that takes {counted(needed, 'trials')}"
    worst = plan.worst_inconclusive_chance(budget)
    return (
        f"{said}: inconclusive with probability at most "
        f"{percent(worst.p_inconclusive)} (at a crash rate of {percent(worst.rate)})"
    )


def _boundaries(plan: Plan, unit: str) -> str:
    safe = ", ".join(f"{plan.safe_at(x)} with {x}" for x in range(3))
    crash = ", ".join(f"{plan.crash_at(x)}" for x in range(1, 4))
    worst, one = plan.worst_case(), unit[:-1]
    return (
        f"safe at {one} {safe} crashed; crashes if crash 1, 2, 3 comes by {one} {crash}; longest, "
        f"on average {counted(round(worst.expected_trials), unit)}, at a rate of "
        f"{percent(worst.rate)}"
    )
