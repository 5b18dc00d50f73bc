"""The length of a trial: chosen from times to crash, never at the cost of the error bound."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nbinom

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import Calibration, CrashTimes, Hazard, advise, best_length, hazard
from pytest_flaky_repro.stats.duration import (
    MARGIN,
    PILOT_CRASHES,
    WORTH_IT,
    _uniform_sum_tail,
    early_crashes_p,
    late_crashes_p,
)

BOOT, LONGEST = 2.0, 10.0
seconds = st.floats(0.0, LONGEST, allow_nan=False)
crash_times = st.builds(
    CrashTimes,
    crashed=st.lists(seconds, max_size=30).map(tuple),
    survived=st.lists(seconds, max_size=30).map(tuple),
    boot=st.floats(0.0, 100.0),
    longest=st.just(LONGEST),
)


@dataclass(frozen=True)
class Law:
    """When a trial crashes that is never stopped: ``draw`` a time, and ``share``, P(by t)."""

    draw: Callable[[random.Random], float]
    share: Callable[[float], float]


def exponential(mean: float) -> Law:
    return Law(lambda rng: rng.expovariate(1 / mean), lambda t: -math.expm1(-t / mean))


def some_early(vulnerable: float, mean: float) -> Law:
    """Some boots crash, and soon; the others never do."""
    early = exponential(mean)
    return Law(
        lambda rng: early.draw(rng) if rng.random() < vulnerable else math.inf,
        lambda t: vulnerable * early.share(t),
    )


def warming_up(warm_up: float, mean: float) -> Law:
    after = exponential(mean)
    return Law(
        lambda rng: warm_up + after.draw(rng),
        lambda t: after.share(t - warm_up) if t > warm_up else 0,
    )


LAWS = {
    "constant": exponential(200.0),
    "often": exponential(20.0),
    "early": some_early(0.1, 0.5),
    "early or late": some_early(0.05, 4.0),
    "warm-up": warming_up(7.0, 50.0),
}


def calibration(law: Law, crashes: int, rng: random.Random) -> CrashTimes:
    """Trials of up to LONGEST until so many crashed."""
    crashed: list[float] = []
    survived: list[float] = []
    while len(crashed) < crashes:
        time = law.draw(rng)
        (crashed if time <= LONGEST else survived).append(min(time, LONGEST))
    return CrashTimes(tuple(crashed), tuple(survived), BOOT, LONGEST)


def false_safe(rate: float, crashes: int, error: float) -> float:
    """Exact chance that a kernel of ``rate``, calibrated at that rate, is called safe."""
    last = int(nbinom.ppf(1 - 1e-6, crashes, rate)) + crashes
    return 1e-6 + math.fsum(
        float(nbinom.pmf(trials - crashes, crashes, rate))
        * (1 - rate) ** Calibration(trials, crashes).clean_trials(error)
        for trials in range(crashes, last + 1)
    )


# ---- the choice


@given(crash_times)
def test_the_length_is_at_most_the_longest_and_worth_it(times: CrashTimes) -> None:
    chosen = best_length(times)
    assert 0 < chosen.seconds <= LONGEST
    assert chosen.cost <= WORTH_IT if chosen.seconds < LONGEST else chosen.cost == 1.0


@given(crash_times, st.randoms())
def test_the_order_of_the_trials_is_no_matter(times: CrashTimes, rng: random.Random) -> None:
    mixed = list(times.crashed)
    rng.shuffle(mixed)
    assert best_length(CrashTimes(tuple(mixed), (), times.boot, LONGEST)) == best_length(times)


@given(crash_times)
def test_a_shorter_length_would_have_shown_at_least_two_crashes(times: CrashTimes) -> None:
    chosen = best_length(times)
    shown = [time for time in times.crashed if MARGIN * time <= chosen.seconds]
    assert len(shown) >= 2 or chosen.seconds == LONGEST


@given(crash_times)
def test_the_choice_does_not_look_at_the_survivors(times: CrashTimes) -> None:
    """So the trials of a kept length may count on: their number is independent of the choice."""
    assert best_length(times) == best_length(CrashTimes(times.crashed, (), times.boot, LONGEST))


def test_crashes_in_the_first_second_need_no_trials_of_ten() -> None:
    times = CrashTimes((0.3, 0.5, 0.6, 0.8, 0.9), (10.0,) * 95, BOOT, LONGEST)
    chosen = best_length(times)
    assert chosen.seconds == pytest.approx(1.2)
    assert chosen.cost == pytest.approx((2 + 1.2) / 12 * 5 / 4)


def test_where_boots_are_dear_trials_are_long() -> None:
    crashed = (0.5, 1.0, 2.0, 3.0, 4.0)
    cheap, dear = (CrashTimes(crashed, (), boot, LONGEST) for boot in (0.1, 100.0))
    assert best_length(cheap).seconds < best_length(dear).seconds == LONGEST


def test_one_lucky_crash_is_no_bargain() -> None:
    times = CrashTimes((0.1, 9.0, 9.1, 9.2, 9.3), (), 0.0, LONGEST)
    assert best_length(times).seconds == LONGEST


def test_too_few_crashes_give_no_advice() -> None:
    assert advise(CrashTimes((1.0, 2.0), (10.0,) * 50, BOOT, LONGEST)) is None


@pytest.mark.parametrize("crashed", [(-1.0,), (math.inf,), (math.nan,)])
def test_times_have_to_be_times(crashed: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="seconds from 0 up"):
        CrashTimes(crashed, (), BOOT, LONGEST)


# ---- honesty


@pytest.mark.parametrize("name", LAWS)
def test_a_chosen_length_keeps_the_error(name: str) -> None:
    """Over the lengths that pilots choose, the exact chance of a false *safe* is at most b."""
    law, rng = LAWS[name], random.Random(1)
    chosen = [best_length(calibration(law, PILOT_CRASHES, rng)).seconds for _ in range(200)]
    errors = {length: false_safe(law.share(length), 10, 0.05) for length in set(chosen)}
    assert max(errors.values()) <= 0.05


def test_a_kept_length_keeps_the_error_with_all_trials_counted() -> None:
    """The pilot's own crashes are the calibration's first: 2000 campaigns, half keep the length."""
    law, rng = LAWS["early or late"], random.Random(2)
    chances = []
    for _ in range(2000):
        pilot = calibration(law, PILOT_CRASHES, rng)
        if best_length(pilot).seconds < LONGEST:
            continue
        rest = calibration(law, 10 - PILOT_CRASHES, rng)
        trials = sum(len(t.crashed) + len(t.survived) for t in (pilot, rest))
        clean = Calibration(trials, 10).clean_trials(0.05)
        chances.append((1 - law.share(LONGEST)) ** clean)
    mean = math.fsum(chances) / len(chances)
    spread = math.sqrt(math.fsum((c - mean) ** 2 for c in chances)) / len(chances)
    assert len(chances) > 200
    assert mean - 3 * spread <= 0.05


def test_choosing_and_calibrating_on_the_same_trials_would_not() -> None:
    """The trap: re-read at the best-looking length, the same crashes promise too much."""
    law, rng = LAWS["early or late"], random.Random(3)
    chances = []
    for _ in range(4000):
        times = calibration(law, 10, rng)
        length = best_length(times).seconds
        seen = sum(time <= length for time in times.crashed)
        trials = len(times.crashed) + len(times.survived)
        chances.append((1 - law.share(length)) ** Calibration(trials, seen).clean_trials(0.05))
    mean = math.fsum(chances) / len(chances)
    spread = math.sqrt(math.fsum((c - mean) ** 2 for c in chances)) / len(chances)
    assert mean - 3 * spread > 0.05


# ---- when crashes come


@given(st.integers(1, 60), st.floats(0.0, 1.0))
def test_the_tail_of_a_sum_of_uniforms_is_one(count: int, where: float) -> None:
    tail = _uniform_sum_tail(where * count, count)
    assert 0.0 <= tail <= 1.0
    assert tail + _uniform_sum_tail((1 - where) * count, count) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(
    ("total", "count", "tail"),
    [(0.3, 1, 0.7), (0.5, 2, 0.875), (1.5, 2, 0.125), (1.0, 3, 5 / 6), (2.5, 3, 0.125 / 6)],
)
def test_the_tail_of_a_sum_of_uniforms(total: float, count: int, tail: float) -> None:
    """Volumes of corners of the unit cube."""
    assert _uniform_sum_tail(total, count) == pytest.approx(tail)


def test_the_normal_law_takes_over_where_it_is_close() -> None:
    assert _uniform_sum_tail(9.0, 15) == pytest.approx(_uniform_sum_tail(9.0 + 0.5, 16), abs=0.02)


@pytest.mark.parametrize("mean", [8.0, 20.0, 100.0])
@pytest.mark.parametrize("crashes", [5, 10])
def test_a_constant_hazard_is_rejected_as_often_as_stated(mean: float, crashes: int) -> None:
    law, rng = exponential(mean), random.Random(4)
    found = [hazard(calibration(law, crashes, rng)) for _ in range(1500)]
    share = 1 - found.count(Hazard.CONSTANT) / len(found)
    assert share <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / len(found))


@pytest.mark.parametrize(
    ("law", "expected"),
    [(LAWS["early"], Hazard.FALLING), (LAWS["warm-up"], Hazard.RISING)],
    ids=["early", "warm-up"],
)
def test_other_hazards_are_seen(law: Law, expected: Hazard) -> None:
    rng = random.Random(5)
    found = [hazard(calibration(law, 10, rng)) for _ in range(300)]
    assert found.count(expected) > 0.95 * len(found)


@given(crash_times)
def test_p_values_are_probabilities(times: CrashTimes) -> None:
    assert 0.0 <= late_crashes_p(times) <= 1.0
    assert 0.0 <= early_crashes_p(times) <= 1.0
