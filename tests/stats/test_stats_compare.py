"""Two kernels, and small factorial designs, compared at any stop."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import Cell, Comparison, Difference, cells, effects

VOTES = (Vote.CRASH, Vote.SURVIVAL)
FACTORS = {"kernel": ["a", "b"], "smp": ["1", "4"], "procs": ["", "GOMAXPROCS=1"]}


def flip(rng: random.Random, rate: float) -> Vote:
    return Vote.CRASH if rng.random() < rate else Vote.SURVIVAL


@pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
def test_wealth_averages_at_most_one_under_equal_rates(rate: float) -> None:
    """Exact, over all logs of four pairs."""
    mean = 0.0
    pairs = [(a, b) for a in VOTES for b in VOTES]
    for log in itertools.product(pairs, repeat=4):
        crashes = sum(vote is Vote.CRASH for pair in log for vote in pair)
        mean += rate**crashes * (1 - rate) ** (8 - crashes) * math.exp(Comparison.of(log).log_e)
    assert mean <= 1 + 1e-12


@pytest.mark.parametrize(("rate_a", "rate_b", "pairs"), [(0.5, 0.05, 23.9), (0.2, 0.02, 68.0)])
def test_pairs_to_show_a_difference(rate_a: float, rate_b: float, pairs: float) -> None:
    rng, spent, runs = random.Random(5), [], 300
    for _ in range(runs):
        seen = Comparison()
        while seen.difference(0.99) is Difference.NOT_SHOWN:
            seen = seen.add(flip(rng, rate_a), flip(rng, rate_b))
        assert seen.difference(0.99) is not Difference.B_CRASHES_MORE
        spent.append(seen.pairs)
    mean = sum(spent) / runs
    spread = (sum((n - mean) ** 2 for n in spent) / runs**2) ** 0.5
    assert abs(mean - pairs) < 4 * spread


def test_equal_kernels_are_rarely_told_apart() -> None:
    rng, wrong = random.Random(6), 0
    for _ in range(300):
        seen = Comparison()
        for _ in range(200):
            seen = seen.add(flip(rng, 0.2), flip(rng, 0.2))
            if seen.difference(0.95) is not Difference.NOT_SHOWN:
                wrong += 1
                break
    assert wrong / 300 <= 0.05


@given(st.lists(st.tuples(st.sampled_from(VOTES), st.sampled_from(VOTES))))
def test_swapping_the_arms_swaps_the_answer(pairs: list[tuple[Vote, Vote]]) -> None:
    there = Comparison.of(pairs)
    back = Comparison.of([(b, a) for a, b in pairs])
    assert back.log_e == pytest.approx(there.log_e)
    assert (back.crashes_a, back.crashes_b) == (there.crashes_b, there.crashes_a)


@given(st.sampled_from([Vote.LOST, Vote.VOID]), st.sampled_from(Vote))
def test_a_lost_trial_takes_its_partner_along(lost: Vote, other: Vote) -> None:
    seen = Comparison().add(Vote.CRASH, Vote.SURVIVAL)
    assert seen.add(lost, other) == seen
    assert seen.add(other, lost) == seen


def test_intervals_hold_each_arm() -> None:
    seen = Comparison(pairs=100, crashes_a=40, crashes_b=3)
    a, b = seen.intervals(0.95)
    assert a.lower < 0.4 < a.upper
    assert b.lower < 0.03 < b.upper
    assert b.upper < a.lower
    assert a.confidence == 0.95


def test_a_factor_that_matters_is_found_and_others_are_not() -> None:
    rng, rounds = random.Random(3), []
    for _ in range(60):
        seen: dict[Cell, Vote] = {}
        for cell in cells(FACTORS):
            seen[cell] = flip(rng, 0.4 if cell[1] == "4" else 0.03)
        rounds.append(seen)
    table = {(effect.factor, effect.level): effect for effect in effects(FACTORS, rounds, 0.99)}
    assert table["smp", "4"].difference is Difference.B_CRASHES_MORE
    assert table["smp", "4"].pairs == 60 * 4
    assert table["kernel", "b"].difference is Difference.NOT_SHOWN
    assert table["procs", "GOMAXPROCS=1"].difference is Difference.NOT_SHOWN


def test_an_effect_in_one_stratum_alone_still_shows() -> None:
    rng = random.Random(4)
    rounds = [
        {cell: flip(rng, 0.6 if cell[:2] == ("b", "4") else 0.0) for cell in cells(FACTORS)}
        for _ in range(80)
    ]
    table = {effect.factor: effect for effect in effects(FACTORS, rounds, 0.95)}
    assert table["kernel"].difference is Difference.B_CRASHES_MORE
    assert table["procs"].difference is Difference.NOT_SHOWN


def test_a_factor_needs_a_contrast() -> None:
    with pytest.raises(UsageError, match="smp"):
        cells({"smp": ["2"]})
    with pytest.raises(UsageError):
        cells({})


def test_the_table_shares_its_error_over_all_effects() -> None:
    """Evidence that would do for one effect does not for one of three."""
    rng = random.Random(9)
    rounds = [
        {cell: flip(rng, 0.5 if cell[1] == "4" else 0.05) for cell in cells(FACTORS)}
        for _ in range(6)
    ]
    log_e = next(e.log_e for e in effects(FACTORS, rounds) if e.factor == "smp")
    alone, shared = 1 - math.exp(0.5 - log_e), 1 - 3 * math.exp(0.5 - log_e)

    def seen(confidence: float) -> Difference:
        table = effects(FACTORS, rounds, confidence)
        return next(e.difference for e in table if e.factor == "smp")

    assert seen(alone) is Difference.NOT_SHOWN
    assert seen(shared) is Difference.B_CRASHES_MORE
