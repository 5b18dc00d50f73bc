"""What a campaign concludes from its trials, and from the trials that never were."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.campaign.rules import HungTrial, OtherCrash, Rules
from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Design, Tally, plan_for, rate_bounds

if TYPE_CHECKING:
    from tests.campaign.conftest import Bench

few = settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
SURE = Design(min_rate=0.2, confidence_safe=0.9, confidence_crash=0.9)
NEEDED = 11  # ceil(ln 0.1 / ln 0.8)
seeds = st.integers(0, 10**6).map(str)


class OneSlowOneCrash(FakeMachine):
    """Trial 0 takes a minute, trial 1 soon crashes, and the rest behave as told."""

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        seeds = [hashlib.sha256(f"5eed {ticket}".encode()).hexdigest()[:16] for ticket in (0, 1)]
        slow, crash = (hashlib.sha512(seed.encode()).digest() for seed in seeds)
        special = {slow: Behaviour(seconds=60.0), crash: Behaviour(crash=1.0, crash_seconds=0.3)}
        behaviour = special.get(order.command.entropy, self._behaviour)
        return FakeMachine(behaviour).run(order, slot, stop, started)


@few
@given(st.floats(0.05, 0.6), st.floats(0.5, 0.99))
def test_safe_takes_exactly_the_trials_that_the_formula_says(
    bench: Bench, min_rate: float, confidence: float
) -> None:
    verdict = bench.run(Behaviour(), Design(min_rate, confidence_safe=confidence))
    needed = math.ceil(math.log(1 - confidence) / math.log(1 - min_rate))
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.tally == Tally(needed, needed, 0)
    assert len(verdict.trials) == needed


def test_one_crash_decides_where_there_is_no_noise(bench: Bench) -> None:
    verdict = bench.run(Behaviour(crash=1.0), SURE)
    assert verdict.conclusion is Conclusion.CRASHES
    assert verdict.tally == Tally(1, 1, 1)
    assert "sysrq" in verdict.why
    assert verdict.first_crash is verdict.trials[0]


def test_a_crash_ends_the_campaign_before_the_trials_that_still_run(bench: Bench) -> None:
    """Survivors take a minute here and crashes no time: eight guests, and one of them decides."""
    machine = OneSlowOneCrash(Behaviour(seconds=60.0))
    verdict = bench.run(machine, SURE, jobs=8)
    assert verdict.conclusion is Conclusion.CRASHES
    assert [trial.ticket for trial in verdict.trials] == [1]
    assert verdict.tally == Tally(1, 1, 1)


def test_what_a_crash_did_not_wait_for_speaks_against_both_bounds(bench: Bench) -> None:
    """Crashes end sooner than survivals: only those that ended would make the rate too high."""
    verdict = bench.run(OneSlowOneCrash(Behaviour()), SURE, jobs=2, seed="5eed")
    assert (verdict.tally, verdict.unknown) == (Tally(1, 1, 1), 1)
    assert verdict.rate_lower == rate_bounds(Tally(2, 2, 1), 0.9).lower
    assert verdict.rate_upper == 1.0


def test_the_lower_bound_holds_however_soon_crashes_end(bench: Bench) -> None:
    """It is above the rate in at most 1 of 20 campaigns: of 30 in more than 5 with P < 0.004."""
    soon = Behaviour(crash=0.02, seconds=0.4, crash_seconds=0.0)
    runs = [bench.run(soon, Design(0.01), jobs=32, seed=str(n)) for n in range(30)]
    assert sum(run.rate_lower > 0.02 for run in runs) <= 5


def test_with_noise_a_crash_waits_for_the_trials_before_it(bench: Bench) -> None:
    noisy = Design(0.4, noise=0.05, confidence_safe=0.95, confidence_crash=0.95)
    verdict = bench.run(Behaviour(crash=0.9, seconds=0.05), noisy, jobs=8)
    tickets = [trial.ticket for trial in verdict.trials]
    assert verdict.conclusion is Conclusion.CRASHES
    assert tickets == list(range(len(tickets)))


def test_of_several_crashes_that_decide_together_the_first_is_named(bench: Bench) -> None:
    noisy = Design(0.5, noise=0.2, confidence_safe=0.95, confidence_crash=0.95)
    verdict = bench.run(Behaviour(crash=1.0), noisy)
    assert verdict.crashes > 1
    assert verdict.why.startswith("trial 1: ")
    assert verdict.why.endswith(f", the first of {verdict.crashes} crashes")


@few
@given(seeds)
def test_the_same_coin_gives_the_same_verdict_for_any_number_of_jobs(
    bench: Bench, seed: str
) -> None:
    """With noise even the counts agree: trials are fed in launch order."""
    noisy = Design(0.4, noise=0.1, confidence_safe=0.8, confidence_crash=0.8)
    behaviour = Behaviour(crash=0.25, lost=0.05, seconds=0.002)
    found = [bench.run(behaviour, noisy, jobs=jobs, seed=seed) for jobs in (1, 4, 16)]
    assert len({(v.conclusion, v.tally, v.lost, v.void) for v in found}) == 1


@few
@given(seeds)
def test_without_noise_the_conclusion_agrees_for_any_number_of_jobs(
    bench: Bench, seed: str
) -> None:
    behaviour = Behaviour(crash=0.06, void=0.05, seconds=0.002)
    found = [bench.run(behaviour, SURE, jobs=jobs, seed=seed) for jobs in (1, 4, 16)]
    assert len({verdict.conclusion for verdict in found}) == 1


@few
@given(seeds)
def test_the_verdict_is_what_the_plan_says_of_the_log(bench: Bench, seed: str) -> None:
    noisy = Design(0.4, noise=0.1, confidence_safe=0.8, confidence_crash=0.8)
    behaviour = Behaviour(crash=0.25, void=0.05, lost=0.05)
    verdict = bench.run(behaviour, noisy, jobs=4, seed=seed)
    if verdict.conclusion is Conclusion.INFRASTRUCTURE:
        return
    votes = [Rules().vote(trial) for trial in verdict.trials]
    judged = plan_for(noisy).judge(votes)
    assert judged.decision.value == verdict.conclusion.value
    assert judged.tally == verdict.tally
    assert judged.votes == len(votes)


# ---- trials that taught nothing


def test_lost_trials_make_nothing_safe(bench: Bench) -> None:
    verdict = bench.run(Behaviour(lost=0.1), SURE, seed="2")
    assert verdict.lost > 0, "choose a seed with a lost trial"
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.intact == NEEDED
    assert verdict.tally.trials_high == NEEDED + verdict.lost


def test_void_trials_count_for_nothing(bench: Bench) -> None:
    verdict = bench.run(Behaviour(void=0.1), SURE, seed="2")
    assert verdict.void > 0, "choose a seed with a void trial"
    assert verdict.tally == Tally(NEEDED, NEEDED, 0)


def test_guests_that_never_start_are_an_error(bench: Bench) -> None:
    verdict = bench.run(Behaviour(void=1.0), SURE)
    assert verdict.conclusion is Conclusion.INFRASTRUCTURE
    assert "3 guests in a row never got to START: void" in verdict.why
    assert len(verdict.trials) == 3


def test_a_fault_of_the_setup_is_an_error_at_once(bench: Bench) -> None:
    verdict = bench.run(Behaviour(setup_fault="no CONFIG_PRINTK"), SURE)
    assert verdict.conclusion is Conclusion.INFRASTRUCTURE
    assert verdict.why == "no CONFIG_PRINTK"
    assert len(verdict.trials) == 1


@pytest.mark.parametrize("waste", [Behaviour(lost=0.5), Behaviour(void=0.5)])
def test_too_large_a_share_of_waste_is_an_error(bench: Bench, waste: Behaviour) -> None:
    long = Design(min_rate=0.01, confidence_safe=0.99)
    verdict = bench.run(waste, long)
    assert verdict.conclusion is Conclusion.INFRASTRUCTURE
    assert "of 10 trials taught nothing" in verdict.why


def test_only_lost_trials_never_make_a_verdict(bench: Bench) -> None:
    verdict = bench.run(Behaviour(lost=1.0), SURE)
    assert verdict.conclusion is Conclusion.INFRASTRUCTURE
    assert verdict.intact == 0


# ---- budgets and stops


def test_a_budget_of_trials(bench: Bench) -> None:
    verdict = bench.run(Behaviour(), SURE, max_trials=5, jobs=4)
    assert verdict.conclusion is Conclusion.INCONCLUSIVE
    assert verdict.why == "the budget of 5 trials is spent (--repro-max-trials)"
    assert (verdict.intact, verdict.still_needed) == (5, NEEDED - 5)
    assert len(verdict.trials) == 5


def test_a_budget_of_seconds(bench: Bench) -> None:
    verdict = bench.run(Behaviour(seconds=30.0), SURE, seconds=0.1)
    assert verdict.conclusion is Conclusion.INCONCLUSIVE
    assert verdict.why == "the budget of 0.1 s is spent (--repro-budget)"


def test_a_reason_to_stop(bench: Bench) -> None:
    verdict = bench.run(Behaviour(seconds=30.0), SURE, should_stop=lambda: "enough")
    assert (verdict.conclusion, verdict.why) == (Conclusion.INCONCLUSIVE, "enough")


def test_a_budget_that_is_just_enough_is_a_verdict(bench: Bench) -> None:
    verdict = bench.run(Behaviour(), SURE, max_trials=NEEDED)
    assert verdict.conclusion is Conclusion.SAFE


# ---- the crash that was asked for, and others

KASAN = Signature.parse("KASAN: .* in foo_release")


def test_the_expected_crash_is_a_crash(bench: Bench) -> None:
    rules = Rules(expected=Signature.parse("sysrq"))
    verdict = bench.run(Behaviour(crash=1.0), SURE, rules=rules)
    assert verdict.conclusion is Conclusion.CRASHES
    assert "another crash" not in verdict.why


def test_another_crash_fails_and_says_so(bench: Bench) -> None:
    verdict = bench.run(Behaviour(crash=1.0), SURE, rules=Rules(expected=KASAN))
    assert verdict.conclusion is Conclusion.CRASHES
    assert "another crash than the expected KASAN" in verdict.why


def test_another_crash_ends_a_noisy_campaign_out_of_order(bench: Bench) -> None:
    """What was launched later and is already back does not hide it."""
    noisy = Design(0.5, noise=0.2, confidence_safe=0.99, confidence_crash=0.99)
    verdict = bench.run(OneSlowOneCrash(Behaviour()), noisy, rules=Rules(expected=KASAN), jobs=4)
    assert verdict.conclusion is Conclusion.CRASHES
    assert "trial 2: " in verdict.why
    assert "another crash than the expected" in verdict.why


def test_another_crash_can_be_counted(bench: Bench) -> None:
    rules = Rules(expected=KASAN, other=OtherCrash.COUNT)
    verdict = bench.run(Behaviour(crash=1.0), SURE, rules=rules)
    assert verdict.conclusion is Conclusion.CRASHES


def test_another_crash_can_be_ignored_and_is_then_lost(bench: Bench) -> None:
    rules = Rules(expected=KASAN, other=OtherCrash.IGNORE)
    verdict = bench.run(Behaviour(crash=0.1), SURE, rules=rules, seed="2")
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.lost > 0, "choose a seed with a crash"
    assert (verdict.crashes, verdict.intact) == (0, NEEDED)
    assert [kind.expected for kind in verdict.kinds] == [False]


@pytest.mark.parametrize(
    ("hung", "conclusion"),
    [(HungTrial.LOST, Conclusion.INFRASTRUCTURE), (HungTrial.CRASH, Conclusion.CRASHES)],
)
def test_a_hung_guest_counts_as_it_was_told(
    bench: Bench, hung: HungTrial, conclusion: Conclusion
) -> None:
    verdict = bench.run(Behaviour(hang=1.0), SURE, rules=Rules(hung=hung))
    assert verdict.conclusion is conclusion
    assert verdict.trials[0].outcome is Outcome.HUNG


def test_every_trial_is_on_disk_before_it_counts(bench: Bench) -> None:
    """Whenever the observer is told of a trial, its line can be read."""
    folder = bench.anew()
    seen: list[tuple[int, int]] = []

    class Reader:
        def progress(self, snapshot: object) -> None:
            (file,) = folder.glob("*.jsonl")
            lines = [json.loads(line) for line in file.read_bytes().splitlines()]
            tally = snapshot.tally  # type: ignore[attr-defined]
            seen.append((tally.trials_high, sum(line["type"] == "trial" for line in lines)))

    bench.run(Behaviour(), SURE, folder=folder, jobs=4, observer=Reader())
    assert len(seen) == NEEDED
    assert all(counted <= written for counted, written in seen)


def test_votes_are_only_those_of_the_vocabulary() -> None:
    assert {outcome.vote for outcome in Outcome} == set(Vote)
