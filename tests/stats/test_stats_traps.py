"""The traps: each naive rule breaks its promise here, and ours keeps it on the same data."""

from __future__ import annotations

import heapq
import math
import random
from typing import TYPE_CHECKING

import pytest
from scipy.special import betainc

if TYPE_CHECKING:
    from collections.abc import Callable

from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import (
    Calibration,
    ControlState,
    Decision,
    Design,
    Tally,
    check_control,
    plan_for,
)

NOMINAL = 0.01


def campaign(
    rng: random.Random,
    rate: float,
    slots: int,
    trials: int,
    host_failure: float = 0.0,
    interruption: float = 0.0,
) -> tuple[list[Vote], list[Vote]]:
    """Run ``slots`` machines; crashes end early, survivals take the whole trial time.

    Returns the votes in launch order (up to the first hole) and as they finished.
    """
    votes: dict[int, Vote] = {}
    finished: list[Vote] = []
    running: list[tuple[float, int, Vote]] = []
    clock, ticket = 0.0, 0
    while len(finished) < trials:
        while len(running) < slots:
            crashed = rng.random() < rate
            length, vote = (0.05 * rng.random(), Vote.CRASH) if crashed else (1.0, Vote.SURVIVAL)
            if rng.random() < host_failure:
                length, vote = length * rng.random(), Vote.LOST
            heapq.heappush(running, (clock + length, ticket, vote))
            ticket += 1
        clock, done, vote = heapq.heappop(running)
        votes[done] = vote
        finished.append(vote)
        if rng.random() < interruption:
            votes.update({lost: Vote.LOST for _, lost, _ in running})
            finished.extend(Vote.LOST for _ in running)
            running.clear()
    in_order: list[Vote] = []
    while len(in_order) in votes:
        in_order.append(votes[len(in_order)])
    return in_order, finished


def kept(count: int, runs: int) -> bool:
    """Whether a measured rate is compatible with the nominal one (z <= 3)."""
    return count / runs <= NOMINAL + 3 * math.sqrt(NOMINAL * (1 - NOMINAL) / runs)


def test_rule_of_three_with_noise() -> None:
    """459 clean trials or a crash: with 0.1% noise a healthy kernel is blamed 37% of the time."""
    naive = -math.expm1(459 * math.log1p(-0.001))
    ours = plan_for(Design(0.01, 0.001, 0.99, 0.99)).operating_characteristic(0.001).p_crash
    assert naive == pytest.approx(0.368, abs=5e-4)
    assert ours <= NOMINAL


@pytest.mark.parametrize(("rate", "miss"), [(0.05, 0.599), (0.2, 0.107)])
def test_ten_clean_runs_prove_little(rate: float, miss: float) -> None:
    assert (1 - rate) ** 10 == pytest.approx(miss, abs=5e-4)
    plan = plan_for(Design(rate, 0.0, 0.99))
    assert plan.operating_characteristic(rate).p_safe <= NOMINAL


def test_completion_order_blames_healthy_kernels() -> None:
    """32 machines, noise 2%, crashes finish first: 14% instead of 1%."""
    plan, rng, runs = plan_for(Design(0.3, 0.02, 0.99, 0.99)), random.Random(1), 1500
    naive = ours = 0
    for _ in range(runs):
        in_order, finished = campaign(rng, rate=0.02, slots=32, trials=150)
        naive += plan.judge(finished).decision is Decision.CRASHES
        ours += plan.judge(in_order).decision is Decision.CRASHES
    assert naive / runs > 0.10
    assert kept(ours, runs)


def test_dropping_lost_trials_blames_healthy_kernels() -> None:
    """Interruptions take the long-running survivals: 4% instead of 1%."""
    plan, rng, runs = plan_for(Design(0.2, 0.01, 0.99, 0.99)), random.Random(2), 1500
    naive = ours = 0
    for _ in range(runs):
        in_order, _ = campaign(rng, 0.01, 32, 250, host_failure=0.05, interruption=0.02)
        without = [vote for vote in in_order if vote is not Vote.LOST]
        naive += plan.judge(without).decision is Decision.CRASHES
        ours += plan.judge(in_order).decision is Decision.CRASHES
    assert naive / runs > 0.025
    assert kept(ours, runs)


def test_counting_lost_trials_as_clean_hides_bad_kernels() -> None:
    """A host that loses half of its trials makes a kernel at the minimum rate look safe."""
    plan, rng, runs = plan_for(Design(0.05, 0.0, 0.99)), random.Random(3), 1500
    naive = ours = 0
    for _ in range(runs):
        in_order, _ = campaign(rng, 0.05, 8, 400, host_failure=0.5)
        as_clean = [Vote.SURVIVAL if vote is Vote.LOST else vote for vote in in_order]
        naive += plan.judge(as_clean).decision is Decision.SAFE
        ours += plan.judge(in_order).decision is Decision.SAFE
    assert naive / runs > 0.05
    assert kept(ours, runs)


