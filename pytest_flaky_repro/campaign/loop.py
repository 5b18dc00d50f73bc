"""The loop: launch trials, write them down, feed them in launch order, stop when it is decided.

Knows nothing of pytest or QEMU: it drives a :class:`~machine.trial.Machine` and writes evidence.
"""

from __future__ import annotations

import hashlib
import queue
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from pytest_flaky_repro.evidence import EvidenceWriter, History, Trial, hostname, now
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Fault, Machine, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.campaign.rules import OtherCrash, Rules, outcome_of, read_facts, status_of
from pytest_flaky_repro.stats import Decision, Plan, Tally, bounds
from pytest_flaky_repro.campaign.verdict import Subject, Verdict, count_kinds

VOID_AT_START = 3  # so many boots in a row that taught nothing, and no trial yet: give up
SHARE_FROM = 10
SHARE_MAX = 0.2  # of trials void or lost
POLL_S = 0.5


@dataclass(frozen=True)
class Budget:
    """What a campaign may spend. ``deadline`` is on the monotonic clock."""

    jobs: int = 1
    max_trials: int | None = None
    seconds: float | None = None
    deadline: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """Where a running campaign is."""

    subject: Subject
    tally: Tally
    void: int
    lost: int
    running: int
    needed: int | None  # intact trials to 'safe', from here, if nothing crashes
    last: Trial | None
    elapsed_s: float


class Observer(Protocol):
    """Told of every trial that was consumed."""

    def progress(self, snapshot: Snapshot) -> None: ...


@dataclass(frozen=True)
class _Finished:
    trial: Trial
    fault: Fault


@dataclass
class _State:
    """What the main thread knows; workers read ``tally`` under the campaign's lock."""

    tally: Tally = field(default_factory=lambda: Tally(0, 0, 0))
    consumed: list[Trial] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    waiting: dict[int, _Finished] = field(default_factory=dict)
    setup_fault: str | None = None
    next_ticket: int = 0
    launched: int = 0
    running: int = 0


