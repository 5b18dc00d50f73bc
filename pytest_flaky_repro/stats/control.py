"""The positive control: that the known-bad kernel still crashes here, now, on these hosts.

A masked race or a host on which the bug cannot fire makes every kernel look safe, and no count
of clean trials can tell. Only a kernel known to be bad, run on the same hosts between the
trials of the kernel in question, can. *Safe* is therefore said only once the controls have
crashed at least once, and not if they crash much less than in the calibration.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError

if TYPE_CHECKING:
    from pytest_flaky_repro.stats.calibration import Calibration
    from pytest_flaky_repro.stats.tally import Tally

EVERY = 10
"""One trial in this many is a control, unless the user says otherwise."""


class ControlState(enum.Enum):
    """What the controls allow."""

    CONFIRMED = "confirmed"  # the known-bad kernel crashes here as it should: safe may be said
    OPEN = "open"  # too few controls to tell: run more before saying safe
    REFUSED = "refused"  # the known-bad kernel crashes too rarely here: safe must not be said

    def __bool__(self) -> bool:
        raise TypeError("a ControlState has more than two answers: compare it by identity")


@dataclass(frozen=True)
class ControlCheck:
    """The controls beside their calibration."""

    state: ControlState
    trials: int
    crashes: int
    p_value: float  # P(so few crashes or fewer | same rate as in the calibration)
    clean_until_refused: int  # further clean controls that would turn OPEN into REFUSED


def check_control(calibration: Calibration, control: Tally, level: float = 0.01) -> ControlCheck:
    """Compare control trials with the calibration; lost controls count for nothing.

    Half of ``level`` goes to controls that never crash (refused after the trials at which the
    calibration itself would call a kernel safe at ``level``/2, so a kernel of the calibrated
    rate meets that with probability at most ``level``/2 however often it is looked at), half
    to a one-sided Fisher test of the counts once there is a crash.
    """
    if not 0.0 < level < 1.0:
        raise UsageError(f"level must lie strictly between 0 and 1, got {level!r}")
    limit = calibration.clean_trials(level / 2)
    trials, crashes = control.trials_low, control.crashes
    chance = fisher_lower_tail(
        calibration.crashes, calibration.trials, control.crashes, control.trials_low
    )
    if crashes == 0:
        state = ControlState.REFUSED if trials >= limit else ControlState.OPEN
        return ControlCheck(state, trials, crashes, chance, max(0, limit - trials))
    state = ControlState.REFUSED if chance <= level / 2 else ControlState.CONFIRMED
    return ControlCheck(state, trials, crashes, chance, 0)


def fisher_lower_tail(crashes_a: int, trials_a: int, crashes_b: int, trials_b: int) -> float:
    """P(b has so few of the crashes or fewer, given all crashes of both), Fisher 1935."""
    total, pooled = trials_a + trials_b, crashes_a + crashes_b
    whole = _log_choose(total, pooled)
    lowest = max(0, pooled - trials_a)
    logs = [
        _log_choose(trials_b, x) + _log_choose(trials_a, pooled - x) - whole
        for x in range(lowest, crashes_b + 1)
    ]
    return min(1.0, math.fsum(math.exp(value) for value in logs))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def is_control(ticket: int, every: int = EVERY) -> bool:
    """Whether this launch is a control: one in each block of ``every``, the last of the block.

    Depends on the ticket alone, so that every interruption pattern launches the same.
    """
    if every < 2:
        raise UsageError(f"controls must be at most every other trial, got every={every}")
    return ticket % every == every - 1
