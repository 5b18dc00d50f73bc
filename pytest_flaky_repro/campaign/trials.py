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
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Protocol

from pytest_flaky_repro.campaign.boots import Boot, Finished, Sharing, boot_name, boots_of
from pytest_flaky_repro.campaign.rules import CUT_SHORT, Rules, outcome_of, read_facts, status_of
from pytest_flaky_repro.campaign.waste import VOID_AT_START, is_too_much
from pytest_flaky_repro.errors import TOO_MANY_PROCESSES, InfrastructureError
from pytest_flaky_repro.evidence import EvidenceWriter, History, Trial
from pytest_flaky_repro.journal import hostname, now
from pytest_flaky_repro.machine.sharing import Seat
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Fault, Machine, SharesBoots, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats.statement import counted

POLL_S = 0.5
WASTED = (Vote.VOID, Vote.LOST)
EXHAUSTED = "the machine does not give what a trial needs"
GO_ON = "The trials that ended are on disk: mend it, then go on with --repro-resume"


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
    void: int = 0
    lost: int = 0


News = Callable[[], None]
"""What ``on_trial`` has to tell, called in the thread that called :meth:`TrialLoop.run`."""


@dataclass(frozen=True)
class _Drawn:
    """A ticket, and where its trial goes."""

    ticket: int
    arm: Arm
    boot: Boot
    seat: Seat | None

    @property
    def is_last(self) -> bool:
        return self.seat is None or self.seat.place >= self.seat.last


@dataclass(frozen=True)
class _Ended:
    """A trial that was written down, and its boot."""

    boot: Boot
    result: Finished


