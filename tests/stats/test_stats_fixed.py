"""The test of fixed length beside a plan: the shortest that keeps both promises."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from pytest_flaky_repro.stats import Design
from pytest_flaky_repro.stats.fixed import FixedTest, fixed_test


def keeps(design: Design, trials: int, most: int) -> bool:
    safe = binom.cdf(most, trials, design.min_rate) <= design.error_safe
    return bool(safe and binom.sf(most, trials, design.noise) <= design.error_crash)


def test_without_noise_it_is_the_success_run() -> None:
    assert fixed_test(Design(0.01, 0.0, 0.99, 0.99)) == FixedTest(459, 0)


@given(st.floats(0.001, 0.05), st.floats(2.5, 20.0), st.sampled_from([0.8, 0.9, 0.99]))
@settings(max_examples=25, deadline=None)
def test_it_is_the_shortest_that_keeps_both(noise: float, ratio: float, sure: float) -> None:
    design = Design(min(0.5, noise * ratio), noise, sure, sure)
    found = fixed_test(design)
    assert found is not None
    assert keeps(design, found.trials, found.most_crashes)
    shorter = range(max(1, found.trials - 40), found.trials)
    assert not any(keeps(design, n, c) for n in shorter for c in range(found.most_crashes + 2))


@pytest.mark.parametrize(("rate", "safe"), [(0.0, 1.0), (0.05, 0.0988), (1.0, 0.0)])
def test_its_chance_of_safe(rate: float, safe: float) -> None:
    assert FixedTest(45, 0).p_safe(rate) == pytest.approx(safe, rel=0.01)
    assert FixedTest(45, 3).p_safe(rate) == pytest.approx(binom.cdf(3, 45, rate))
