"""Time to crash: the product-limit curve, in which a trial that did not crash still counts.

A trial that survived (or was lost) after t seconds says that the crash takes longer than t: it is
censored there. E. L. Kaplan and P. Meier, J. Amer. Statist. Assoc. 53, 1958, 457-481; variance by
M. Greenwood, 1926, on the scale of ln(-ln S), where the limits stay between 0 and 1 (J. D.
Kalbfleisch and R. L. Prentice, The Statistical Analysis of Failure Time Data, 1980, 1.3).

The limits are pointwise and for a number of trials that was fixed beforehand: they describe, the
sequential lines decide.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Step:
    """The curve right after a time (seconds) at which trials crashed.

    ``at_risk`` trials were still running just before, ``crashes`` of them crashed then;
    ``survival`` is the estimated share of trials that run longer, between its limits.
    """

    time: float
    at_risk: int
    crashes: int
    survival: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Curve:
    """A whole curve: its steps, and the times at which trials were censored."""

    steps: tuple[Step, ...]
    censored: tuple[float, ...]
    trials: int
    confidence: float

    def survival_at(self, time: float) -> float:
        """The estimated share of trials that run longer than ``time`` seconds."""
        passed = [step.survival for step in self.steps if step.time <= time]
        return passed[-1] if passed else 1.0

    @property
    def median(self) -> float | None:
        """The time by which half of the trials have crashed; None if fewer than half do."""
        return next((step.time for step in self.steps if step.survival <= 0.5), None)


def kaplan_meier(
    crashed: Sequence[float], censored: Sequence[float], confidence: float = 0.95
) -> Curve:
    """The curve of trials that crashed, and of those that did not, after so many seconds each.

    A trial censored at the very time of a crash is taken to have been at risk then. UsageError
    for a time below 0 or that is no number.
    """
    for time in (*crashed, *censored):
        if not 0.0 <= time < math.inf:
            raise UsageError(f"a time to crash must be a number of seconds from 0 up, got {time!r}")
    if not 0.0 < confidence < 1.0:
        raise UsageError(f"a confidence must lie strictly between 0 and 1, got {confidence!r}")
    total = len(crashed) + len(censored)
    events: dict[float, int] = {}
    for time in crashed:
        events[time] = events.get(time, 0) + 1
    out = sorted(censored)
    steps: list[Step] = []
    survival, greenwood, gone, before = 1.0, 0.0, 0, 0
    for time in sorted(events):
        while gone < len(out) and out[gone] < time:
            gone += 1
        at_risk, crashes = total - before - gone, events[time]
        survival *= 1.0 - crashes / at_risk
        if at_risk > crashes:
            greenwood += crashes / (at_risk * (at_risk - crashes))
        limits = _limits(survival, greenwood, confidence, steps[-1].upper if steps else 1.0)
        steps.append(Step(time, at_risk, crashes, survival, *limits))
        before += crashes
    return Curve(tuple(steps), tuple(out), total, confidence)


def _limits(
    survival: float, greenwood: float, confidence: float, before: float
) -> tuple[float, float]:
    """Limits on the scale of ln(-ln S); where all have crashed there is none: 0 and the last."""
    if survival <= 0.0:
        return 0.0, before
    from statistics import NormalDist

    spread = NormalDist().inv_cdf(0.5 + confidence / 2) * math.sqrt(greenwood) / math.log(survival)
    return survival ** math.exp(-spread), survival ** math.exp(spread)
