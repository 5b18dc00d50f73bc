"""Many kernels judged together."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats import (
    Design,
    FamilyRule,
    Tally,
    e_bh,
    e_values,
    false_calls,
    member_design,
    plan_for,
)


def test_bonferroni_shares_both_errors() -> None:
    design = member_design(Design(0.05, 0.001, 0.99, 0.95), 20, FamilyRule.BONFERRONI)
    assert design.error_safe == pytest.approx(0.0005, rel=1e-9)
    assert design.error_crash == pytest.approx(0.0025, rel=1e-9)
    assert member_design(Design(0.05), 20, FamilyRule.NONE) == Design(0.05)


@pytest.mark.parametrize(("members", "cost"), [(5, 1.35), (20, 1.65), (100, 2.0)])
def test_bonferroni_price_on_a_good_kernel(members: int, cost: float) -> None:
    design = Design(0.01, 0.0, 0.99, 0.99)
    shared = plan_for(member_design(design, members, FamilyRule.BONFERRONI))
    assert shared.safe_at(0) / plan_for(design).safe_at(0) == pytest.approx(cost, abs=0.01)


def test_what_each_rule_promises() -> None:
    assert false_calls(0.01, 20, FamilyRule.NONE).expected == pytest.approx(0.2)
    assert false_calls(0.01, 20, FamilyRule.BONFERRONI).any_chance == 0.01
    ebh = false_calls(0.01, 20, FamilyRule.EBH)
    assert ebh.share == 0.01
    assert math.isnan(ebh.expected)


def test_e_bh_by_hand() -> None:
    """m = 4 at 10%: thresholds 40, 20, 13.3, 10 for the first, second, third, fourth."""
    values = [math.log(value) for value in (25.0, 3.0, 21.0, 14.0)]
    assert e_bh(values, 0.1) == {0, 2, 3}
    assert e_bh([math.log(39.0), 0, 0, 0], 0.1) == frozenset()
    assert e_bh([math.inf, -math.inf], 0.1) == {0}
    assert e_bh([], 0.1) == frozenset()


@given(st.lists(st.floats(-20, 40), min_size=1, max_size=12), st.integers(0, 11))
def test_e_bh_grows_with_evidence(values: list[float], index: int) -> None:
    index %= len(values)
    before = e_bh(values, 0.05)
    after = e_bh([v + (5.0 if i == index else 0.0) for i, v in enumerate(values)], 0.05)
    assert before <= after


def test_e_bh_keeps_the_false_discovery_rate() -> None:
    """20 kernels, half bad (p1 = 5%), in rounds until called: mean false share at most 5%."""
    design, rng = Design(0.05, 0.0, 0.95), random.Random(11)
    shares = []
    for _ in range(200):
        bad = [index % 2 == 0 for index in range(20)]
        crashed, trials = [False] * 20, 0
        called: frozenset[int] = frozenset()
        while trials < 200 and len(called) + sum(crashed) < 20:
            trials += 1
            for index in range(20):
                crashed[index] |= bad[index] and rng.random() < 0.05
            tallies = [Tally(trials, trials, int(hit)) for hit in crashed]
            logs = [e_values(design, tally).log_against_min_rate for tally in tallies]
            called = e_bh(logs, 0.05)
        wrong = sum(bad[index] for index in called)
        shares.append(wrong / max(1, len(called)))
    assert sum(shares) / len(shares) <= 0.05


def test_bad_families_are_refused() -> None:
    with pytest.raises(UsageError):
        member_design(Design(0.05), 0, FamilyRule.NONE)
    with pytest.raises(UsageError):
        e_bh([math.nan], 0.05)
    with pytest.raises(UsageError):
        e_bh([0.0], 1.5)
