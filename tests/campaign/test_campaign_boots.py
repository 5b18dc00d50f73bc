"""Trials that share boots: what a boot counts, in what order, and how often a verdict is wrong."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.campaign.boots import Boot, Counting, Finished, Sharing, judge_boot
from pytest_flaky_repro.campaign.calibration import CalibrationGoal
from pytest_flaky_repro.campaign.rules import OtherCrash, Rules
from pytest_flaky_repro.campaign.trials import Arm, Budget, TrialLoop
from pytest_flaky_repro.crash import Phase, Signature
from pytest_flaky_repro.evidence import EvidenceWriter, History, PlanRecord, Trial
from pytest_flaky_repro.machine.conversation import Command, End, Ended, Gone
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.machine.slots import Capacity, Slot, Slots
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Design, Tally, plan_for
from pytest_flaky_repro.stats.calibration import CalibrationRule
from pytest_flaky_repro.stats.clusters import boot_design

if TYPE_CHECKING:
    from tests.campaign.conftest import Bench

SURE = Design(min_rate=0.2, confidence_safe=0.9, confidence_crash=0.9)
NEEDED = 11
FIRST = Sharing(size=4, counting=Counting.FIRST)
WHOLE = Sharing(size=4, counting=Counting.WHOLE)


def trial(ticket: int, outcome: Outcome, spent: str = "") -> Trial:
    return Trial(
        "e", ticket, "seed", "host", "tcg", "boot", "now", 0.1, 0.1, outcome, place=ticket + 1,
        spent=spent,
    )  # fmt: skip


def says(outcomes: list[Outcome], sharing: Sharing, spent: str = "") -> Vote:
    trials = [trial(n, outcome) for n, outcome in enumerate(outcomes[:-1])]
    trials.append(trial(len(trials), outcomes[-1], spent))
    return judge_boot(trials, [Rules().vote(t) for t in trials], sharing)[1]


OK, DEAD, LOST, VOID = Outcome.SURVIVED, Outcome.CRASHED, Outcome.LOST, Outcome.BOOT_FAILED


@pytest.mark.parametrize(
    ("outcomes", "first", "whole"),
    [
        ([OK, OK, OK, OK], Vote.SURVIVAL, Vote.SURVIVAL),
        ([OK], Vote.SURVIVAL, Vote.LOST),  # left half-way
        ([OK, DEAD], Vote.CRASH, Vote.CRASH),
        ([OK, LOST], Vote.SURVIVAL, Vote.LOST),
        ([LOST], Vote.LOST, Vote.LOST),
        ([VOID], Vote.VOID, Vote.VOID),
        ([OK, VOID], Vote.SURVIVAL, Vote.LOST),
    ],
)
def test_what_a_boot_says(outcomes: list[Outcome], first: Vote, whole: Vote) -> None:
    assert says(outcomes, FIRST) is first
    assert says(outcomes, WHOLE) is whole


def test_a_kernel_that_became_unfit_ends_its_boot_by_itself() -> None:
    assert says([OK, OK], WHOLE, spent="tainted") is Vote.SURVIVAL


def test_boots_are_counted_and_trials_are_written_down(bench: Bench) -> None:
    folder = bench.anew()
    verdict = bench.run(Behaviour(), SURE, folder=folder, sharing=FIRST)
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.tally == Tally(NEEDED, NEEDED, 0)
    by_boot = Counter(t.boot for t in verdict.trials)
    assert list(by_boot.values()) == [4] * NEEDED
    assert [t.place for t in verdict.trials] == [1, 2, 3, 4] * NEEDED
    (file,) = folder.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert sum(line["type"] == "trial" for line in lines) == 4 * NEEDED
    assert {line["boot"] for line in lines if line["type"] == "launch"} == set(by_boot)


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("side_by_side", [False, True])
def test_the_same_boots_give_the_same_verdict_side_by_side(
    bench: Bench, jobs: int, side_by_side: bool
) -> None:
    noisy = Design(0.4, noise=0.1, confidence_safe=0.8, confidence_crash=0.8)
    how = Sharing(4, Counting.WHOLE, side_by_side=side_by_side)
    found = bench.run(Behaviour(seconds=0.002), noisy, jobs=jobs, sharing=how)
    assert found.conclusion is Conclusion.SAFE
    assert found.tally.trials_low == plan_for(noisy).safe_at(0)


def test_a_crash_ends_its_boot_and_without_noise_the_campaign(bench: Bench) -> None:
    verdict = bench.run(Behaviour(crash=0.15), SURE, sharing=WHOLE, jobs=2, seed="5")
    assert verdict.conclusion is Conclusion.CRASHES, "choose a seed with a crash"
    assert verdict.first_crash is not None
    boot = [t for t in verdict.trials if t.boot == verdict.first_crash.boot]
    assert boot[-1] is verdict.first_crash


def test_a_budget_of_trials_counts_trials(bench: Bench) -> None:
    verdict = bench.run(Behaviour(), SURE, sharing=FIRST, max_trials=10, jobs=2)
    assert verdict.conclusion is Conclusion.INCONCLUSIVE
    assert len(verdict.trials) == 10
    assert verdict.intact in (3, 4)  # two threads may have begun one boot more
    assert verdict.still_needed == NEEDED - verdict.intact


def test_an_interrupted_boot_is_not_a_whole_one(bench: Bench) -> None:
    folder = bench.anew()
    bench.run(Behaviour(), SURE, folder=folder, sharing=WHOLE, max_trials=6)
    verdict = bench.run(Behaviour(), SURE, folder=folder, sharing=WHOLE, resume=True, seed="2")
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.tally == Tally(NEEDED, NEEDED + 1, 0)
    assert len(verdict.trials) == 4 * NEEDED + 2


def test_an_interrupted_boot_counts_where_one_trial_does(bench: Bench) -> None:
    folder = bench.anew()
    bench.run(Behaviour(), SURE, folder=folder, sharing=FIRST, max_trials=6)
    verdict = bench.run(Behaviour(), SURE, folder=folder, sharing=FIRST, resume=True, seed="2")
    assert verdict.tally == Tally(NEEDED, NEEDED, 0)
    assert len(verdict.trials) == 4 * NEEDED - 2


def test_a_boot_is_left_once_its_further_trials_took_as_long_as_the_first_one() -> None:
    """All of a trial counts: a restored one spends most of its time before and after its run."""
    sharing = Sharing(16, Counting.FIRST, thrifty=True)
    boot = Boot(0, "boot", 0, drawn=4, running=4)
    open_after = []
    for ticket, seconds in enumerate((1.0, 0.4, 0.4, 0.4)):
        result = Finished(trial(ticket, OK), took_s=seconds)
        boot.add(result, Vote.SURVIVAL, "", sharing)
        open_after.append(not boot.closed)
    assert open_after == [True, True, True, False]


def test_a_thrifty_campaign_takes_a_second_trial_of_a_boot_that_took_no_longer(
    bench: Bench,
) -> None:
    sharing = Sharing(16, Counting.FIRST, thrifty=True)
    verdict = bench.run(Behaviour(seconds=0.01), SURE, sharing=sharing)
    assert max(t.place for t in verdict.trials) >= 2


# ---- boots that taught nothing


class Leaky(FakeMachine):
    """Each boot panics, out of memory, at its eighth trial: a crash that nobody asked for."""

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        facts = super().run(order, slot, stop, started)
        if order.seat is None or order.seat.place < 8:
            return facts
        panic = b"Kernel panic - not syncing: Out of memory and no killable processes..."
        return replace(facts, phase=Phase.RUN, end=None, gone=Gone.EXITED, trial_console=panic)


class InStep(FakeMachine):
    """Guests that run their trials at the same pace."""

    def __init__(self, behaviour: Behaviour, at_once: int) -> None:
        super().__init__(behaviour, at_once)
        self._all = threading.Barrier(at_once, timeout=60)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        self._all.wait()
        return super().run(order, slot, stop, started)


LONG = Sharing(size=16, counting=Counting.WHOLE)
WANTED = Rules(expected=Signature.parse("KASAN"), other=OtherCrash.IGNORE)


def test_where_whole_boots_count_waste_is_a_share_of_boots(bench: Bench) -> None:
    """One trial of eight is no large share of the trials, but no boot survives."""
    verdict = bench.run(Leaky(Behaviour()), SURE, sharing=LONG, rules=WANTED, max_trials=160)
    assert verdict.conclusion is Conclusion.INFRASTRUCTURE
    assert verdict.why == (
        "10 of 10 boots taught nothing (0 never started, 10 were lost); the last: "
        "kernel panic: Out of memory and no killable processes..."
    )


def test_where_one_trial_of_a_boot_is_enough_waste_is_a_share_of_trials(bench: Bench) -> None:
    sharing = Sharing(size=16, counting=Counting.FIRST)
    verdict = bench.run(Leaky(Behaviour()), SURE, sharing=sharing, rules=WANTED)
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.lost == NEEDED


def test_a_boot_that_the_budget_cut_short_was_not_wasted(bench: Bench) -> None:
    """Four guests are under way at the end: a third of all boots."""
    rare = Design(min_rate=0.05, confidence_safe=0.9)
    machine = InStep(Behaviour(), at_once=4)
    verdict = bench.run(machine, rare, sharing=LONG, jobs=4, max_trials=160)
    assert verdict.conclusion is Conclusion.INCONCLUSIVE
    trials = Counter(t.boot for t in verdict.trials)
    assert sorted(trials.values()) == [8] * 4 + [16] * 8


def test_boots_that_an_earlier_run_wasted_are_not_counted_again(bench: Bench) -> None:
    folder = bench.anew()
    bench.run(Leaky(Behaviour()), SURE, folder=folder, sharing=LONG, rules=WANTED, max_trials=72)
    verdict = bench.run(
        Behaviour(), SURE, folder=folder, sharing=LONG, rules=WANTED, resume=True, seed="2"
    )
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.tally == Tally(NEEDED, NEEDED + 9, 0)


# ---- guests that stay


class Keeping(FakeMachine):
    """One guest at once; it stays until its boot's last trial or until it is let go."""

    def __init__(self, behaviour: Behaviour, folder: Path) -> None:
        super().__init__(behaviour)
        self._slots = Slots(folder, Capacity(cores=1, pieces=2))
        self._kept: list[int] = []

    @contextmanager
    def slot(self, stop: StopSignal) -> Iterator[Slot | None]:
        with self._slots.acquire(1, 64, stop) as slot:
            yield slot

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        self._kept += [os.dup(each) for each in slot.descriptors]  # as QEMU inherits them
        facts = super().run(order, slot, stop, started)
        if order.seat is not None and order.seat.place == order.seat.last:
            self.let_go()
        return facts

    def retire(self, boot: str) -> None:
        """Its thread ends the guest."""

    def let_go(self) -> None:
        while self._kept:
            os.close(self._kept.pop())