@dataclass
class _State:
    consumed: list[Trial] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    counts: dict[Vote, int] = field(default_factory=lambda: dict.fromkeys(Vote, 0))
    wastes: Counter[Vote] = field(default_factory=Counter)  # without what was cut short
    judged: dict[Vote, int] = field(default_factory=lambda: dict.fromkeys(Vote, 0))  # for waste
    earlier: dict[Vote, int] = field(default_factory=lambda: dict.fromkeys(Vote, 0))  # of judged
    boots: dict[int, Boot] = field(default_factory=dict)  # launched, and not yet fed
    tickets: int = 0  # drawn so far; void: how many of them never started
    void_tickets: int = 0
    has_started: bool = False
    wasted: Trial | None = None  # the last trial that taught nothing
    setup_fault: str | None = None
    lost_with: set[str] = field(default_factory=set)
    left_out: int = 0  # boots launched before the one that ended it at once, and not waited for
    collateral: int = 0  # of judged: lost with others, beyond the first of each event
    next_boot: int = 0  # to be fed
    launched: int = 0  # boots
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
        sharing: Sharing | None = None,
    ) -> None:
        self._sharing = sharing or Sharing()
        self._gate = gate if gate is not None else arms[0].machine
        self._arms, self._goal, self._budget = list(arms), goal, budget
        self._by_name = {arm.name: index for index, arm in enumerate(self._arms)}
        self._writer, self._history = writer, history
        self._on_trial, self._should_stop = on_trial, should_stop
        self._seed = seed or secrets.token_hex(8)
        first = history.next_ticket if self._sharing.size == 1 else 0
        self._state = _State(tickets=history.next_ticket, next_boot=first, launched=first)
        self._changed = threading.Condition()
        self._results: queue.Queue[_Ended | BaseException] = queue.Queue()
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

    @property
    def left_out(self) -> int:
        """Boots among those fed whose end was not waited for, since another one decided."""
        return self._state.left_out

    def run(self) -> Ending:
        """Runs until the goal is reached. KeyboardInterrupt passes through, all trials on disk.

        Raises InfrastructureError when the harness itself cannot go on (a full disk, no QEMU).

        A signal handler may raise in the calling thread anywhere: even inside a lock's
        ``__enter__``, which leaves it locked for ever. So that thread takes no lock that others
        need; it only reads an outbox.
        """
        leader = threading.Thread(target=self._lead, name="flaky-repro-lead", daemon=True)
        try:
            _start(leader)
            while True:
                said = self._outbox.get()
                if isinstance(said, Ending):
                    return said
                if isinstance(said, OSError):
                    raise InfrastructureError(f"{EXHAUSTED}: {said}. {GO_ON}") from said
                if isinstance(said, BaseException):
                    raise said
                said()
        finally:
            self._stop.set()
            _join(leader)
            self._stop.close()

    # ---- the leading thread

    def _lead(self) -> None:
        try:
            self._outbox.put(self._replay() or self._run_trials())
        except BaseException as error:  # noqa: BLE001 - raised again, in the calling thread
            self._outbox.put(error)

    def _replay(self) -> Ending | None:
        """Feeds what earlier runs left; None where that decides nothing."""
        state = self._state
        for trials in boots_of(self._history.trials, self._sharing):
            number = trials[0].ticket if self._sharing.size == 1 else state.launched
            arm = self._by_name.get(trials[0].arm, 0)
            boot = Boot(number, trials[0].boot, arm, results=[Finished(t) for t in trials])
            state.launched = max(state.launched, number + 1)
            self._feed(boot)
            ending = self._goal.reached()
            if ending is not None:
                return ending
        state.earlier = dict(state.judged)
        return None

    def _run_trials(self) -> Ending:
        threads = [
            threading.Thread(target=self._work, name=f"flaky-repro-{i}", daemon=True)
            for i in range(max(1, self._budget.jobs))
        ]
        try:
            for thread in threads:
                _start(thread)
            return self._loop()
        finally:
            self._stop.set()
            with self._changed:
                self._changed.notify_all()
            for thread in threads:
                _join(thread)

    def _loop(self) -> Ending:
        while not self._stop.is_set():
            ending = self._goal.reached() or self._infrastructure()
            if ending is not None:
                return ending
            ending = self._give_up()
            if ending is not None:
                self._feed_what_is_there()
                return self._goal.reached() or ending
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

    def _take(self, ended: _Ended) -> Ending | None:
        """Feeds what is now an unbroken run of boots."""
        state = self._state
        ended.boot.taken += 1
        while state.next_boot in state.boots and state.boots[state.next_boot].is_done:
            self._feed(state.boots.pop(state.next_boot))
            ending = self._goal.reached()
            if ending is not None:
                return ending
        if ended.boot.number < state.next_boot:
            return None
        if not self._goal.ends_at_once(*self._voted(ended.result.trial)):
            return None
        ready = [n for n, boot in state.boots.items() if boot.is_done or boot is ended.boot]
        for number in sorted(state.boots):
            if number in ready:
                self._feed(state.boots.pop(number))
            elif number < max(ready):  # still running
                state.left_out += state.boots[number].arm == ended.boot.arm
        return self._goal.reached()

    def _feed_what_is_there(self) -> None:
        """Boots that were left half-way, as far as they came: the campaign ends from outside."""
        state = self._state
        while self._sharing.size > 1 and state.next_boot in state.boots:
            boot = state.boots[state.next_boot]
            if boot.running or not boot.results:
                return
            self._feed(state.boots.pop(state.next_boot))

    def _voted(self, trial: Trial) -> tuple[int, Trial, Vote]:
        arm = self._by_name.get(trial.arm, 0)
        return arm, trial, self._arms[arm].rules.vote(trial)

    def _feed(self, boot: Boot) -> None:
        state, rules = self._state, self._arms[boot.arm].rules
        with self._changed:
            results = sorted(boot.results, key=lambda result: result.trial.ticket)
            votes = [rules.vote(result.trial) for result in results]
            for result, vote in zip(results, votes, strict=True):
                self._count(result, vote)
            decided, said = boot.judge(rules.vote, self._sharing)
            self._goal.feed(boot.arm, decided, said)
            self._weigh(results, votes, said)
            state.next_boot = max(state.next_boot, boot.number + 1)
            self._changed.notify_all()
        void, lost = state.wastes[Vote.VOID], state.wastes[Vote.LOST]
        spent = time.monotonic() - self._began
        progress = Progress(state.consumed, state.votes, state.running, spent, void, lost)
        news = self._on_trial(progress)
        if news is not None:
            self._outbox.put(news)

    def _count(self, result: Finished, vote: Vote) -> None:
        """Counts as it goes: a campaign may have many thousand trials."""
        state, trial = self._state, result.trial
        state.consumed.append(trial)
        state.votes.append(vote)
        state.counts[vote] += 1
        state.wastes[vote] += trial.detail not in CUT_SHORT
        state.has_started = state.has_started or trial.started is not None
        if vote in WASTED:
            state.wasted = trial
        if result.fault is Fault.SETUP:
            state.setup_fault = trial.detail

    def _weigh(self, results: Sequence[Finished], votes: Sequence[Vote], said: Vote) -> None:
        """Counts what waste is a share of: that which votes, a trial or a whole boot.

        A boot that was lost without a lost trial was left half-way: a budget was spent.
        """
        wasted = {r.lost_with for r, vote in zip(results, votes, strict=True) if vote in WASTED}
        if not self._sharing.whole:
            for result, vote in zip(results, votes, strict=True):
                self._judge(vote, {result.lost_with})
        elif said not in WASTED or wasted:
            self._judge(said, wasted)

    def _judge(self, vote: Vote, events: set[str]) -> None:
        """``events`` are what took it, or parts of it, along; one without a name is its own."""
        state = self._state
        state.judged[vote] += 1
        state.collateral += vote in WASTED and events <= state.lost_with
        state.lost_with |= events - {""}

    def _infrastructure(self) -> Ending | None:
        """Says so when too much of the campaign teaches nothing: the harness never votes.

        What earlier runs lost is not counted again: an interruption costs the trials that ran.
        What one event took counts once: a worker's end takes all trials on it along, of which at
        most one can have been its cause. (Each of them is a lost trial to the statistics.)
        """
        state = self._state
        here = {vote: state.judged[vote] - state.earlier[vote] for vote in Vote}
        void, lost, judged = here[Vote.VOID], here[Vote.LOST], sum(here.values())
        wasted, counted = void + lost - state.collateral, judged - state.collateral
        last = f"{state.wasted.detail or state.wasted.title}" if state.wasted is not None else ""
        why = None
        if not state.has_started and state.setup_fault is not None:
            why = state.setup_fault
        elif not state.has_started and wasted >= VOID_AT_START:
            why = f"{void} guests in a row never got to START: {last}"
        elif is_too_much(wasted, counted):
            unit = "boots" if self._sharing.whole else "trials"
            why = (
                f"{void + lost} of {judged} {unit} taught nothing ({void} never started, "
                f"{lost} were lost); the last: {last}"
            )
        return Ending(Conclusion.INFRASTRUCTURE, why) if why is not None else None

    def _give_up(self) -> Ending | None:
        """Inconclusive, when a budget is spent or somebody asks to stop."""
        budget = self._budget
        limit, now_s = budget.max_trials, time.monotonic()
        why = self._should_stop()
        if why is None and limit is not None and self._spent() >= limit:
            why = f"the budget of {counted(limit, 'trials')} is spent (--repro-max-trials)"
        if why is None and budget.seconds is not None and now_s - self._began >= budget.seconds:
            why = f"the budget of {budget.seconds:g} s is spent (--repro-budget)"
        if why is None and budget.deadline is not None and now_s >= budget.deadline:
            why = "the test's timeout is near"
        return Ending(Conclusion.INCONCLUSIVE, why) if why is not None else None

    # ---- the worker threads: each lives as long as the guests it starts

    def _work(self) -> None:
        mine: Boot | None = None  # whose guest this thread may be keeping
        try:
            while self._await_need(mine):
                with self._room(mine) as slot:
                    if slot is None:
                        return
                    drawn = self._draw(mine)
                    if drawn is not None:
                        mine = drawn.boot
                        self._results.put(self._trial(drawn, slot))
        except BaseException as error:  # noqa: BLE001 - raised again, in the leading thread
            self._results.put(error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        for arm in self._arms:
            if isinstance(arm.machine, SharesBoots):
                arm.machine.let_go()

    def _room(self, mine: Boot | None) -> AbstractContextManager[Slot | None]:
        """A slot, before a ticket is drawn: so it has to be large enough for any arm's guest.

        A guest that this thread keeps running has its slot already, and would hold it while the
        thread waits for the next one: a boot may have ended early, and its guest be still there.
        """
        if mine is not None and not mine.closed and not self._sharing.side_by_side:
            return nullcontext(Slot(()))
        self._let_go()
        return self._gate.slot(self._stop)

    def _await_need(self, mine: Boot | None) -> bool:
        """Waits until another launch is worth it; False when the campaign is over."""
        with self._changed:
            while not self._stop.is_set() and self._boot_for(mine) is None:
                if self._is_needed():
                    break
                self._changed.wait(POLL_S)
        return not self._stop.is_set()

    def _is_needed(self) -> bool:
        """Whether, if all boots that are under way survive, one more could still be fed."""
        ahead = self._state.launched - self._state.next_boot
        wanted = self._goal.wanted()
        return (wanted is None or ahead < wanted) and self._is_affordable()

    def _is_affordable(self) -> bool:
        state, limit = self._state, self._budget.max_trials
        if limit is None:
            return True
        if self._sharing.size > 1:
            return state.tickets - state.void_tickets < limit
        return self._goal.spent() + state.launched - state.next_boot < limit

    def _spent(self) -> int:
        """Trials that count towards ``max_trials``."""
        if self._sharing.size == 1:
            return self._goal.spent()
        return len(self._state.consumed) - self._state.counts[Vote.VOID]

    def _boot_for(self, mine: Boot | None) -> Boot | None:
        """A boot under way that this thread can add a trial to, its own before others'."""
        if not self._is_affordable():
            return None
        if mine is not None and not mine.closed:
            return mine
        if not self._sharing.side_by_side:
            return None
        boots = self._state.boots.values()
        return next((boot for boot in boots if boot.has_started and not boot.closed), None)

    def _draw(self, mine: Boot | None) -> _Drawn | None:
        """A ticket and its boot, on disk before the guest is launched."""
        state = self._state
        with self._changed:
            if self._stop.is_set():
                return None
            boot = self._boot_for(mine)
            if boot is None and self._is_needed():
                arm = self._goal.arm_for(state.launched)
                boot = Boot(state.launched, boot_name(self._seed, state.launched), arm)
                state.boots[boot.number] = boot
                state.launched += 1
            if boot is None:
                return None
            boot.drawn += 1
            boot.running += 1
            ticket, arm_of_it, size = state.tickets, self._arms[boot.arm], self._sharing.size
            seat = Seat(boot.name, boot.drawn, size) if size > 1 else None
            shared = boot.name if seat is not None else ""
            self._writer.launch(ticket, trial_seed(self._seed, ticket), arm_of_it.name, shared)
            state.tickets += 1
            state.running += 1
            if boot.drawn == size or not self._is_affordable():
                boot.closed = True
            return _Drawn(ticket, arm_of_it, boot, seat)

    def _end(self, drawn: _Drawn, result: Finished, spent: str) -> _Ended:
        """Gives a trial's boot its result; called with the lock held."""
        vote = drawn.arm.rules.vote(result.trial)
        self._state.void_tickets += vote is Vote.VOID
        drawn.boot.add(result, vote, spent, self._sharing)
        if not self._is_affordable():
            for boot in self._state.boots.values():
                boot.closed = True
        self._changed.notify_all()
        return _Ended(drawn.boot, result)

    def _trial(self, drawn: _Drawn, slot: Slot) -> _Ended:
        """Runs one trial and writes it down before anyone counts it."""
        ticket, arm = drawn.ticket, drawn.arm
        seed = trial_seed(self._seed, ticket)
        started: list[str] = []

        def on_start() -> None:
            started.append(now())
            with self._changed:
                self._writer.start(ticket, started[0])
                drawn.boot.has_started = True
                self._changed.notify_all()

        order = replace(arm.order(seed), seat=drawn.seat)
        began = time.monotonic()
        facts = arm.machine.run(order, slot, self._stop, on_start)
        took_s = time.monotonic() - began
        reading = read_facts(facts, arm.rules)
        trial = Trial(
            experiment=arm.experiment,
            ticket=ticket,
            seed=seed,
            host=facts.host or hostname(),
            accel=(facts.accel or arm.machine.accel).value,
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
            place=drawn.seat.place if drawn.seat is not None else 1,
            spent=facts.spent if drawn.seat is not None and not drawn.is_last else "",
        )
        with self._changed:
            self._state.running -= 1
            if trial.outcome is not Outcome.SURVIVED or ticket == 0:
                output = facts.end.output if facts.end is not None else b""
                kept = facts.console + (b"\n[reproducer's output]\n" + output if output else b"")
                trial = self._with_console(trial, kept)
            self._writer.trial(trial)
            result = Finished(trial, facts.fault, facts.lost_with, took_s)
            ended = self._end(drawn, result, trial.spent)
        if drawn.boot.closed and isinstance(arm.machine, SharesBoots):
            arm.machine.retire(drawn.boot.name)
        return ended

    def _with_console(self, trial: Trial, console: bytes) -> Trial:
        """Keeps the console; a trial whose console does not fit on the disk is still recorded."""
        try:
            return replace(trial, console=self._writer.keep_console(trial.ticket, console))
        except InfrastructureError as error:
            self._writer.trial(replace(trial, detail=f"{trial.detail} ({error})".strip()))
            raise


def trial_seed(seed: str, ticket: int) -> str:
    """What a reproducer finds in REPRO_SEED: another for each ticket of each campaign's seed."""
    return hashlib.sha256(f"{seed} {ticket}".encode()).hexdigest()[:16]


def _start(thread: threading.Thread) -> None:
    try:
        thread.start()
    except RuntimeError as error:  # all that threading says of a limit on processes
        msg = f"{EXHAUSTED}: {error} ({TOO_MANY_PROCESSES}). {GO_ON}"
        raise InfrastructureError(msg) from error


def _join(thread: threading.Thread) -> None:
    if thread.ident is not None:
        thread.join()
