"""What a test asks for: a kernel, a reproducer, and what counts as the crash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro import crash
from pytest_flaky_repro.campaign.experiment import Experiment
from pytest_flaky_repro.campaign.loop import Observer
from pytest_flaky_repro.campaign.rules import HungTrial, OtherCrash, Rules
from pytest_flaky_repro.kernels import Kernel
from pytest_flaky_repro.machine.trial import Machine
from pytest_flaky_repro.settings import Settings
from pytest_flaky_repro.stats.calibration import Calibration


@dataclass(frozen=True)
class Request:
    """What one ``check`` or ``measure`` asks for."""

    item: str
    kernel: Kernel
    reproducer: Path
    rules: Rules
    cflags: tuple[str, ...] = ()
    command: str = ""  # what runs it again, for who reads the evidence later
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class FactorLevel:
    """One level of a factor: what it changes; None leaves it as it is."""

    name: str
    kernel: Kernel | None = None
    smp: int | None = None
    append: str | None = None
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownBad:
    """A kernel that is known to crash, and how often it did."""

    request: Request
    kernel_sha256: str
    calibration: Calibration
    trial_time: float  # seconds of its trials
    boot: str = "cold"  # how its trials got their guests
    batch: int = 1


@dataclass(frozen=True)
class Surroundings:
    """What the surface lends to a campaign."""

    observer: Observer | None
    should_stop: Callable[[], str | None]
    deadline: float | None
    machine_for: Callable[[Experiment, Settings], Machine | None]
    notice: Callable[[str], None] = print
    """Tells the person at the terminal something now, from any thread."""


def build_rules(
    settings: Settings, crash_pattern: str | crash.Signature | None, ok_exit: Sequence[int]
) -> Rules:
    """The rules of a campaign, from its settings and what ``check`` was told."""
    classes = settings["crash_classes"]
    source = settings.source("crash_classes")
    expected = crash_pattern
    if isinstance(expected, str):
        expected = crash.Signature.parse(expected, "crash=")
    return Rules(
        expected=expected,
        other=OtherCrash(settings["other"]),
        hung=HungTrial(settings["hung"]),
        ok_exit=frozenset(ok_exit),
        classes=crash.parse_classes(classes, source) if classes else None,
    )