def test_nobody_waits_for_the_slot_that_his_own_guest_holds(bench: Bench) -> None:
    """A reproducer's exit status may end a boot early; its guest is still there."""
    machine = Keeping(Behaviour(crash=0.1), bench.folder / "slots")
    verdict = bench.run(machine, SURE, sharing=FIRST, rules=WANTED, seed="2", seconds=30)
    assert verdict.lost > 0, "choose a seed with another crash"
    assert verdict.conclusion is Conclusion.SAFE


# ---- how often a verdict is wrong: no processes, so that thousands of campaigns are possible


class Lottery:
    """Boots that can crash or cannot, and trials in them; an outcome a microsecond."""

    accel, at_once = Accel.TCG, 1

    def __init__(self, vulnerable: float, crash: float, seed: str) -> None:
        self._vulnerable, self._crash = vulnerable, crash
        self._rng = random.Random(seed)
        self._boots: dict[str, bool] = {}

    @contextmanager
    def slot(self, stop: StopSignal) -> Iterator[Slot | None]:
        yield None if stop.is_set() else Slot(())

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        del slot, stop
        boot = order.seat.boot if order.seat is not None else self._rng.randbytes(8).hex()
        drawn = self._boots.setdefault(boot, self._rng.random() < self._vulnerable)
        started()
        facts = TrialFacts(Phase.RUN, boot, console=b"x", trial_console=b"x")
        if drawn and self._rng.random() < self._crash:
            panic = b"Kernel panic - not syncing: planted\n"
            return TrialFacts(Phase.RUN, boot, gone=Gone.EXITED, console=panic, trial_console=panic)
        end = End(Ended.EXIT, code=0, seconds=0.0, stuck=False, output=b"")
        return TrialFacts(
            Phase.END, boot, end=end, console=facts.console, trial_console=facts.trial_console
        )


