"""What a strategy remembers saves time only: a fresh one decides the same from the same tallies."""

from __future__ import annotations

import random

import pytest

from pytest_flaky_repro.culprit.aim import Aim, Answer
from pytest_flaky_repro.culprit.links import Link, Lookout, Seen
from pytest_flaky_repro.culprit.strategy import Strategy
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.stats.search.planning import Costs

NUMBER = 40
STEPS_MAX = 400
IDLE = sum(1 << i for i in (5, 6, 7, 20, 21))  # candidates that change nothing


def does_build(mask: int) -> bool:
    return mask.bit_count() not in (11, 12)


def try_out(
    tallies: Tallies, mask: int, trials: int, culprits: list[int], rng: random.Random
) -> None:
    """A build, unless it is a skip, and trials until a crash."""
    if not does_build(mask):
        tallies.skip(mask, "it does not link")
        return
    image = f"{mask & ~IDLE:x}"
    tallies.build(mask, image)
    inside = sum(mask & each == each for each in culprits)
    for _ in range(trials):
        if rng.random() > 0.6**inside:
            tallies.crash(image)
            return
        tallies.survive(image)


@pytest.mark.parametrize(
    "culprits",
    [[1 << 17], [1 << 17, 1 << 30], [1 << 17 | 1 << 30], [0]],
    ids=["single", "or", "and", "none"],
)
@pytest.mark.parametrize("build", [0.0, 10.0])
def test_a_strategy_that_was_there_decides_as_one_that_was_not(
    culprits: list[int], build: float
) -> None:
    rng, tallies, aim, costs = random.Random(7), Tallies(), Aim([1.0] * NUMBER), Costs(build)
    kept = Strategy(aim)
    for _ in range(STEPS_MAX):
        step, fresh = kept.step(tallies, costs), Strategy(aim).step(tallies, costs)
        if isinstance(step, Answer):
            assert isinstance(fresh, Answer)
            assert (step.kind, step.probability) == (fresh.kind, fresh.probability)
            assert [s.members for s in step.sets] == [s.members for s in fresh.sets]
            return
        assert step == fresh
        try_out(tallies, step.mask, step.trials, culprits, rng)
    pytest.fail("no answer")


def test_a_strategy_may_be_asked_about_other_tallies() -> None:
    aim, costs, rng = Aim([1.0] * NUMBER), Costs(1.0), random.Random(3)
    one, two, kept = Tallies(), Tallies(), Strategy(aim)
    for _ in range(12):
        for tallies, culprit in ((one, 1 << 9), (two, 1 << 33)):
            step = kept.step(tallies, costs)
            assert not isinstance(step, Answer)
            assert step == Strategy(aim).step(tallies, costs)
            try_out(tallies, step.mask, step.trials, [culprit], rng)


def test_a_lookout_sees_what_was_built_skipped_and_counted_since() -> None:
    link, tallies = Link.of(0, tuple(range(8))), Tallies()
    lookout = Lookout(link, tallies, None)
    assert lookout.seen() == Seen.of(link, tallies, None)
    tallies.build(0b111, "a")
    tallies.survive("a", 4)
    assert lookout.seen() == Seen.of(link, tallies, None)
    assert lookout.seen().tests == ((3, 4, 0),)
    tallies.build(0b1111, "a")  # the fourth changes nothing
    tallies.skip(0b11111, "it does not link")
    assert lookout.seen() == Seen.of(link, tallies, None)
    assert lookout.seen().tests == ((4, 4, 0),)
    assert lookout.seen().same == ((3, 4),)
    assert lookout.seen().ground.skipped == {5}
    assert lookout.seen() is lookout.seen()