def test_peeking_with_clopper_pearson() -> None:
    """Stop when a 99% Clopper-Pearson bound passes p0 or p1: both errors run over."""
    p0, p1 = 0.001, 0.05

    def says(n: int, x: int) -> Decision:
        if x < n and betainc(x + 1, n - x, p1) >= 1 - NOMINAL:
            return Decision.SAFE
        passed = x > 0 and betainc(x, n - x + 1, p0) <= NOMINAL
        return Decision.CRASHES if passed else Decision.CONTINUE

    assert chance_of(Decision.CRASHES, says, p0, 1500) > 0.012
    assert chance_of(Decision.SAFE, says, p1, 1500) > 0.015
    plan = plan_for(Design(p1, p0, 0.99, 0.99))
    assert plan.operating_characteristic(p0, 1500).p_crash <= NOMINAL
    assert plan.operating_characteristic(p1, 1500).p_safe <= NOMINAL


def test_a_flat_prior_promises_nothing_of_the_sort() -> None:
    """Stop when the posterior probability of "above p0" or "below p1" passes 99%."""
    p0, p1 = 0.001, 0.01

    def says(n: int, x: int) -> Decision:
        if betainc(x + 1, n - x + 1, p1) >= 1 - NOMINAL:
            return Decision.SAFE
        passed = x > 0 and betainc(x + 1, n - x + 1, p0) <= NOMINAL
        return Decision.CRASHES if passed else Decision.CONTINUE

    assert chance_of(Decision.CRASHES, says, p0, 3000) > 0.1
    assert chance_of(Decision.SAFE, says, p1, 3000) > 0.012
    assert plan_for(Design(p1, p0, 0.99, 0.99)).operating_characteristic(p0).p_crash <= NOMINAL


def chance_of(
    verdict: Decision, says: Callable[[int, int], Decision], rate: float, trials: int
) -> float:
    """Exact chance that a rule, asked after every trial, comes to this verdict."""
    mass, total = {0: 1.0}, 0.0
    for n in range(1, trials + 1):
        ahead: dict[int, float] = {}
        for x, chance in mass.items():
            ahead[x] = ahead.get(x, 0.0) + chance * (1 - rate)
            ahead[x + 1] = ahead.get(x + 1, 0.0) + chance * rate
        answers = {x: says(n, x) for x, chance in ahead.items() if chance > 1e-9}
        total += sum(ahead[x] for x, answer in answers.items() if answer is verdict)
        mass = {x: ahead[x] for x, answer in answers.items() if answer is Decision.CONTINUE}
    return total


@pytest.mark.parametrize(
    ("crashes", "naive"), [(1, 0.178), (3, 0.060), (5, 0.037), (10, 0.022), (20, 0.016)]
)
def test_plugging_in_the_observed_rate(crashes: int, naive: float) -> None:
    """Real false-safe at p = 5% when r / M is taken for the true rate."""
    rate, plugged, ours, log = 0.05, 0.0, 0.0, crashes * math.log(0.05)
    for trials in range(crashes, 40 * crashes + 600):
        chance = math.exp(log)
        seen = min(crashes / trials, 1 - 1e-12)
        plugged += chance * (1 - rate) ** math.ceil(math.log(NOMINAL) / math.log1p(-seen))
        ours += chance * (1 - rate) ** Calibration(trials, crashes).clean_trials(NOMINAL)
        log += math.log(trials / (trials - crashes + 1)) + math.log1p(-rate)
    assert plugged == pytest.approx(naive, abs=1.5e-3)
    assert ours <= NOMINAL


def test_a_host_that_cannot_crash_is_caught_by_the_control() -> None:
    """Half of the hosts mask the race: half of the campaigns would say safe of a bad kernel."""
    plan, rng, runs = plan_for(Design(0.05, 0.0, 0.99)), random.Random(4), 600
    calibration = Calibration(trials=200, crashes=10)
    naive = ours = 0
    for _ in range(runs):
        rate = rng.choice([0.1, 0.0])
        log = [Vote.CRASH if rng.random() < rate else Vote.SURVIVAL for _ in range(90)]
        control = Tally.of(Vote.CRASH if rng.random() < rate else Vote.SURVIVAL for _ in range(10))
        safe = plan.judge(log).decision is Decision.SAFE
        naive += safe
        state = check_control(calibration, control).state
        ours += safe and state is ControlState.CONFIRMED
    assert 0.45 < naive / runs < 0.55
    assert kept(ours, runs)