class Nowhere(EvidenceWriter):
    """Evidence that is not kept: these campaigns are counted, not resumed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / "nowhere"

    def launch(self, ticket: int, seed: str, arm: str, boot: str = "") -> None:
        """Not kept."""

    def start(self, ticket: int, at: str) -> None:
        """Not kept."""

    def trial(self, trial: Trial) -> None:
        """Not kept."""

    def keep_console(self, ticket: int, console: bytes) -> str:
        del console
        return str(ticket)


def order(seed: str) -> TrialOrder:
    return TrialOrder(Command(("/r",), 1.0, (), hashlib.sha512(seed.encode()).digest()))


def conclude(
    bench: Bench, machine: Lottery, design: Design, sharing: Sharing, seed: str
) -> Conclusion:
    from pytest_flaky_repro.campaign.loop import VerdictGoal

    goal = VerdictGoal(plan_for(design), Rules(), None)
    arm = Arm("test", machine, order, "e", Rules())
    loop = TrialLoop(
        [arm], goal, budget=Budget(), writer=Nowhere(bench.folder), history=History(), seed=seed,
        sharing=sharing,
    )  # fmt: skip
    return loop.run().conclusion


CAMPAIGNS = 250
RATE, ERROR = 0.3, 0.1
ASKED = Design(RATE, confidence_safe=1 - ERROR, confidence_crash=1 - ERROR)


def limit(error: float) -> float:
    return CAMPAIGNS * error + 3.1 * math.sqrt(CAMPAIGNS * error * (1 - error))


@pytest.mark.slow
@pytest.mark.parametrize("vulnerable", [RATE, 0.5, 1.0])
@pytest.mark.parametrize("size", [1, 8])
def test_false_safe_with_boots_as_the_unit(bench: Bench, vulnerable: float, size: int) -> None:
    """A trial crashes at the minimum rate, from entirely by its boot to independently of it."""
    wrong = sum(
        conclude(
            bench, Lottery(vulnerable, RATE / vulnerable, str(n)), ASKED, Sharing(size), str(n)
        )
        is Conclusion.SAFE
        for n in range(CAMPAIGNS)
    )
    assert wrong <= limit(ERROR)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.1, 0.5])
def test_false_safe_at_the_largest_correlation_that_was_vouched_for(
    bench: Bench, correlation: float
) -> None:
    top = RATE + correlation * (1 - RATE)
    design = boot_design(ASKED, correlation, 8)
    wrong = sum(
        conclude(
            bench, Lottery(RATE / top, top, str(n)), design, Sharing(8, Counting.WHOLE), str(n)
        )
        is Conclusion.SAFE
        for n in range(CAMPAIGNS)
    )
    assert wrong <= limit(ERROR)
    assert wrong >= limit(ERROR) / 10, "the bound is sharp, so it should nearly be spent"


@pytest.mark.slow
def test_counting_trials_as_if_they_were_independent_errs(bench: Bench) -> None:
    """What the unit is for: boots that decide everything, and a plan that does not know it."""
    naive = boot_design(ASKED, 0.0, 8)
    wrong = sum(
        conclude(bench, Lottery(RATE, 1.0, str(n)), naive, Sharing(8, Counting.WHOLE), str(n))
        is Conclusion.SAFE
        for n in range(CAMPAIGNS)
    )
    assert wrong > 3 * limit(ERROR)


@pytest.mark.slow
@pytest.mark.parametrize("vulnerable", [0.2, 0.6, 1.0])
def test_false_safe_after_a_calibration_in_boots(bench: Bench, vulnerable: float) -> None:
    """The kernel in question is the known-bad one itself: it must rarely be called safe."""
    sharing, wrong = Sharing(8, Counting.WHOLE), 0
    for n in range(CAMPAIGNS // 2):
        machine = Lottery(vulnerable, 0.15 / vulnerable, f"{n}")
        goal = CalibrationGoal(CalibrationRule(5), 1.0)
        arm = Arm("test", machine, order, "e", Rules())
        loop = TrialLoop(
            [arm], goal, budget=Budget(), writer=Nowhere(bench.folder), history=History(),
            seed=f"c{n}", sharing=sharing,
        )  # fmt: skip
        loop.run()
        design = goal.calibration().design(1 - ERROR, 1 - ERROR)
        wrong += conclude(bench, machine, design, sharing, str(n)) is Conclusion.SAFE
    half = CAMPAIGNS // 2
    assert wrong <= half * ERROR + 3.1 * math.sqrt(half * ERROR * (1 - ERROR))


@pytest.mark.slow
@pytest.mark.parametrize("vulnerable", [0.02, 1.0])
def test_false_crashes_under_noise(bench: Bench, vulnerable: float) -> None:
    """A boot of a healthy kernel has up to ``size`` times a trial's noise, and is allowed it."""
    noisy = boot_design(Design(0.5, noise=0.02, confidence_safe=0.9, confidence_crash=0.9), 0.2, 4)
    wrong = sum(
        conclude(
            bench, Lottery(vulnerable, 0.02 / vulnerable, str(n)), noisy,
            Sharing(4, Counting.WHOLE), str(n),
        )
        is Conclusion.CRASHES
        for n in range(CAMPAIGNS)
    )  # fmt: skip
    assert wrong <= limit(0.1)


