"""Where good images crash, too: what is proof of a culprit, and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.culprit.aim import Aim, Query
from pytest_flaky_repro.culprit.building import Shape
from pytest_flaky_repro.culprit.result import Claim
from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
from pytest_flaky_repro.culprit.strategy import Strategy
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.report.searches import searches_below
from pytest_flaky_repro.stats.search.planning import Costs

NOISE = 0.02
NUMBER = 30
ALL_BAD = (1 << NUMBER) - 1


def first(length: int) -> int:
    return (1 << length) - 1


def seen(counts: dict[int, tuple[int, int]]) -> Tallies:
    """Survivals and crashes of each subset."""
    tallies = Tallies()
    for mask, (survived, crashed) in counts.items():
        tallies.build(mask, f"{mask:x}")
        tallies.survive(f"{mask:x}", survived)
        tallies.crash(f"{mask:x}", crashed)
    return tallies


def next_step(counts: dict[int, tuple[int, int]]) -> tuple[Any, Strategy]:
    strategy = Strategy(Aim([1.0] * NUMBER, noise=NOISE))
    return strategy.step(seen(counts), Costs(2.0)), strategy


def test_a_candidate_that_crashed_alone_is_no_culprit_where_more_than_it_survives() -> None:
    """Two of two are 600 times as likely of a culprit; but all these survivals had it in."""
    _, strategy = next_step({ALL_BAD: (3, 3), 0: (5, 0), first(10): (200, 1), 1 << 5: (0, 2)})
    assert strategy.found == ()


def test_a_set_has_to_be_shown_to_crash_by_its_own_trials() -> None:
    """One crash of it may be noise, however probable it is that one candidate is enough."""
    known = {ALL_BAD: (3, 3), 0: (5, 0), first(6): (2, 6), first(5): (60, 1)}
    once, _ = next_step(known | {1 << 5: (0, 1)})
    assert isinstance(once, Query)
    assert once.mask == 1 << 5
    _, strategy = next_step(known | {1 << 5: (1, 3)})
    (found,) = strategy.found
    assert found.members == (5,)


def test_survivals_of_the_rest_say_nothing_of_what_a_set_needs_besides() -> None:
    """Were a second member needed, all the rest would survive as well."""
    known = {ALL_BAD: (3, 3), 0: (5, 0), first(6): (2, 6), first(5): (60, 1), 1 << 5: (1, 3)}
    few, _ = next_step(known | {ALL_BAD & ~(1 << 5): (40, 0)})
    many, _ = next_step(known | {ALL_BAD & ~(1 << 5): (4000, 60)})
    assert few.sets[0].enough == many.sets[0].enough < 1
    assert many.probability < 1


@pytest.mark.parametrize("shape", Shape)
def test_a_crash_by_noise_does_not_hide_that_the_rest_survives(
    masks: Any, coin: Any, tmp_path: Path, shape: Shape
) -> None:
    sets = [[5]] if shape is Shape.CHAIN else [[2, 5]]
    tester, options = coin(sets, 0.4, seed=3, noise=0.05), SearchOptions(noise=0.05)
    result = find_culprit(masks(12, shape=shape), tester, options, folder=tmp_path)
    needed = [each for each in result.sets[0].confirmations if each.claim is Claim.NECESSARY]
    assert any(each.crashed for each in needed), "choose a seed with a crash by noise"
    assert all(each.error <= 0.01 for each in needed)


def test_a_page_weighs_suspects_with_the_noise_that_was_told(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    tester, options = coin([[5]], 0.4, seed=3, noise=0.05), SearchOptions(noise=0.05)
    find_culprit(masks(12, shape=Shape.CHAIN), tester, options, folder=tmp_path)
    (search,) = searches_below([tmp_path])
    (suspects,) = (plot for plot in search.plots if plot.table.rows[0][0].startswith("c"))
    name, share = suspects.table.rows[0]
    assert name == "c5"
    assert float(share.rstrip("%")) >= 99
