"""Trials of one image until the first crash that counts, or enough survivals."""

from __future__ import annotations

from pytest_flaky_repro.campaign.trials import Ending
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote


class UntilCrash:
    """A campaign's goal. Fed in launch order, also where a later launch crashed sooner.

    Ending at once on a crash would leave out the slower of the trials launched before it, mostly
    survivals, and the crash rate would be taken for higher than it is.
    """

    def __init__(self, survivals: int) -> None:
        self._survivals = survivals
        self._survived = self._crashed = 0

    def arm_for(self, ticket: int) -> int:
        del ticket
        return 0

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        del arm, trial
        self._survived += vote is Vote.SURVIVAL
        self._crashed += vote is Vote.CRASH

    def reached(self) -> Ending | None:
        if self._crashed:
            return Ending(Conclusion.CRASHES, "it crashed")
        if self._survived >= self._survivals:
            return Ending(Conclusion.SAFE, f"{self._survived} survived")
        return None

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        del arm, trial, vote
        return False

    def wanted(self) -> int | None:
        return self._survivals - self._survived

    def spent(self) -> int:
        return self._survived + self._crashed


def report_of(trial: Trial, vote: Vote, record: str) -> TrialReport:
    """What a search needs to know of a guest's trial; ``record`` is the file with all of it."""
    outcome = {
        Vote.CRASH: TrialOutcome.CRASHED,
        Vote.SURVIVAL: TrialOutcome.SURVIVED,
    }.get(vote, TrialOutcome.INFRASTRUCTURE)
    if outcome is TrialOutcome.INFRASTRUCTURE and trial.outcome is Outcome.CRASHED:
        outcome = TrialOutcome.OTHER
    return TrialReport(
        outcome=outcome,
        seconds=round(trial.boot_s + trial.exposure_s, 3),
        seed=trial.seed,
        title=trial.title,
        alternates=trial.alternates,
        detail=trial.detail,
        record=f"{record}:{trial.ticket}",
    )