def test_ten_thousand_trials_cost_what_they_cost_at_first(bench: Bench) -> None:
    """Per trial, the loop does the same work however many there were: counted, not timed."""

    def calls(trials: int) -> int:
        counted = 0

        def count(frame: object, event: str, argument: object) -> None:
            nonlocal counted
            del frame, argument
            counted += event == "call"

        threading.setprofile(count)
        try:
            machine = Lottery(0.0, 0.0, "0")
            rate = -math.expm1(math.log(0.1) / trials)
            design = Design(rate, confidence_safe=0.9)
            assert conclude(bench, machine, design, Sharing(), "0") is Conclusion.SAFE
        finally:
            threading.setprofile(None)
        return counted

    few, many = calls(200), calls(2000)
    assert many < 11 * few


def test_the_plan_of_cold_boots_says_nothing_of_boots() -> None:
    from pytest_flaky_repro.campaign.experiment import Conditions

    cold = Conditions(1, 256, "pc", "", 10.0)
    assert set(cold.parameters()) == {
        "smp", "memory_mib", "machine", "append", "trial_time", "environment"
    }  # fmt: skip
    shared = Conditions(1, 256, "pc", "", 10.0, (), "batch", 16)
    assert shared.parameters() == cold.parameters() | {"boot": "batch", "batch": 16}


def test_the_record_of_a_plan_is_found_again(tmp_path: Path) -> None:
    """The boot's id is on its launch line, so a trial that a kill cut off has its boot."""
    from pytest_flaky_repro.evidence import load_history

    record = PlanRecord("e", {}, "item", "k")
    writer = EvidenceWriter(tmp_path, record)
    writer.launch(0, "seed", "test", "b00t")
    writer.start(0, "now")
    writer.close()
    (left,) = load_history(tmp_path, record).trials
    assert (left.boot, left.outcome) == ("b00t", Outcome.LOST)
