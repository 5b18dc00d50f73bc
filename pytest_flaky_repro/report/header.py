"""The lines above a run: what will be tested, how, and how long it may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flaky_repro.bench import design_of
from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.machine.accel import describe_quickly
from pytest_flaky_repro.report.sentences import confidence, percent
from pytest_flaky_repro.session import session_of, settings_of
from pytest_flaky_repro.stats import plan_for

if TYPE_CHECKING:
    import pytest

    from pytest_flaky_repro.settings import Settings


def header(config: pytest.Config) -> list[str]:
    """Kernels, accelerator, plan."""
    settings = settings_of(config)
    kernels = session_of(config).kernels.values()
    named = ", ".join(
        f"{kernel.name} ({kernel.path})" if kernel.name != kernel.path.name else str(kernel.path)
        for kernel in kernels
    )
    return [
        f"flaky-repro: kernel: {named or 'none'}",
        (
            f"flaky-repro: accel: {describe_quickly(settings['accel'])}, smp {settings['smp']}, "
            f"{settings['memory']} MiB, trial time {settings['trial_time']:g} s"
        ),
        f"flaky-repro: plan: {plan_line(settings)}",
    ]


def plan_line(settings: Settings) -> str:
    """What the statistics will ask for, in one line."""
    try:
        design = design_of(settings)
    except ReproError as error:
        return str(error)
    plan = plan_for(design)
    default = " (default)" if settings.source("min_rate") == "default" else ""
    safe = plan.safe_at(0)
    noise = f", noise {percent(design.noise)}" if design.noise else ""
    return (
        f"confidence {confidence(settings['confidence'])}, min rate "
        f"{percent(design.min_rate)}{default}{noise}: safe after {safe} trials without a crash, "
        f"crashes after about {plan.expected_trials(design.min_rate):.0f} at that rate"
    )
