"""Searches by simulation, exact seeds: every kind of answer, and what it costs to be sure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.aim import Answer, Phase, Query
from pytest_flaky_repro.culprit.building import Image, Shape
from pytest_flaky_repro.culprit.candidates import Subset
from pytest_flaky_repro.culprit.result import Claim, Kind, Result
from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
from pytest_flaky_repro.culprit.strategy import Strategy
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.report.culprit import report_lines
from pytest_flaky_repro.stats.search.planning import Costs

SEEDS = range(12)
NAMES: dict[str, list[list[int]]] = {
    "single": [[17]],
    "or": [[17], [40]],
    "and": [[17, 40]],
    "none": [[]],
}


def find(folder: Path, builder: Any, tester: Any, options: SearchOptions | None = None) -> Result:
    return find_culprit(builder, tester, options, folder=folder)


def wanted(sets: Sequence[Sequence[int]]) -> set[tuple[str, ...]]:
    return {tuple(f"c{i}" for i in members) for members in sets}


def claims(result: Result) -> dict[Claim, Any]:
    return {each.claim: each for found in result.sets for each in found.confirmations}


@pytest.mark.parametrize("kind", ["single", "or", "and"])
@pytest.mark.parametrize("rate", [0.9, 0.3])
def test_the_culprits_are_found(
    masks: Any, coin: Any, tmp_path: Path, kind: str, rate: float
) -> None:
    """Of 12 searches with a stated 99% one may be wrong: more has a chance of 0.6%."""
    right = 0
    for seed in SEEDS:
        tester = coin(NAMES[kind], rate, seed)
        result = find(tmp_path / str(seed), masks(60), tester)
        right += {found.names for found in result.sets} == wanted(NAMES[kind])
        assert result.probability >= 0.99
    assert right >= len(SEEDS) - 1


def test_all_good_that_crashes_is_not_in_these_candidates(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    kinds = [find(tmp_path / str(s), masks(60), coin([[]], 0.3, s)).kind for s in SEEDS]
    assert kinds.count(Kind.NOT_HERE) >= len(SEEDS) - 1


def test_a_single_culprit_is_confirmed_both_ways(masks: Any, coin: Any, tmp_path: Path) -> None:
    result = find(tmp_path, masks(60), coin([[17]], 0.3))
    confirmed = claims(result)
    assert set(confirmed) == {Claim.SUFFICIENT, Claim.COMPLETE}
    alone, rest = confirmed[Claim.SUFFICIENT], confirmed[Claim.COMPLETE]
    assert str(alone.subset) == "only c17"
    assert alone.crashed >= 1
    assert alone.error < 0.01
    assert len(alone.seeds) == alone.crashed
    assert str(rest.subset) == "all but c17"
    assert rest.crashed == 0
    assert 0 < rest.error <= 0.005


def test_members_of_a_pair_are_each_shown_to_be_needed(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    result = find(tmp_path, masks(60), coin([[17, 40]], 0.3))
    assert result.kind is Kind.ALL_OF
    needed = [c for c in result.sets[0].confirmations if c.claim is Claim.NECESSARY]
    assert {str(each.subset) for each in needed} == {"only c17", "only c40"}
    assert all(each.error <= 0.01 and each.crashed == 0 for each in needed)


def test_three_that_crash_only_together_are_found(masks: Any, coin: Any, tmp_path: Path) -> None:
    result = find(tmp_path, masks(40), coin([[3, 11, 30]], 0.5))
    assert result.names == ("c3", "c11", "c30")


def test_all_bad_that_never_crashes_says_what_is_ruled_out(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    tester = coin([], 0.3)
    result = find(tmp_path, masks(60), tester, SearchOptions(min_rate=0.05))
    assert result.kind is Kind.NO_CRASH
    assert tester.trials == 90  # ceil(ln 0.01 / ln 0.95)
    assert result.rate[2] <= 0.12  # a bound that holds wherever trials stop
    assert result.spent.builds == 1


def test_crashes_no_more_frequent_than_the_noise_are_no_crash(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    tester = coin([], 0.3, noise=0.02)
    options = SearchOptions(noise=0.03, min_rate=0.02)
    result = find(tmp_path, masks(60), tester, options)
    assert result.kind is Kind.NO_CRASH
    assert result.spent.crashes > 0


def test_noise_that_is_known_of_blames_nobody(masks: Any, coin: Any, tmp_path: Path) -> None:
    right = 0
    for seed in SEEDS:
        tester = coin([[17]], 0.5, seed, noise=0.02)
        result = find(tmp_path / str(seed), masks(60), tester, SearchOptions(noise=0.02))
        right += result.names == ("c17",)
    assert right >= len(SEEDS) - 1


def test_a_boot_of_many_trials_is_taken_for_as_noisy_as_all_of_them(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """One boot of 1,000 trials crashes by noise of 1e-4 a trial in one of ten cases: no proof."""
    tester = coin([[17]], 0.9)
    tester.boot_size = 1000
    result = find(tmp_path, masks(60), tester)
    assert result.names == ("c17",)
    assert result.spent.boot_size == 1000
    assert claims(result)[Claim.SUFFICIENT].crashed > 1
    assert claims(result)[Claim.SUFFICIENT].error <= 0.01


def test_other_crashes_are_counted_and_teach_nothing(masks: Any, coin: Any, tmp_path: Path) -> None:
    """The other crash happens everywhere: taken for the one, all good would be to blame."""
    target = Signature.parse("the crash")
    tester = coin([[17]], 0.4, other=0.3)
    result = find(tmp_path, masks(60), tester, SearchOptions(target=target))
    assert result.names == ("c17",)
    assert result.others["WARNING: another one"] == result.spent.others > 0
    assert result.spent.trials + result.spent.others == tester.trials


def test_what_cannot_be_bad_without_the_culprit_is_not_blamed_beside_it(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """Only c5 crashes, too: its build has c4 bad as well, as a driver is built with its bus."""
    explained = 0
    for seed in SEEDS:
        builder = masks(12, needs={5: 4})
        result = find(tmp_path / str(seed), builder, coin([[4]], 0.3, seed))
        assert result.names == ("c4",)
        explained += bool(result.explained)
        for subset, brought in result.explained:
            assert (subset.names, brought.names) == (("c5",), ("c4",))
            assert "    only c5 crashes, too, and cannot be had without c4" in report_lines(result)
    assert explained, "choose other seeds: in none c5 was tried alone first"


def test_what_needs_another_candidate_is_found_alone(masks: Any, coin: Any, tmp_path: Path) -> None:
    result = find(tmp_path, masks(12, needs={5: 4}), coin([[5]], 0.3))
    assert (result.names, result.explained) == (("c5",), ())


def test_what_does_not_build_is_skipped_and_never_good(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    def broken(subset: Subset) -> bool:
        return subset.prefix is not None and 25 <= subset.prefix < 35

    right = 0
    for seed in SEEDS:
        builder = masks(60, broken=broken)
        result = find(tmp_path / str(seed), builder, coin([[29]], 0.5, seed))
        right += result.names == ("c29",)  # found by trying candidates of the stretch alone
        assert all(reason == "it does not link" for _, reason in result.skipped)
    assert right >= len(SEEDS) - 1


def test_on_a_chain_a_stretch_that_does_not_build_stays_unresolved(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    builder = masks(60, shape=Shape.CHAIN, broken=lambda subset: subset.prefix in (29, 30))
    result = find(tmp_path, builder, coin([[29]], 0.5))
    assert result.kind is Kind.UNRESOLVED
    assert {leader.candidate.name for leader in result.credible} == {"c28", "c29", "c30"}
    assert "cannot be told apart" in result.why
    assert result.skipped


def test_a_chain_is_asked_for_prefixes_only(masks: Any, coin: Any, tmp_path: Path) -> None:
    builder = masks(200, shape=Shape.CHAIN)
    result = find(tmp_path, builder, coin([[120]], 0.3))
    assert result.names == ("c120",)
    everything = [Subset(result.sets[0].confirmations[0].subset.universe, m) for m in builder.built]
    assert all(subset.prefix is not None for subset in everything)
    before = claims(result)[Claim.NECESSARY]
    assert str(before.subset) == "the first 120 of 200"
    assert before.error < 0.02
    first = claims(result)[Claim.SUFFICIENT]
    assert first.error < 1e-3  # one crash or more, and noise is 1e-4: not 1 - P(culprit)


def test_an_image_that_cannot_be_tested_is_a_skip(masks: Any, coin: Any, tmp_path: Path) -> None:
    def untestable(mask: int) -> bool:
        return mask.bit_count() in range(20, 25)

    tester = coin([[40]], 0.5, untestable=untestable)
    result = find(tmp_path, masks(60), tester)
    assert result.names == ("c40",)


def test_a_set_that_can_no_longer_be_tested_alone_is_reduced_by_what_is_known(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """Its members crashed together, once; since then that image does not boot."""
    tester = coin([[0, 5]], 0.5, 3)
    pair, run = f"{1 << 0 | 1 << 5:x}", tester.run
    crashed: set[str] = set()
    refused: list[str] = []

    def wearing_out(image: Image, survivals: int, target: Any, tell: Any, already: int = 0) -> Any:
        def on_trial(report: TrialReport) -> None:
            if report.outcome is TrialOutcome.CRASHED:
                crashed.add(image.id)
            tell(report)

        if image.id == pair and pair in crashed:
            assert refused == [], "it is asked for again and again"
            refused.append(image.id)
            return Untestable("it does not boot any more")
        return run(image, survivals, target, on_trial, already)

    tester.run = wearing_out
    result = find(tmp_path, masks(8), tester)
    assert refused == [pair], "choose a seed with which it is asked for again"
    assert (result.kind, result.names) == (Kind.ALL_OF, ("c0", "c5"))


def test_a_search_ends_if_it_would_ask_for_what_cannot_be_tested(
    masks: Any, coin: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stubborn(Strategy):
        def step(self, tallies: Tallies, costs: Costs) -> Query | Answer:
            del tallies, costs
            return Query(1, 5, Phase.SEARCH)

    monkeypatch.setattr("pytest_flaky_repro.culprit.search.Strategy", Stubborn)
    tester = coin([[0]], 0.5, untestable=lambda mask: mask == 1)
    result = find(tmp_path, masks(8), tester)
    assert result.kind is Kind.UNRESOLVED
    assert result.why == "only c0 would be tried next and cannot be: it does not boot"


def test_all_bad_that_does_not_build_is_an_error(masks: Any, coin: Any, tmp_path: Path) -> None:
    builder = masks(60, broken=lambda subset: len(subset) == 60)
    with pytest.raises(UsageError, match="all bad cannot be built or tested: it does not link"):
        find(tmp_path, builder, coin([[17]], 0.5))


def test_where_all_bad_fails_the_builder_may_know_better(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    builder = masks(60, broken=lambda subset: len(subset) == 60)
    builder.if_all_bad_fails = ", unless some are left out"
    with pytest.raises(UsageError, match="Nothing can be found, unless some are left out"):
        find(tmp_path, builder, coin([[17]], 0.5))


def test_what_changes_nothing_is_never_blamed_and_costs_no_trials(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    dead = frozenset(range(60)) - {7, 17, 50}
    tester = coin([[17]], 0.5)
    result = find(tmp_path, masks(60, without_effect=dead), tester)
    assert result.names == ("c17",)
    assert tester.trials < 60


@pytest.mark.parametrize(
    ("options", "why", "resume"),
    [
        (
            SearchOptions(max_trials=20),
            "the budget of 20 trials is spent (--max-trials), all runs together",
            "--resume and a larger --max-trials",
        ),
        (
            SearchOptions(max_builds=3),
            "the budget of 3 builds is spent (--max-builds), all runs together",
            "--resume and a larger --max-builds",
        ),
        (SearchOptions(seconds=1e-9), "the budget of 1e-09 s is spent", "--resume"),
    ],
)
def test_a_spent_budget_leaves_a_credible_set(
    masks: Any, coin: Any, tmp_path: Path, options: SearchOptions, why: str, resume: str
) -> None:
    result = find(tmp_path, masks(60), coin([[17]], 0.1), options)
    assert result.kind is Kind.UNRESOLVED
    assert why in result.why
    assert result.resume == resume
    assert result.sets == ()


@pytest.mark.parametrize(("boot_size", "unit"), [(1, "trials"), (16, "boots")])
def test_what_teaches_nothing_is_paid_for_too(
    masks: Any, coin: Any, tmp_path: Path, boot_size: int, unit: str
) -> None:
    """No image ever survives here, or shows the crash that counts: only the budget ends it."""
    tester = coin([[17]], 0.5, other=1.0, boot_size=boot_size)
    options = SearchOptions(target=Signature.parse("the crash"), max_trials=30)
    result = find(tmp_path, masks(60), tester, options)
    assert result.kind is Kind.UNRESOLVED
    assert f"the budget of 30 {unit} is spent (--max-trials)" in result.why
    assert (tester.trials, result.spent.trials, result.spent.others) == (30, 0, 30)


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_is_built_than_was_granted(
    masks: Any, coin: Any, tmp_path: Path, most: int
) -> None:
    builder = masks(60)
    find(tmp_path, builder, coin([[17]], 0.3), SearchOptions(max_builds=most))
    assert len(builder.built) == most


def test_searches_with_the_same_options_share_their_seconds(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """One that goes deeper has what the one before it left."""
    options = SearchOptions(seconds=60, began=time.monotonic() - 61)
    result = find(tmp_path, masks(60), coin([[17]], 0.3), options)
    assert result.kind is Kind.UNRESOLVED
    assert result.why == "the budget of 60 s is spent (--budget)"


@pytest.mark.parametrize("noise", [0.5, 0.9])
def test_noise_that_drowns_everything_is_no_crash(
    masks: Any, coin: Any, tmp_path: Path, noise: float
) -> None:
    """Thousands of crashes: their Poisson tail has to be computed without overflow."""
    tester = coin([[17]], 0.3, noise=noise)
    options = SearchOptions(noise=noise, min_rate=0.02, max_trials=1500)
    assert find(tmp_path, masks(6), tester, options).kind is not Kind.SINGLE


def test_the_hash_scheme_finds_one_culprit(masks: Any, coin: Any, tmp_path: Path) -> None:
    result = find(tmp_path, masks(60), coin([[17]], 0.5), SearchOptions(strategy="hash"))
    assert result.names == ("c17",)
    assert Claim.COMPLETE in claims(result)


def test_the_hash_scheme_does_not_name_one_of_two_that_crash_together(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    result = find(tmp_path, masks(60), coin([[17, 40]], 0.5), SearchOptions(strategy="hash"))
    assert result.kind is Kind.UNRESOLVED


def test_the_hash_scheme_needs_any_subset(masks: Any, coin: Any, tmp_path: Path) -> None:
    builder = masks(60, shape=Shape.CHAIN)
    with pytest.raises(UsageError, match="only prefixes can be built"):
        find(tmp_path, builder, coin([[17]], 0.5), SearchOptions(strategy="hash"))


def test_one_candidate_is_enough(masks: Any, coin: Any, tmp_path: Path) -> None:
    result = find(tmp_path, masks(1), coin([[0]], 0.5))
    assert result.names == ("c0",)


def test_no_candidates_is_an_error(masks: Any, coin: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing differs between the good and the bad"):
        find(tmp_path, masks(0), coin([[0]], 0.5))


FEW = [(1, [[0]]), (2, [[0], [1]]), (2, [[0, 1]]), (3, [[1], [2]]), (3, [[0], [1], [2]])]
FEW += [(5, [[0], [1]]), (12, [[0], [1]]), (12, [[0, 1]])]


@pytest.mark.parametrize("rate", [0.9, 0.3])
@pytest.mark.parametrize(("number", "sets"), FEW)
def test_short_lists_are_searched_as_well_as_long_ones(
    masks: Any, coin: Any, tmp_path: Path, number: int, sets: list[list[int]], rate: float
) -> None:
    right = 0
    for seed in SEEDS:
        result = find(tmp_path / str(seed), masks(number), coin(sets, rate, seed))
        right += {found.names for found in result.sets} == wanted(sets)
    assert right >= len(SEEDS) - 1


@pytest.mark.parametrize("number", [1, 2, 3, 12])
def test_a_crash_that_has_nothing_to_do_with_the_candidates_blames_none(
    masks: Any, coin: Any, tmp_path: Path, number: int
) -> None:
    for seed in SEEDS:
        builder = masks(number)
        result = find(tmp_path / str(seed), builder, coin([[]], 0.5, seed))
        assert result.kind is Kind.NOT_HERE
        assert 0 in builder.built
