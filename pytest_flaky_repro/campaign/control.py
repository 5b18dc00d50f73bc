"""The positive control: a kernel known to crash, run between the trials of the one in question.

A masked race, or a host on which the bug cannot fire, makes every kernel look safe. Only a kernel
that is known to crash, on the same hosts at the same time, can tell.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_flaky_repro.campaign.trials import Arm
from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import Tally
from pytest_flaky_repro.stats.calibration import Calibration
from pytest_flaky_repro.stats.control import (
    EVERY,
    ControlCheck,
    ControlState,
    check_control,
    is_control,
)


@dataclass
class Control:
    """The control's arm, what it showed in its calibration, and what it shows here."""

    arm: Arm
    calibration: Calibration
    every: int = EVERY
    tally: Tally = field(default_factory=lambda: Tally(0, 0, 0))

    def is_due(self, ticket: int, *, is_safe: bool) -> bool:
        """Whether this launch is the control's; all are while only its word is missing."""
        return is_safe or is_control(ticket, self.every)

    def feed(self, vote: Vote) -> None:
        self.tally = self.tally.add(vote)

    def check(self) -> ControlCheck:
        return check_control(self.calibration, self.tally)

    def is_confirmed(self) -> bool:
        return self.check().state is ControlState.CONFIRMED

    def clean_until_refused(self) -> int:
        return self.check().clean_until_refused

    def refusal(self) -> str | None:
        """Why *safe* must not be said here; None while it may still be."""
        check = self.check()
        if check.state is not ControlState.REFUSED:
            return None
        return (
            f"the known-bad kernel crashed in {check.crashes} of {check.trials} control trials, "
            f"and in {self.calibration.crashes} of {self.calibration.trials} when it was "
            "calibrated: something here hides the crash (another host, another timing), so "
            "survivals prove nothing"
        )
