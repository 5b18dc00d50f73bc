"""What a test asks for: a kernel, a reproducer, and what counts as the crash."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_flaky_repro import crash
from pytest_flaky_repro.campaign.experiment import Experiment
from pytest_flaky_repro.campaign.loop import Observer
from pytest_flaky_repro.campaign.rules import HungTrial, OtherCrash, Rules
from pytest_flaky_repro.errors import UsageError
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
    named_by: str = ""  # the option that named the reproducer, if one did


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
    settings: Settings,
    crash_pattern: str | crash.Signature | None,
    ok_exit: int | Iterable[int],
) -> Rules:
    """The rules of a campaign, from its settings and what ``check`` was told."""
    classes = settings["crash_classes"]
    source = settings.source("crash_classes")
    return Rules(
        expected=_expected(crash_pattern),
        other=OtherCrash(settings["other"]),
        hung=HungTrial(settings["hung"]),
        ok_exit=_exit_statuses(ok_exit),
        classes=crash.parse_classes(classes, source) if classes else None,
    )


def _expected(pattern: Any) -> crash.Signature | None:
    if pattern is None or isinstance(pattern, crash.Signature):
        return pattern
    if not isinstance(pattern, str):
        raise _wrong("crash", pattern, "a regular expression for a crash title", _kind(pattern))
    return crash.Signature.parse(pattern, "crash=")


def _exit_statuses(given: Any) -> frozenset[int]:
    """A word such as "0" is iterable, too, and no status at all: a clean exit would be a crash."""
    wanted = "an exit status or several, from 0 to 255, such as {0, 3}"
    if type(given) is int:
        statuses: tuple[Any, ...] = (given,)
    elif isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise _wrong("ok_exit", given, wanted, _kind(given))
    else:
        statuses = tuple(given)
    for status in statuses:
        if type(status) is not int or not 0 <= status <= 255:
            raise _wrong("ok_exit", given, wanted, repr(status))
    return frozenset(statuses)


def environment_of(given: Any) -> tuple[str, ...]:
    """``env`` as the guest is told it."""
    wanted = "a mapping of names to text, such as {'THREADS': '4'}"
    if not isinstance(given, Mapping):
        raise _wrong("env", given, wanted, _kind(given))
    for name, text in given.items():
        good = isinstance(name, str) and isinstance(text, str)
        if not good or not name or "=" in name or "\0" in name + text:
            raise _wrong("env", given, wanted, f"{name!r}: {text!r}")
    return tuple(f"{name}={text}" for name, text in given.items())


def compiler_words(given: Any) -> tuple[str, ...]:
    """``cflags`` as a tuple."""
    wanted = "a list of words, such as ['-O2', '-pthread']"
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        raise _wrong("cflags", given, wanted, _kind(given))
    words = tuple(given)
    for word in words:
        if not isinstance(word, str):
            raise _wrong("cflags", given, wanted, repr(word))
    return words


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"


def _wrong(name: str, given: object, wanted: str, seen: str) -> UsageError:
    return UsageError(f"{name}={given!r}: expected {wanted}, got {seen}")
