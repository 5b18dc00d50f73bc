"""Evidence of many hosts: agreement, and one order in which it is judged."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import (
    Agreed,
    Decision,
    Design,
    Tally,
    halves,
    hosts_agree,
    plan_for,
    pool,
)


def tally(trials: int, crashes: int) -> Tally:
    return Tally(trials, trials, crashes)


def test_alike_hosts_agree() -> None:
    seen = hosts_agree({"a": tally(200, 9), "b": tally(210, 11), "c": tally(190, 8)})
    assert seen.verdict is Agreed.AGREE
    assert seen.exact


def test_a_host_that_cannot_crash_is_shown() -> None:
    seen = hosts_agree({"a": tally(200, 40), "b": tally(200, 0)})
    assert seen.verdict is Agreed.DISAGREE
    assert seen.p_value < 1e-6


def test_a_small_imbalance_only_warns() -> None:
    seen = hosts_agree({"a": tally(100, 9), "b": tally(100, 0)})
    assert seen.verdict is Agreed.DOUBTFUL


@pytest.mark.parametrize("hosts", [{}, {"a": tally(50, 5)}, {"a": tally(9, 0), "b": tally(9, 0)}])
def test_nobody_to_disagree_with(hosts: dict[str, Tally]) -> None:
    seen = hosts_agree(hosts)
    assert (seen.verdict, seen.p_value) == (Agreed.AGREE, 1.0)


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.8])
def test_e_value_averages_at_most_one_and_p_value_is_exact(rate: float) -> None:
    """Over every outcome of three hosts of 6, 8 and 10 trials."""
    sizes, mean, rejected = (6, 8, 10), 0.0, 0.0
    for crashes in itertools.product(*(range(n + 1) for n in sizes)):
        chance = math.prod(
            math.comb(n, x) * rate**x * (1 - rate) ** (n - x)
            for n, x in zip(sizes, crashes, strict=True)
        )
        seen = hosts_agree({str(n): tally(n, x) for n, x in zip(sizes, crashes, strict=True)})
        mean += chance * math.exp(seen.log_e)
        rejected += chance * (seen.p_value <= 0.05)
    assert mean <= 1
    assert rejected <= 0.05


def test_many_crashes_are_sampled_with_a_fixed_seed() -> None:
    hosts = {name: tally(300, 30 + index) for index, name in enumerate("abcdef")}
    first, again = hosts_agree(hosts), hosts_agree(hosts)
    assert not first.exact
    assert first == again
    assert first.verdict is Agreed.AGREE


@given(st.dictionaries(st.text(max_size=3), st.lists(st.sampled_from(Vote), max_size=20)))
def test_pooling_loses_and_invents_nothing(logs: dict[str, list[Vote]]) -> None:
    merged = pool(logs)
    assert Tally.of(merged) == sum((Tally.of(log) for log in logs.values()), Tally())
    assert len(merged) == sum(len(log) for log in logs.values())


def test_pooling_goes_round_by_ticket_then_name() -> None:
    crash, alive = Vote.CRASH, Vote.SURVIVAL
    logs = {"b": [crash, crash], "a": [alive, alive, alive]}
    assert pool(logs) == [alive, crash, alive, crash, alive]


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_jobs_that_each_stopped_on_their_own_are_pooled_within_the_errors(rate: float) -> None:
    """Four jobs, each ending at its own verdict under a looser plan, judged as one log."""
    plan, own = plan_for(Design(0.3, 0.02, 0.95, 0.95)), plan_for(Design(0.3, 0.02, 0.8, 0.8))
    rng, wrong, runs = random.Random(8), 0, 2000
    false = Decision.SAFE if rate == 0.3 else Decision.CRASHES
    for _ in range(runs):
        logs: dict[str, list[Vote]] = {}
        for name in "abcd":
            log: list[Vote] = []
            while own.judge(log).decision is Decision.CONTINUE:
                log.append(Vote.CRASH if rng.random() < rate else Vote.SURVIVAL)
            logs[name] = log
        wrong += plan.judge(pool(logs)).decision is false
    assert wrong / runs <= 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5


def test_halves_of_a_log() -> None:
    log = [Vote.CRASH] * 3 + [Vote.SURVIVAL] * 4
    assert halves(log) == {"first half": tally(3, 3), "second half": tally(4, 0)}


def test_e_value_by_hand() -> None:
    """One crash in one trial beside none in one: B(3/2, 1/2)**2 / B(1/2, 1/2)**2 / (1/4) = 1."""
    assert hosts_agree({"a": tally(1, 1), "b": tally(1, 0)}).log_e == pytest.approx(0.0, abs=1e-12)
