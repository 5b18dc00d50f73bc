"""Launching trials, writing them down, feeding them in launch order until a goal is reached.

Knows nothing of pytest or QEMU: it drives machines and writes evidence. What the trials are
*for* (a verdict, a calibration, a comparison) is the goal's business.
"""

from __future__ import annotations

import hashlib
import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from pytest_flaky_repro.campaign.rules import Rules, outcome_of, read_facts, status_of
from pytest_flaky_repro.evidence import EvidenceWriter, History, Trial, hostname, now
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Fault, Machine, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote

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
class Arm:
    """One experiment among those that a campaign's trials are shared out to."""

    name: str
    machine: Machine
    order: Callable[[str], TrialOrder]
    experiment: str
    rules: Rules


@dataclass(frozen=True)
class Ending:
    """What ended the launching of trials, and why."""

    conclusion: Conclusion
    why: str


class Goal(Protocol):
    """What trials are fed to, in launch order."""

    def arm_for(self, ticket: int) -> int:
        """Which arm the launch with this ticket belongs to. Asked once a ticket, in order."""
        ...

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None: ...

    def reached(self) -> Ending | None: ...

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        """Whether this trial decides, whatever those launched before it will say."""
        ...

    def wanted(self) -> int | None:
        """How many more launches could be fed if all of them survive; None: no limit."""
        ...

    def spent(self) -> int:
        """Trials that count towards ``max_trials``."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where the launching of trials is."""

    trials: Sequence[Trial]
    votes: Sequence[Vote]
    running: int
    elapsed_s: float


News = Callable[[], None]
"""What ``on_trial`` has to tell, called in the thread that called :meth:`TrialLoop.run`."""


@dataclass(frozen=True)
class _Finished:
    trial: Trial
    fault: Fault


@dataclass
class _State:
    consumed: list[Trial] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    waiting: dict[int, _Finished] = field(default_factory=dict)
    setup_fault: str | None = None
    next_ticket: int = 0
    launched: int = 0
    running: int = 0


