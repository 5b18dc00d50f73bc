"""One kernel, one reproducer, one question: does it crash? The campaign behind ``check``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from pytest_flaky_repro.campaign.boots import Sharing
from pytest_flaky_repro.campaign.control import Control
from pytest_flaky_repro.campaign.rules import OtherCrash, Rules
from pytest_flaky_repro.campaign.trials import Arm, Budget, Ending, News, Progress, TrialLoop
from pytest_flaky_repro.campaign.verdict import (
    Subject,
    Verdict,
    count_kinds,
    crashed_by,
    of_arm,
    wasted,
)
from pytest_flaky_repro.evidence import EvidenceWriter, History, Trial
from pytest_flaky_repro.machine.trial import Machine, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Decision, Plan, Tally, bounds

__all__ = ["Budget", "Campaign", "Observer", "Snapshot"]

TEST, CONTROL = 0, 1


@dataclass(frozen=True)
class Snapshot:
    """Where a running campaign is."""

    subject: Subject
    tally: Tally
    void: int
    lost: int
    running: int
    needed: int | None  # intact trials to the end, from here, if nothing crashes
    last: Trial | None
    elapsed_s: float
    crashes_wanted: int | None = None  # in a calibration
    trials_allowed: int | None = None
    confidence: float | None = None  # of bounds on the rate
    shares_boots: bool = False  # then the tally is one of boots


class Observer(Protocol):
    """Told of every trial that was fed to the statistics."""

    def progress(self, snapshot: Snapshot) -> None: ...


class Campaign:
    """One test item's campaign on one kernel. ``order`` makes a trial's order from its seed.

    With a ``control`` (a kernel known to crash, on the same hosts) some of the trials are its,
    and *safe* is said only while it crashes as it should.
    """

    def __init__(
        self,
        machine: Machine,
        plan: Plan,
        order: Callable[[str], TrialOrder],
        *,
        subject: Subject,
        rules: Rules,
        budget: Budget,
        writer: EvidenceWriter,
        history: History,
        min_rate_source: str = "",
        control: Control | None = None,
        observer: Observer | None = None,
        should_stop: Callable[[], str | None] = lambda: None,
        seed: str | None = None,
        sharing: Sharing | None = None,
    ) -> None:
        self._subject, self._writer, self._observer = subject, writer, observer
        self._min_rate_source = min_rate_source
        self._shares_boots = sharing is not None and sharing.size > 1
        self._goal = VerdictGoal(plan, rules, control)
        arms = [Arm("test", machine, order, subject.experiment, rules)]
        if control is not None:
            arms.append(control.arm)
        self._loop = TrialLoop(
            arms,
            self._goal,
            budget=budget,
            writer=writer,
            history=history,
            on_trial=self._tell,
            should_stop=should_stop,
            seed=seed,
            sharing=sharing,
        )

    def run(self) -> Verdict:
        """Runs until a conclusion. KeyboardInterrupt passes through, with every trial on disk.

        Raises InfrastructureError when the harness itself cannot go on (a full disk, no QEMU).
        """
        ending = self._loop.run()
        goal, design = self._goal, self._goal.plan.design
        trials, votes = of_arm(self._loop.trials, self._loop.votes, "test")
        lost, void = wasted(trials, votes)
        unknown = self._loop.left_out
        return Verdict(
            conclusion=ending.conclusion,
            why=ending.why,
            subject=self._subject,
            design=design,
            min_rate_source=self._min_rate_source,
            tally=goal.tally,
            void=void,
            lost=lost,
            rate_lower=bounds.rate_bounds(goal.tally, design.confidence_crash, unknown).lower,
            rate_upper=bounds.rate_bounds(goal.tally, design.confidence_safe, unknown).upper,
            still_needed=bounds.clean_trials_needed(goal.plan, goal.tally),
            kinds=count_kinds(trials, votes),
            first_crash=goal.first_crash,
            evidence=self._writer.path,
            trials=tuple(self._loop.trials),
            control=goal.control.check() if goal.control is not None else None,
            unknown=unknown,
        )

    def _tell(self, progress: Progress) -> News | None:
        if self._observer is None:
            return None
        goal = self._goal
        return partial(
            self._observer.progress,
            Snapshot(
                subject=self._subject,
                tally=goal.tally,
                void=progress.void,
                lost=progress.lost,
                running=progress.running,
                needed=bounds.clean_trials_needed(goal.plan, goal.tally),
                last=progress.trials[-1] if progress.trials else None,
                elapsed_s=progress.elapsed_s,
                confidence=goal.plan.design.confidence_safe,
                shares_boots=self._shares_boots,
            ),
        )


class VerdictGoal:
    """Feeds a plan's two lines; with a control, *safe* waits for it."""

    def __init__(self, plan: Plan, rules: Rules, control: Control | None) -> None:
        self.plan, self._rules, self.control = plan, rules, control
        self.tally = Tally(0, 0, 0)
        self.first_crash: Trial | None = None
        self._unexpected: Trial | None = None

    def arm_for(self, ticket: int) -> int:
        if self.control is None:
            return TEST
        is_safe = self.plan.decide(self.tally) is Decision.SAFE
        return CONTROL if self.control.is_due(ticket, is_safe=is_safe) else TEST

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        if arm == CONTROL and self.control is not None:
            self.control.feed(vote)
            return
        # also past the safe line, while the control is awaited: a crash then is still a crash
        self.tally = self.tally.add(vote)
        if vote is Vote.CRASH and self.first_crash is None:
            self.first_crash = trial
        if self._unexpected is None and self._is_unexpected(trial):
            self._unexpected = trial

    def reached(self) -> Ending | None:
        if self._unexpected is not None:
            return Ending(Conclusion.CRASHES, self._describe(self._unexpected, 1))
        decision = self.plan.decide(self.tally)
        if decision is Decision.CRASHES and self.first_crash is not None:
            why = self._describe(self.first_crash, self.tally.crashes)
            return Ending(Conclusion.CRASHES, why)
        refused = self.control.refusal() if self.control is not None else None
        if refused is not None:
            return Ending(Conclusion.INCONCLUSIVE, refused)
        if decision is Decision.SAFE and (self.control is None or self.control.is_confirmed()):
            return Ending(Conclusion.SAFE, "the safe line was reached")
        return None

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        """Whether this crash decides whatever the trials launched before it will say.

        With a noise floor of 0 a crash of the expected kind is proof: P(crash | safe) = 0, so no
        order of arrival can make it a false one. Another crash ends a campaign that was told so.
        """
        if arm == CONTROL or vote is not Vote.CRASH:
            return False
        return self._is_unexpected(trial) or self.plan.design.noise == 0.0

    def wanted(self) -> int | None:
        if self.control is None:
            return bounds.clean_trials_needed(self.plan, self.tally)
        if self.plan.decide(self.tally) is Decision.SAFE:
            return self.control.clean_until_refused()
        return None  # controls lie between: how many launches are needed depends on their tickets

    def spent(self) -> int:
        return self.tally.trials_high

    def _is_unexpected(self, trial: Trial) -> bool:
        return (
            self._rules.other is OtherCrash.FAIL
            and trial.outcome is Outcome.CRASHED
            and not self._rules.is_expected(trial)
        )

    def _describe(self, trial: Trial, crashes: int) -> str:
        said = crashed_by(trial, crashes)
        if trial.outcome is Outcome.CRASHED and not self._rules.is_expected(trial):
            return f"{said} (another crash than the expected {self._rules.expected})"
        return said
