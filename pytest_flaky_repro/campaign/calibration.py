"""Running a known-bad kernel until it has crashed often enough to learn its rate from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pytest_flaky_repro.campaign.boots import Sharing
from pytest_flaky_repro.campaign.loop import Observer, Snapshot
from pytest_flaky_repro.campaign.trials import Ending, News, Progress
from pytest_flaky_repro.campaign.verdict import (
    CALIBRATION,
    Subject,
    Verdict,
    count_kinds,
    wasted,
)
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.stats import Design, Tally, bounds
from pytest_flaky_repro.stats.calibration import Calibration, CalibrationRule
from pytest_flaky_repro.stats.duration import PILOT_CRASHES, Advice, CrashTimes, advise


class CalibrationGoal:
    """Ends at the rule's r-th crash, in launch order: when to stop was fixed beforehand.

    ``longest`` is the trials' length. With ``chooses`` it ends at the first few crashes already,
    if those show that shorter trials are better: its rate would not be theirs.
    """

    def __init__(self, rule: CalibrationRule, longest: float, *, chooses: bool = False) -> None:
        self.rule, self.chooses, self._longest = rule, chooses, longest
        self.choice: Advice | None = None
        self.tally = Tally(0, 0, 0)
        self.trials: list[Trial] = []
        self.votes: list[Vote] = []

    def arm_for(self, ticket: int) -> int:
        del ticket
        return 0

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        del arm
        self.tally = self.tally.add(vote)
        self.trials.append(trial)
        self.votes.append(vote)
        if self.chooses and self.choice is None and self.tally.crashes >= self._enough:
            self.choice = self.advice()

    @property
    def _enough(self) -> int:
        return min(PILOT_CRASHES, self.rule.crashes)

    def reached(self) -> Ending | None:
        if self.choice is not None and self.choice.length.seconds < self._longest:
            better = f"trials of {self.choice.length.seconds:g} s are better, by the times to crash"
            return Ending(Conclusion.INCONCLUSIVE, better)
        if not self.rule.finished(self.tally):
            return None
        if self.tally.crashes >= self.rule.crashes:
            return Ending(Conclusion.CRASHES, f"{self.tally.crashes} crashes were asked for")
        why = f"{self.tally.crashes} crashes in {self.tally.trials_high} trials are too few"
        return Ending(Conclusion.INCONCLUSIVE, why)

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        """Never: which trial was the r-th crash depends on those launched before it."""
        del arm, trial, vote
        return False

    def wanted(self) -> int | None:
        return max(0, self.rule.max_trials - self.tally.trials_high)

    def spent(self) -> int:
        return self.tally.trials_high

    def calibration(self) -> Calibration:
        """What was learned. UsageError when the kernel crashed too rarely."""
        return self.rule.conclude(self.tally)

    def advice(self) -> Advice | None:
        """What the times to crash say about the trials' length; None after too few crashes."""
        pairs = list(zip(self.trials, self.votes, strict=True))
        crashed = [trial for trial, vote in pairs if vote is Vote.CRASH]
        survived = [trial.exposure_s for trial, vote in pairs if vote is Vote.SURVIVAL]
        if not crashed:
            return None
        return advise(
            CrashTimes(
                tuple(min(trial.exposure_s, self._longest) for trial in crashed),
                tuple(survived),
                boot=sum(trial.boot_s for trial in crashed) / len(crashed),
                longest=self._longest,
            )
        )


def calibration_verdict(
    goal: CalibrationGoal, ending: Ending, subject: Subject, design: Design, evidence: Path
) -> Verdict:
    """The known-bad kernel's verdict; its ``calibration`` is None if it crashed too rarely."""
    crashed = [t for t, v in zip(goal.trials, goal.votes, strict=True) if v is Vote.CRASH]
    enough = ending.conclusion is Conclusion.CRASHES
    lost, void = wasted(goal.trials, goal.votes)
    return Verdict(
        conclusion=ending.conclusion,
        why=ending.why,
        subject=subject,
        design=design,
        min_rate_source=CALIBRATION,
        tally=goal.tally,
        void=void,
        lost=lost,
        rate_lower=bounds.rate_bounds(goal.tally, design.confidence_crash).lower,
        rate_upper=bounds.rate_bounds(goal.tally, design.confidence_safe).upper,
        still_needed=None,
        kinds=count_kinds(goal.trials, goal.votes),
        first_crash=crashed[0] if crashed else None,
        evidence=evidence,
        trials=tuple(goal.trials),
        calibration=goal.calibration() if enough else None,
        advice=goal.choice or goal.advice(),
    )


def calibration_teller(
    goal: CalibrationGoal, subject: Subject, sharing: Sharing, observer: Observer | None
) -> Callable[[Progress], News | None]:
    """Tells ``observer`` how far a calibration is."""

    def tell(progress: Progress) -> News | None:
        if observer is None:
            return None
        return partial(
            observer.progress,
            Snapshot(
                subject=subject,
                tally=goal.tally,
                void=progress.void,
                lost=progress.lost,
                running=progress.running,
                needed=None,
                last=progress.trials[-1] if progress.trials else None,
                elapsed_s=progress.elapsed_s,
                crashes_wanted=goal.rule.crashes,
                trials_allowed=goal.rule.max_trials,
                shares_boots=sharing.size > 1,
            ),
        )

    return tell
