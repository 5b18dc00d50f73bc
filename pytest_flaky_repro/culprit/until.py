"""Trials of one image until the first crash that counts, or enough survivals."""

from __future__ import annotations

from collections.abc import Sequence

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
        self._decided: tuple[Trial, Vote] | None = None

    @property
    def decided(self) -> tuple[Trial, Vote]:
        """What was fed last: a trial, or the one that decided its boot, and the vote."""
        if self._decided is None:
            raise LookupError("nothing was fed yet")
        return self._decided

    def arm_for(self, ticket: int) -> int:
        del ticket
        return 0

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        del arm
        self._decided = (trial, vote)
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


def report_of(
    trials: Sequence[Trial], decided: Trial, vote: Vote, seed: str, record: str
) -> TrialReport:
    """What a search needs to know of a boot; ``record`` is the file with all of it.

    ``trials`` are all of the boot, ``decided`` the one whose vote is the boot's. ``seed`` is the
    boot's, or that of its only trial: who has it again has the same evidence again.
    """
    outcome = {
        Vote.CRASH: TrialOutcome.CRASHED,
        Vote.SURVIVAL: TrialOutcome.SURVIVED,
    }.get(vote, TrialOutcome.INFRASTRUCTURE)
    others = [trial for trial in trials if trial.outcome is Outcome.CRASHED]
    if outcome is TrialOutcome.INFRASTRUCTURE and others:
        outcome, decided = TrialOutcome.OTHER, others[0]
    return TrialReport(
        outcome=outcome,
        seconds=round(sum(trial.boot_s + trial.exposure_s for trial in trials), 3),
        seed=seed,
        title=decided.title,
        alternates=decided.alternates,
        detail=decided.detail,
        record=f"{record}:{decided.ticket}",
    )