class TrialLoop:
    """Runs trials of its arms until the goal is reached or a budget is spent.

    ``gate`` gives the slots; the default, the first arm's machine, suits arms of one size.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        goal: Goal,
        *,
        budget: Budget,
        writer: EvidenceWriter,
        history: History,
        on_trial: Callable[[Progress], News | None] = lambda _: None,
        should_stop: Callable[[], str | None] = lambda: None,
        seed: str | None = None,
        gate: Machine | None = None,
    ) -> None:
        self._gate = gate if gate is not None else arms[0].machine
        self._arms, self._goal, self._budget = list(arms), goal, budget
        self._by_name = {arm.name: index for index, arm in enumerate(self._arms)}
        self._writer, self._history = writer, history
        self._on_trial, self._should_stop = on_trial, should_stop
        self._seed = seed or secrets.token_hex(8)
        self._state = _State(next_ticket=history.next_ticket, launched=history.next_ticket)
        self._changed = threading.Condition()
        self._results: queue.Queue[_Finished | BaseException] = queue.Queue()
        self._outbox: queue.SimpleQueue[News | Ending | BaseException] = queue.SimpleQueue()
        self._stop = StopSignal()
        self._began = time.monotonic()

    @property
    def trials(self) -> Sequence[Trial]:
        """What was fed so far, in launch order."""
        return self._state.consumed

    @property
    def votes(self) -> Sequence[Vote]:
        """The votes of :attr:`trials`."""
        return self._state.votes

    def run(self) -> Ending:
        """Runs until the goal is reached. KeyboardInterrupt passes through, all trials on disk.

        Raises InfrastructureError when the harness itself cannot go on (a full disk, no QEMU).

        A signal handler may raise in the calling thread anywhere: even inside a lock's
        ``__enter__``, which leaves it locked for ever. So that thread takes no lock that others
        need; it only reads an outbox.
        """
        leader = threading.Thread(target=self._lead, name="flaky-repro-lead", daemon=True)
        leader.start()
        try:
            while True:
                said = self._outbox.get()
                if isinstance(said, Ending):
                    return said
                if isinstance(said, BaseException):
                    raise said
                said()
        finally:
            self._stop.set()
            leader.join()
            self._stop.close()

    # ---- the leading thread

    def _lead(self) -> None:
        try:
            self._outbox.put(self._replay() or self._run_trials())
        except BaseException as error:  # noqa: BLE001 - raised again, in the calling thread
            self._outbox.put(error)

    def _replay(self) -> Ending | None:
        """Feeds what earlier runs left; None where that decides nothing."""
        for trial in self._history.trials:
            self._feed(_Finished(trial, Fault.NONE))
            ending = self._goal.reached()
            if ending is not None:
                return ending
        return None

    def _run_trials(self) -> Ending:
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

    def _loop(self) -> Ending:
        while not self._stop.is_set():
            ending = self._goal.reached() or self._infrastructure() or self._give_up()
            if ending is not None:
                return ending
            try:
                result = self._results.get(timeout=POLL_S)
            except queue.Empty:
                continue
            if isinstance(result, BaseException):
                raise result
            ending = self._take(result)
            if ending is not None:
                return ending
        return Ending(Conclusion.INCONCLUSIVE, "stopped")  # nobody waits for it any more

    def _take(self, result: _Finished) -> Ending | None:
        """Feeds what is now an unbroken run of tickets."""
        state = self._state
        state.waiting[result.trial.ticket] = result
        at_once = self._goal.ends_at_once(*self._voted(result.trial))
        while state.next_ticket in state.waiting:
            self._feed(state.waiting.pop(state.next_ticket))
            ending = self._goal.reached()
            if ending is not None:
                return ending
        if not at_once:
            return None
        for ticket in sorted(state.waiting):  # those launched before, still running, are left out
            self._feed(state.waiting.pop(ticket))
        return self._goal.reached()

    def _voted(self, trial: Trial) -> tuple[int, Trial, Vote]:
        arm = self._by_name.get(trial.arm, 0)
        return arm, trial, self._arms[arm].rules.vote(trial)

    def _feed(self, result: _Finished) -> None:
        state = self._state
        arm, trial, vote = self._voted(result.trial)
        with self._changed:
            self._goal.feed(arm, trial, vote)
            state.consumed.append(trial)
            state.votes.append(vote)
            state.next_ticket = max(state.next_ticket, trial.ticket + 1)
            if result.fault is Fault.SETUP:
                state.setup_fault = trial.detail
            self._changed.notify_all()
        spent = time.monotonic() - self._began
        news = self._on_trial(Progress(state.consumed, state.votes, state.running, spent))
        if news is not None:
            self._outbox.put(news)

    def _infrastructure(self) -> Ending | None:
        """Says so when too much of the campaign teaches nothing: the harness never votes.

        What earlier runs lost is not counted again: an interruption costs the trials that ran.
        """
        state, earlier = self._state, len(self._history.trials)
        trials, votes = state.consumed[earlier:], state.votes[earlier:]
        void, lost = votes.count(Vote.VOID), votes.count(Vote.LOST)
        started = any(trial.started for trial in state.consumed)
        why = None
        if not started and state.setup_fault is not None:
            why = state.setup_fault
        elif not started and void >= VOID_AT_START:
            last = trials[-1]
            why = f"{void} guests in a row never got to START: {last.detail or last.title}"
        elif len(votes) >= SHARE_FROM and void + lost > SHARE_MAX * len(votes):
            pairs = zip(trials, votes, strict=True)
            wasted = [trial for trial, vote in pairs if vote in (Vote.VOID, Vote.LOST)]
            why = (
                f"{void + lost} of {len(votes)} trials taught nothing ({void} never started, "
                f"{lost} were lost); the last: {wasted[-1].detail or wasted[-1].title}"
            )
        return Ending(Conclusion.INFRASTRUCTURE, why) if why is not None else None

    def _give_up(self) -> Ending | None:
        """Inconclusive, when a budget is spent or somebody asks to stop."""
        budget = self._budget
        limit, now_s = budget.max_trials, time.monotonic()
        why = self._should_stop()
        if why is None and limit is not None and self._goal.spent() >= limit:
            why = f"the budget of {limit} trials is spent (--repro-max-trials)"
        if why is None and budget.seconds is not None and now_s - self._began >= budget.seconds:
            why = f"the budget of {budget.seconds:g} s is spent (--repro-budget)"
        if why is None and budget.deadline is not None and now_s >= budget.deadline:
            why = "the test's timeout is near"
        return Ending(Conclusion.INCONCLUSIVE, why) if why is not None else None

    # ---- the worker threads: each lives as long as the guests it starts

    def _work(self) -> None:
        try:
            while self._await_need():
                # a slot comes before a ticket, so it has to be large enough for any arm's guest
                with self._gate.slot(self._stop) as slot:
                    if slot is None:
                        return
                    drawn = self._draw()
                    if drawn is not None:
                        self._results.put(self._trial(*drawn, slot))
        except BaseException as error:  # noqa: BLE001 - raised again, in the leading thread
            self._results.put(error)

    def _await_need(self) -> bool:
        """Waits until another launch is worth it; False when the campaign is over."""
        with self._changed:
            while not self._stop.is_set() and not self._is_needed():
                self._changed.wait(POLL_S)
        return not self._stop.is_set()

    def _is_needed(self) -> bool:
        """Whether, if all that run now survive, one more could still be fed."""
        ahead = self._state.launched - self._state.next_ticket
        wanted, limit = self._goal.wanted(), self._budget.max_trials
        if wanted is not None and ahead >= wanted:
            return False
        return limit is None or self._goal.spent() + ahead < limit

    def _draw(self) -> tuple[int, Arm] | None:
        """A ticket and its arm, on disk before the guest is launched."""
        with self._changed:
            if self._stop.is_set() or not self._is_needed():
                return None
            ticket = self._state.launched
            arm = self._arms[self._goal.arm_for(ticket)]
            self._writer.launch(ticket, self._trial_seed(ticket), arm.name)
            self._state.launched += 1
            self._state.running += 1
            return ticket, arm

    def _trial(self, ticket: int, arm: Arm, slot: Slot) -> _Finished:
        """Runs one trial and writes it down before anyone counts it."""
        seed = self._trial_seed(ticket)
        started: list[str] = []

        def on_start() -> None:
            started.append(now())
            with self._changed:
                self._writer.start(ticket, started[0])

        facts = arm.machine.run(arm.order(seed), slot, self._stop, on_start)
        reading = read_facts(facts, arm.rules)
        trial = Trial(
            experiment=arm.experiment,
            ticket=ticket,
            seed=seed,
            host=hostname(),
            accel=arm.machine.accel.value,
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
            arm=arm.name,
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
