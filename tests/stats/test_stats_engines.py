"""The line solver against brute force and against a second engine written from the definition."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import Decision, Design, Plan, Tally, plan_for
from pytest_flaky_repro.stats.lattice import Pair, crash_risk, safe_risk

DESIGNS = [
    Design(p1, p0, 1 - error, 1 - error)
    for error in (0.05, 0.01, 0.001)
    for p0 in (1e-4, 1e-3, 1e-2)
    for p1 in (0.5, 0.2, 0.05)
]


def trial_by_trial(
    plan: Plan, rate: float, trials: int, *, safe: bool, crash: bool
) -> tuple[float, float, float, float]:
    """The second engine: one trial a step, plain floats, no convolution, no change of measure.

    Returns P(safe), P(crashes), what is left, and expected trials up to ``trials``.
    """
    alive, said_safe, said_crash, expected = {0: 1.0}, 0.0, 0.0, 0.0
    for n in range(1, trials + 1):
        expected += sum(alive.values())
        ahead: dict[int, float] = {}
        for crashes, mass in alive.items():
            ahead[crashes] = ahead.get(crashes, 0.0) + mass * (1 - rate)
            if crash and n <= plan.crash_at(crashes + 1):
                said_crash += mass * rate
            else:
                ahead[crashes + 1] = ahead.get(crashes + 1, 0.0) + mass * rate
        if safe:
            for crashes in [x for x in ahead if n >= plan.safe_at(x)]:
                said_safe += ahead.pop(crashes)
        alive = {x: mass for x, mass in ahead.items() if mass > 1e-17}
        if not alive:
            break
    return said_safe, said_crash, sum(alive.values()), expected


def horizon(design: Design) -> int:
    """Trials after which less than 1e-10 is left to happen, found by trial."""
    return int(60 / design.min_rate) + 400


@pytest.mark.parametrize("design", DESIGNS, ids=repr)
def test_both_engines_agree(design: Design) -> None:
    plan = plan_for(design)
    for rate in (design.noise, design.min_rate):
        seen = plan.operating_characteristic(rate)
        safe, crash, left, expected = trial_by_trial(
            plan, rate, 40 * horizon(design), safe=True, crash=True
        )
        assert left < 1e-9
        assert seen.p_safe == pytest.approx(safe, abs=1e-9)
        assert seen.p_crash == pytest.approx(crash, abs=1e-9)
        assert seen.expected_trials == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    "design",
    [
        pytest.param(design, marks=[pytest.mark.slow] if design.min_rate < 0.2 else [])
        for design in DESIGNS[::4]
    ],
    ids=repr,
)
def test_each_line_alone_keeps_its_error(design: Design) -> None:
    """P(ever crossed) without the other line, by the second engine, is the solver's to 1e-8."""
    plan, pair = plan_for(design), Pair(design.noise, design.min_rate)
    trials = 12 * horizon(design)
    safe = trial_by_trial(plan, design.min_rate, trials, safe=True, crash=False)[0]
    crash = trial_by_trial(plan, design.noise, trials, safe=False, crash=True)[1]
    assert safe == pytest.approx(safe_risk(pair, plan.lines.safe), abs=1e-8)
    assert crash == pytest.approx(crash_risk(pair, plan.lines.crash), abs=1e-8)
    assert safe <= design.error_safe
    assert crash <= design.error_crash


@given(
    st.floats(0.1, 0.7),
    st.floats(0.02, 0.6),
    st.sampled_from([0.6, 0.8, 0.9]),
    st.integers(1, 10),
    st.floats(0.01, 0.99),
)
@settings(max_examples=20)
def test_brute_force_over_every_log(
    min_rate: float, share: float, confidence: float, budget: int, rate: float
) -> None:
    """All 2**budget logs, each judged by decide() trial by trial."""
    plan = plan_for(Design(min_rate, min_rate * share * 0.5, confidence, confidence))
    said = dict.fromkeys(Decision, 0.0)
    expected = 0.0
    for log in itertools.product((Vote.CRASH, Vote.SURVIVAL), repeat=budget):
        chance, tally, steps = 1.0, Tally(), 0
        for vote in log:
            chance *= rate if vote is Vote.CRASH else 1 - rate
        for vote in log:
            tally, steps = tally.add(vote), steps + 1
            if plan.decide(tally) is not Decision.CONTINUE:
                break
        said[plan.decide(tally)] += chance
        expected += chance * steps
    seen = plan.operating_characteristic(rate, budget)
    assert seen.p_safe == pytest.approx(said[Decision.SAFE], abs=1e-12)
    assert seen.p_crash == pytest.approx(said[Decision.CRASHES], abs=1e-12)
    assert seen.p_inconclusive == pytest.approx(said[Decision.CONTINUE], abs=1e-12)
    assert seen.expected_trials == pytest.approx(expected, abs=1e-10)


def test_simulated_campaigns_meet_the_curve() -> None:
    """4000 seeded campaigns lie within four standard errors of the exact chance."""
    plan, rng, rate, runs = plan_for(Design(0.3, 0.02, 0.9, 0.9)), random.Random(7), 0.08, 4000
    said = dict.fromkeys(Decision, 0)
    for _ in range(runs):
        tally = Tally()
        while plan.decide(tally) is Decision.CONTINUE:
            tally = tally.add(Vote.CRASH if rng.random() < rate else Vote.SURVIVAL)
        said[plan.decide(tally)] += 1
    exact = plan.operating_characteristic(rate).p_crash
    spread = (exact * (1 - exact) / runs) ** 0.5
    assert abs(said[Decision.CRASHES] / runs - exact) < 4 * spread


@given(
    st.floats(0.002, 0.9),
    st.floats(0.001, 0.45),
    st.sampled_from([0.9, 0.95, 0.99, 0.999]),
    st.sampled_from([0.9, 0.99, 0.9999]),
)
@settings(max_examples=15)
def test_any_design_keeps_both_errors(
    min_rate: float, share: float, safe: float, crash: float
) -> None:
    design = Design(min_rate, min_rate * share, safe, crash)
    plan, pair = plan_for(design), Pair(design.noise, design.min_rate)
    assert safe_risk(pair, plan.lines.safe) <= design.error_safe
    assert crash_risk(pair, plan.lines.crash) <= design.error_crash