class Campaign:
    """One test item's campaign. ``order`` makes a trial's order from its seed."""

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
        observer: Observer | None = None,
        should_stop: Callable[[], str | None] = lambda: None,
        seed: str | None = None,
    ) -> None:
        self._machine, self._plan, self._order = machine, plan, order
        self._subject, self._rules, self._budget = subject, rules, budget
        self._writer, self._history = writer, history
        self._min_rate_source = min_rate_source
        self._observer, self._should_stop = observer, should_stop
        self._seed = seed or secrets.token_hex(8)
        self._state = _State(next_ticket=history.next_ticket, launched=history.next_ticket)
        self._changed = threading.Condition()
        self._results: queue.Queue[_Finished | BaseException] = queue.Queue()
        self._stop = StopSignal()
        self._began = time.monotonic()

    def run(self) -> Verdict:
        """Runs until a conclusion. KeyboardInterrupt passes through, with every trial on disk.

        Raises InfrastructureError when the harness itself cannot go on (a full disk, no QEMU).
        """
        for trial in self._history.trials:
            self._consume(_Finished(trial, Fault.NONE))
            verdict = self._conclude(from_history=True)
            if verdict is not None:
                self._stop.close()
                return verdict
        threads = [
            threading.Thread(target=self._work, name=f"flaky-repro-{i}", daemon=True)
            for i in range(max(1, self._budget.jobs))
        ]
        for thread in threads:
            thread.start()
        try:
            return self._loop()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                thread.join()
            self._stop.close()

    # ---- the main thread

    def _loop(self) -> Verdict:
        while True:
            verdict = self._conclude() or self._give_up()
            if verdict is not None:
                return verdict
            try:
                result = self._results.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(result, BaseException):
                raise result
            verdict = self._take(result)
            if verdict is not None:
                return verdict

    def _take(self, result: _Finished) -> Verdict | None:
        """Feeds what is now an unbroken run of tickets."""
        state = self._state
        state.waiting[result.trial.ticket] = result
        early = self._ends_at_once(result)
        while state.next_ticket in state.waiting:
            self._consume(state.waiting.pop(state.next_ticket))
            verdict = self._conclude()
            if verdict is not None:
                return verdict
        if early:
            return self._crash_out_of_order(result)
        return None

    def _ends_at_once(self, result: _Finished) -> bool:
        """Whether this crash decides whatever the trials launched before it will say.

        With a noise floor of 0 a crash of the expected kind is proof: P(crash | safe) = 0, so no
        order of arrival can make it a false one. Another crash ends a campaign that was told so.
        """
        trial = result.trial
        if self._rules.vote(trial) is not Vote.CRASH:
            return False
        if trial.outcome is Outcome.CRASHED and not self._rules.is_expected(trial):
            return self._rules.other is OtherCrash.FAIL
        return self._plan.design.noise == 0.0

    def _crash_out_of_order(self, result: _Finished) -> Verdict:
        """Counts what has arrived, trials before it that still run left out."""
        state = self._state
        for ticket in sorted(state.waiting):
            self._consume(state.waiting[ticket])
        state.waiting.clear()
        return self._verdict(Conclusion.CRASHES, self._crash_reason(result.trial))

    def _consume(self, result: _Finished) -> None:
        state, trial = self._state, result.trial
        vote = self._rules.vote(trial)
        with self._changed:
            state.tally = state.tally.add(vote)
            state.consumed.append(trial)
            state.votes.append(vote)
            state.next_ticket = max(state.next_ticket, trial.ticket + 1)
            self._changed.notify_all()
            if result.fault is Fault.SETUP:
                state.setup_fault = trial.detail
        if self._observer is not None:
            self._observer.progress(self._snapshot(trial))

    def _conclude(self, *, from_history: bool = False) -> Verdict | None:
        state = self._state
        last = state.consumed[-1] if state.consumed else None
        if last is not None and state.votes[-1] is Vote.CRASH:
            unexpected = last.outcome is Outcome.CRASHED and not self._rules.is_expected(last)
            if unexpected and self._rules.other is OtherCrash.FAIL:
                return self._verdict(Conclusion.CRASHES, self._crash_reason(last))
        decision = self._plan.decide(state.tally)
        if decision is Decision.CRASHES and last is not None:
            crash = next(t for t, v in self._history_of_votes() if v is Vote.CRASH)
            return self._verdict(Conclusion.CRASHES, self._crash_reason(crash))
        if decision is Decision.SAFE:
            return self._verdict(Conclusion.SAFE, "the safe line was reached")
        return None if from_history else self._check_infrastructure()

    def _history_of_votes(self) -> list[tuple[Trial, Vote]]:
        return list(zip(self._state.consumed, self._state.votes, strict=True))

    def _check_infrastructure(self) -> Verdict | None:
        votes = self._state.votes
        void, lost = votes.count(Vote.VOID), votes.count(Vote.LOST)
        if not self._ever_started() and self._state.setup_fault is not None:
            return self._verdict(Conclusion.INFRASTRUCTURE, self._state.setup_fault)
        if not self._ever_started() and void >= VOID_AT_START:
            detail = self._state.consumed[-1].detail
            return self._verdict(
                Conclusion.INFRASTRUCTURE, f"{void} guests in a row never got to START: {detail}"
            )
        if len(votes) >= SHARE_FROM and void + lost > SHARE_MAX * len(votes):
            details = [t.detail or t.title for t, v in self._history_of_votes() if v in _WASTED]
            return self._verdict(
                Conclusion.INFRASTRUCTURE,
                f"{void + lost} of {len(votes)} trials taught nothing ({void} never started, "
                f"{lost} were lost); the last: {details[-1]}",
            )
        return None

    def _ever_started(self) -> bool:
        return any(trial.started for trial in self._state.consumed)

    def _give_up(self) -> Verdict | None:
        """Inconclusive, when a budget is spent or somebody asks to stop."""
        budget, tally = self._budget, self._state.tally
        why = self._should_stop()
        if why is None and budget.max_trials is not None:
            if tally.trials_high >= budget.max_trials:
                why = f"the budget of {budget.max_trials} trials is spent (--repro-max-trials)"
        spent = time.monotonic() - self._began
        if why is None and budget.seconds is not None and spent >= budget.seconds:
            why = f"the budget of {budget.seconds:g} s is spent (--repro-budget)"
        if why is None and budget.deadline is not None and time.monotonic() >= budget.deadline:
            why = "the test's timeout is near"
        return self._verdict(Conclusion.INCONCLUSIVE, why) if why is not None else None

    def _crash_reason(self, trial: Trial) -> str:
        said = f"trial {trial.ticket}: {trial.title or trial.outcome.value}"
        if trial.outcome is Outcome.CRASHED and not self._rules.is_expected(trial):
            return f"{said} (another crash than the expected {self._rules.expected})"
        return said

    def _snapshot(self, last: Trial | None) -> Snapshot:
        state = self._state
        return Snapshot(
            subject=self._subject,
            tally=state.tally,
            void=state.votes.count(Vote.VOID),
            lost=state.votes.count(Vote.LOST),
            running=state.running,
            needed=bounds.clean_trials_needed(self._plan, state.tally),
            last=last,
            elapsed_s=time.monotonic() - self._began,
        )

    def _verdict(self, conclusion: Conclusion, why: str) -> Verdict:
        state, design = self._state, self._plan.design
        crashed = [t for t, v in self._history_of_votes() if v is Vote.CRASH]
        return Verdict(
            conclusion=conclusion,
            why=why,
            subject=self._subject,
            design=design,
            min_rate_source=self._min_rate_source,
            tally=state.tally,
            void=state.votes.count(Vote.VOID),
            lost=state.votes.count(Vote.LOST),
            rate_lower=bounds.rate_bounds(state.tally, design.confidence_crash).lower,
            rate_upper=bounds.rate_bounds(state.tally, design.confidence_safe).upper,
            still_needed=bounds.clean_trials_needed(self._plan, state.tally),
            kinds=count_kinds(state.consumed, state.votes),
            first_crash=crashed[0] if crashed else None,
            evidence=self._writer.path,
            trials=tuple(state.consumed),
        )

    # ---- the worker threads: each lives as long as the guests it starts

    def _work(self) -> None:
        try:
            while self._await_need():
                with self._machine.slot(self._stop) as slot:
                    if slot is None:
                        return
                    ticket = self._draw()
                    if ticket is not None:
                        self._results.put(self._trial(ticket, slot))
        except BaseException as error:  # noqa: BLE001 - raised again, in the main thread
            self._results.put(error)

    def _await_need(self) -> bool:
        """Waits until another launch is worth it; False when the campaign is over."""
        with self._changed:
            while not self._stop.is_set() and not self._is_needed():
                self._changed.wait(POLL_S)
        return not self._stop.is_set()

    def _is_needed(self) -> bool:
        """Whether, if all that run now survive, one more could still be consumed."""
        state = self._state
        ahead = state.launched - state.next_ticket
        needed = bounds.clean_trials_needed(self._plan, state.tally)
        if needed is not None and ahead >= needed:
            return False
        limit = self._budget.max_trials
        return limit is None or state.tally.trials_high + ahead < limit

    def _draw(self) -> int | None:
        """A ticket, on disk before its guest is launched."""
        with self._changed:
            if self._stop.is_set() or not self._is_needed():
                return None
            ticket = self._state.launched
            self._writer.launch(ticket, self._trial_seed(ticket))
            self._state.launched += 1
            self._state.running += 1
            return ticket

    def _trial(self, ticket: int, slot: Slot) -> _Finished:
        """Runs one trial and writes it down before anyone counts it."""
        seed = self._trial_seed(ticket)
        started: list[str] = []

        def on_start() -> None:
            started.append(now())
            with self._changed:
                self._writer.start(ticket, started[0])

        facts = self._machine.run(self._order(seed), slot, self._stop, on_start)
        reading = read_facts(facts, self._rules)
        trial = Trial(
            experiment=self._subject.experiment,
            ticket=ticket,
            seed=seed,
            host=hostname(),
            accel=self._machine.accel.value,
            boot=facts.boot,
            started=started[0] if started else None,
            boot_s=round(facts.boot_s, 3),
            exposure_s=round(facts.exposure_s, 3),
            outcome=outcome_of(facts, reading),
            title=reading.title,
            status=status_of(facts),
            detail=facts.detail,
            alternates=tuple(sorted(reading.alternates)),
            kind=reading.kind.value if reading.kind is not None else None,
        )
        with self._changed:
            self._state.running -= 1
            if trial.outcome is not Outcome.SURVIVED or ticket == 0:
                output = facts.end.output if facts.end is not None else b""
                kept = facts.console + (b"\n[reproducer's output]\n" + output if output else b"")
                trial = replace(trial, console=self._writer.keep_console(ticket, kept))
            self._writer.trial(trial)
        return _Finished(trial, facts.fault)

    def _trial_seed(self, ticket: int) -> str:
        return hashlib.sha256(f"{self._seed} {ticket}".encode()).hexdigest()[:16]


_WASTED = (Vote.VOID, Vote.LOST)
