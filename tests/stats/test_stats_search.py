"""The posterior of a culprit search: what has to be true of it whatever was seen."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.stats.search.chain import Chain, Counts, Prior
from pytest_flaky_repro.stats.search.companions import Exposure, companion_rates
from pytest_flaky_repro.stats.search.outlook import bits_per_trial, outlook
from pytest_flaky_repro.stats.search.planning import Costs, Ground, best_move
from pytest_flaky_repro.stats.search.rates import (
    Grid,
    Rates,
    is_loud,
    known_rate,
    learned_rates,
)

N = 12
places = st.integers(0, N)
tests_of_prefixes = st.lists(
    st.builds(Counts, places, st.integers(0, 20), st.integers(0, 3)), max_size=6
)
leaps_to = st.lists(
    st.builds(Counts, st.integers(2, N), st.integers(0, 20), st.integers(0, 2)),
    max_size=3,
    unique_by=lambda leap: leap.at,
)


def chain(
    tests: list[Counts], leaps: list[Counts] | None = None, rates: Rates | None = None
) -> Chain:
    prior = Prior.of(0.1, [1.0 + i % 3 for i in range(N)])
    return Chain(prior, rates or learned_rates(4, 3), tuple(tests), tuple(leaps or ()))


def by_hand(tests: list[Counts], rates: Rates) -> list[float]:
    """P(k) without segments: one likelihood for each threshold and each rate."""
    prior = np.diff(Prior.of(0.1, [1.0 + i % 3 for i in range(N)]).below)
    grid, weights = rates.grid, []
    for k in range(N + 1):
        total = 0.0
        for rate, weight in zip(grid.seen, rates.weights, strict=True):
            each = weight
            for at, survived, crashed in tests:
                p = rate if k <= at else grid.noise
                each *= (1 - p) ** survived * p**crashed
            total += each
        weights.append(prior[k] * total)
    return [weight / sum(weights) for weight in weights]


@given(tests_of_prefixes)
@settings(max_examples=60, deadline=None)
def test_the_segments_hold_what_a_sum_over_every_threshold_and_rate_gives(
    tests: list[Counts],
) -> None:
    seen = chain(tests)
    assert seen.posterior() == pytest.approx(by_hand(tests, seen.rates), abs=1e-9)


@given(tests_of_prefixes, leaps_to)
@settings(max_examples=60, deadline=None)
def test_the_posterior_is_a_distribution(tests: list[Counts], leaps: list[Counts]) -> None:
    seen = chain(tests, leaps)
    each = seen.posterior()
    assert each.min() >= 0
    assert each.sum() == pytest.approx(1)
    assert seen.rates_now.weights.sum() == pytest.approx(1)
    assert seen.best[1] == pytest.approx(each.max())


@given(tests_of_prefixes, leaps_to, st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_evidence_plays_no_part(
    tests: list[Counts], leaps: list[Counts], random: object
) -> None:
    mixed = tests.copy()
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert chain(mixed, leaps[::-1]).posterior() == pytest.approx(
        chain(tests, leaps).posterior(), abs=1e-9
    )


@given(tests_of_prefixes, leaps_to, places)
@settings(max_examples=60, deadline=None)
def test_a_crash_moves_the_threshold_down_and_a_survival_moves_it_up(
    tests: list[Counts], leaps: list[Counts], at: int
) -> None:
    before = chain(tests, leaps).posterior()[: at + 1].sum()
    crashed = chain([*tests, Counts(at, 0, 1)], leaps).posterior()[: at + 1].sum()
    survived = chain([*tests, Counts(at, 1, 0)], leaps).posterior()[: at + 1].sum()
    assert survived <= before + 1e-12 <= crashed + 2e-12


@given(tests_of_prefixes, leaps_to, st.lists(places, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_what_can_crash_at_a_prefix_are_the_thresholds_up_to_it(
    tests: list[Counts], leaps: list[Counts], asked: list[int]
) -> None:
    seen = chain(tests, leaps)
    sums = [seen.posterior()[: at + 1].sum() for at in asked]
    assert seen.able(np.array(asked)).sum(axis=1) == pytest.approx(sums, abs=1e-9)


def test_no_threshold_lies_between_prefixes_with_the_same_image() -> None:
    seen = Chain(Prior.of(0.1, [1.0] * N), known_rate(0.3), same=((3, 7),))
    assert seen.posterior()[4:8] == pytest.approx([0] * 4)
    assert seen.posterior().sum() == pytest.approx(1)


def test_a_leap_that_crashes_names_its_candidate() -> None:
    """But not more surely than all good can be ruled out: then everything crashes."""
    seen = chain([Counts(4, 12, 0), Counts(8, 0, 1)], [Counts(6, 1, 1)])
    assert seen.best[0] == 6
    assert seen.best[1] > 0.97


def test_a_leap_that_survives_says_nothing_about_the_crash_rate_elsewhere() -> None:
    """Survivals of what may need another besides must not drive the rate down."""
    tests = [Counts(5, 10, 0), Counts(6, 0, 1)]
    before, after = chain(tests), chain(tests, [Counts(6, 400, 0)])
    assert after.best[0] == 6
    assert after.rates_given(6).mean == pytest.approx(before.rates_given(6).mean, rel=0.05)


def test_noise_is_never_proof_and_never_nothing() -> None:
    assert learned_rates(1, 3, 0.0).grid.noise == 1e-4
    loud = chain([Counts(3, 0, 1)], rates=known_rate(0.3, 1e-4)).posterior()[:4].sum()
    noisy = chain([Counts(3, 0, 1)], rates=known_rate(0.3, 0.1)).posterior()[:4].sum()
    assert 0.99 < loud < 1
    assert noisy < 0.7


@pytest.mark.parametrize(("survived", "crashed"), [(0, 3), (7, 3), (57, 3), (300, 1)])
def test_the_baseline_s_rate_is_about_what_was_seen(survived: int, crashed: int) -> None:
    rates = learned_rates(survived, crashed)
    seen = crashed / (survived + crashed)
    low, high = rates.interval(0.005)
    assert low < seen <= high or seen == 1
    assert rates.weights.sum() == pytest.approx(1)
    assert min(rates.grid.rates) >= seen / 9


@given(st.integers(0, 60), st.integers(0, 2), st.floats(0.001, 0.3))
@settings(max_examples=40, deadline=None)
def test_survivals_for_is_the_least_number_that_is_enough(
    survived: int, crashed: int, error: float
) -> None:
    rates = learned_rates(5, 3)
    more = rates.survivals_for(error, survived, crashed)
    assert rates.odds(survived + more, crashed) <= error
    assert more == 0 or rates.odds(survived + more - 1, crashed) > error


def test_a_companion_s_rate_is_taken_for_less_than_both_together_showed() -> None:
    grid = learned_rates(57, 3).grid
    both = companion_rates(grid, [Exposure(1.0, 57, 3)])
    alone = companion_rates(grid, [Exposure(0.0, 57, 3)])
    assert both.mean == pytest.approx(alone.mean / 2, rel=0.1)


def test_is_loud_is_a_poisson_tail() -> None:
    assert is_loud(100, 1, 1e-4, 0.01)
    assert not is_loud(100, 1, 1e-2, 0.01)
    assert not is_loud(100, 0, 1e-4, 0.01)


# ---- planning


def bits_by_hand(q: float, p: float, e: float, n: int) -> float:
    """Mutual information between *can crash* and *crashed within n*."""

    def h(x: float) -> float:
        return 0.0 if x in (0.0, 1.0) else -x * math.log2(x) - (1 - x) * math.log2(1 - x)

    able, quiet = 1 - (1 - p) ** n, 1 - (1 - e) ** n
    return h(q * able + (1 - q) * quiet) - q * h(able) - (1 - q) * h(quiet)


def test_the_first_move_is_the_one_of_most_bits_per_cost() -> None:
    rates = known_rate(0.3)
    prior = Prior.of(1e-9, [1.0] * 99)
    move = best_move(Chain(prior, rates), Costs(10.0), Ground(built={99}), leaps=False)
    assert move is not None
    seen = rates.grid.seen[0]
    best = 0.0
    for at, n in itertools.product(range(1, 99), range(1, 40)):
        q = at / 99
        trials = q * (1 - (1 - seen) ** n) / seen + (1 - q) * n
        best = max(best, bits_by_hand(q, seen, 1e-4, n) / (10 + trials))
    assert move.bits / move.cost > 0.97 * best
    assert move.bits == pytest.approx(bits_by_hand(move.at / 99, seen, 1e-4, move.trials), rel=1e-6)


def test_a_build_that_costs_much_is_used_longer() -> None:
    fresh = Chain(Prior.of(1e-9, [1.0] * 99), known_rate(0.1))
    cheap = best_move(fresh, Costs(0.1), Ground(), leaps=False)
    dear = best_move(fresh, Costs(100.0), Ground(), leaps=False)
    assert cheap is not None
    assert dear is not None
    assert cheap.trials < dear.trials


def test_what_is_built_already_costs_no_build() -> None:
    fresh = Chain(Prior.of(1e-9, [1.0] * 99), known_rate(0.5))
    move = best_move(fresh, Costs(1000.0), Ground(built={30}), leaps=False)
    assert move is not None
    assert move.at == 30


def test_a_hole_is_avoided_and_so_is_what_lies_beside_it() -> None:
    fresh = Chain(Prior.of(1e-9, [1.0] * 99), known_rate(0.9))
    whole = best_move(fresh, Costs(10.0), Ground(), leaps=False)
    assert whole is not None
    around = best_move(fresh, Costs(10.0), Ground(skipped={whole.at}), leaps=False)
    assert around is not None
    assert abs(around.at - whole.at) > 3


def test_nothing_is_left_to_ask_when_no_prefix_tells_anything() -> None:
    two = Chain(Prior.of(1e-9, [1.0, 1.0]), known_rate(0.9))
    assert best_move(two, Costs(1.0), Ground(skipped={1, 0}), leaps=False) is None
    leap = best_move(two, Costs(1.0), Ground(skipped={1, 0}), leaps=True)
    assert leap is not None
    assert leap.is_leap


@pytest.mark.parametrize(("rate", "bits"), [(0.9, 0.763), (0.3, 0.177), (0.05, 0.0270), (1.0, 1)])
def test_a_trial_tells_what_the_z_channel_can_carry(rate: float, bits: float) -> None:
    assert bits_per_trial(rate) == pytest.approx(bits, abs=5e-4)


def test_the_outlook_shrinks_as_evidence_comes_in() -> None:
    before = outlook(chain([]), 0.99)
    after = outlook(chain([Counts(6, 20, 0), Counts(8, 0, 2)]), 0.99)
    assert after.trials < before.trials
    assert after.builds < before.builds


def test_rates_far_beyond_the_grid_do_no_harm() -> None:
    grid = Grid((0.5,), 1e-4)
    certain = Rates(grid, np.ones(1))
    seen = Chain(Prior.of(0.1, [1.0] * N), certain, (Counts(5, 5000, 0), Counts(6, 0, 2000)))
    assert seen.best[0] == 6
    assert seen.best[1] == pytest.approx(1)


def test_the_first_candidate_alone_is_prefix_1_and_no_leap() -> None:
    """It would be asked again and again: its trials are counted as the prefix's."""
    tests = [Counts(0, 60, 0), Counts(1, 400, 25)]
    seen = chain(tests)
    assert seen.best[0] == 1
    move = best_move(seen, Costs(2.0), Ground(built=(0, 1)), leaps=True)
    assert move is not None
    assert (move.at, move.is_leap) == (0, False)
