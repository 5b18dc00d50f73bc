"""A plan judges tallies, foretells itself, and survives a trip to disk bit for bit."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro import stats
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.stats import NEVER, Decision, Design, Judgement, Plan, Tally, plan_for

NOISY = plan_for(Design(0.05, 0.001, 0.99, 0.99))
CLEAN = plan_for(Design(0.01, 0.0, 0.99, 0.99))
PLANS = st.sampled_from([NOISY, CLEAN, plan_for(Design(0.5, 0.01)), plan_for(Design(0.5, 0.1))])


def tallies() -> st.SearchStrategy[Tally]:
    return st.tuples(st.integers(0, 60), st.integers(0, 1200), st.integers(0, 50)).map(
        lambda t: Tally(t[0] + t[1], t[0] + t[1] + t[2], t[0])
    )


@pytest.mark.parametrize(("rate", "needed"), [(0.5, 7), (0.2, 21), (0.05, 90), (0.01, 459)])
def test_noise_zero_is_the_zero_failure_rule(rate: float, needed: int) -> None:
    plan = plan_for(Design(rate, 0.0, 0.99, 0.99))
    assert plan.safe_at(0) == needed
    assert plan.safe_at(1) == NEVER
    assert plan.crash_at(1) == NEVER
    assert plan.decide(Tally(needed - 1, needed - 1, 0)) is Decision.CONTINUE
    assert plan.decide(Tally(needed, needed, 0)) is Decision.SAFE
    assert plan.decide(Tally(needed + 5, needed + 5, 1)) is Decision.CRASHES


@pytest.mark.parametrize(("confidence", "needed"), [(0.95, 59), (0.99, 90)])
def test_success_run_theorem(confidence: float, needed: int) -> None:
    """R = 0.95 at C = 0.95 asks for 59 successes, the classical success-run figure."""
    assert plan_for(Design(0.05, 0.0, confidence)).safe_at(0) == needed


@pytest.mark.parametrize(
    ("rate", "trials"), [(0.5, 1.984), (0.2, 4.954), (0.05, 19.802), (0.01, 99.008)]
)
def test_noise_zero_expected_trials_under_crash(rate: float, trials: float) -> None:
    plan = plan_for(Design(rate, 0.0, 0.99, 0.99))
    assert plan.expected_trials(rate) == pytest.approx(trials, abs=5e-4)
    assert plan.expected_trials(0.0) == plan.safe_at(0) == plan.worst_case_trials()


def test_noise_zero_needs_no_numpy() -> None:
    script = (
        "import sys\n"
        "from pytest_flaky_repro.stats import *\n"
        "plan = plan_for(Design(0.01, 0.0, 0.99, 0.99))\n"
        "plan.decide(Tally(459, 459, 0)); plan.operating_characteristic(0.01, 100)\n"
        "rate_bounds(Tally(459, 459, 0), 0.99); Plan.from_json(plan.to_json())\n"
        "print(sorted({'numpy', 'scipy', 'ctypes', 'asyncio'} & set(sys.modules)))\n"
    )
    seen = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert seen.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("rate", "at_noise", "at_rate", "tolerance"),
    [
        (0.5, 6.98, 1.98, 0.01),
        (0.2, 21.14, 5.59, 0.01),
        (0.05, 98.06, 35.55, 0.01),
        (0.01, 670.1, 332.4, 0.0005),
    ],
)
def test_no_slower_than_straight_lines(
    rate: float, at_noise: float, at_rate: float, tolerance: float
) -> None:
    """Noise 0.001, both errors 1%: the straight exact lines take these expected trials."""
    plan = plan_for(Design(rate, 0.001, 0.99, 0.99))
    assert plan.expected_trials(0.001) <= at_noise * (1 + tolerance)
    assert plan.expected_trials(rate) <= at_rate * (1 + tolerance)


def test_other_rates_of_the_reference_plan() -> None:
    """A small p1 costs little when the kernel really crashes; the grey zone costs most."""
    plan = plan_for(Design(0.01, 0.001, 0.99, 0.99))
    rates = [0.0, 0.05, 0.2, 0.5]
    seen = [point.expected_trials for point in plan.operating_curve(rates)]
    assert [round(trials) for trials in seen] == [509, 42, 10, 4]
    assert plan.worst_case().rate == pytest.approx(0.0035, abs=2e-4)
    assert plan.worst_case_trials() == pytest.approx(1056, abs=2)


def test_inconclusive_chance_for_twice_the_fixed_sample() -> None:
    plan = plan_for(Design(0.01, 0.001, 0.99, 0.99))
    budget = 2 * 1157  # the smallest fixed (n, c) plan for these errors, twice
    assert plan.inconclusive_chance(budget, 0.001) == pytest.approx(5.5e-4, abs=5e-6)
    assert plan.inconclusive_chance(budget, 0.01) <= 2.8e-4
    assert plan.worst_inconclusive_chance(budget).p_inconclusive == pytest.approx(0.07, abs=5e-3)


@given(PLANS, st.floats(0, 1), st.integers(0, 3000))
@settings(max_examples=60)
def test_chances_sum_to_one(plan: Plan, rate: float, budget: int) -> None:
    point = plan.operating_characteristic(rate, budget)
    total = point.p_safe + point.p_crash + point.p_inconclusive
    assert total == pytest.approx(1.0, abs=1e-10)
    assert 0 <= point.expected_trials <= budget + 1e-9


@given(PLANS, st.floats(0, 0.99), st.floats(0.0001, 0.01))
@settings(max_examples=60)
def test_a_worse_kernel_is_called_crashing_more_often(plan: Plan, rate: float, step: float) -> None:
    low, high = plan.operating_curve([rate, min(1.0, rate + step)])
    assert high.p_crash >= low.p_crash - 1e-10
    assert high.p_safe <= low.p_safe + 1e-10


@given(PLANS, st.floats(0.0, 1.0))
@settings(max_examples=60)
def test_errors_are_kept_at_every_rate(plan: Plan, share: float) -> None:
    """Beyond p1 safe is rarer than b, below p0 crashes is rarer than a: not at the ends only."""
    design = plan.design
    beyond = design.min_rate + share * (1 - design.min_rate)
    below = share * design.noise
    assert plan.operating_characteristic(beyond).p_safe <= design.error_safe + 1e-12
    assert plan.operating_characteristic(below).p_crash <= design.error_crash + 1e-12


@given(PLANS)
def test_lines_rise_with_every_crash(plan: Plan) -> None:
    safe = [plan.safe_at(x) for x in range(60)]
    crash = [plan.crash_at(x) for x in range(60)]
    assert safe == sorted(safe)
    assert crash == sorted(crash)
    assert crash[0] == 0


@given(PLANS, tallies(), st.sampled_from([Vote.SURVIVAL, Vote.LOST, Vote.VOID]))
def test_without_a_crash_nothing_turns_towards_crashes(
    plan: Plan, tally: Tally, vote: Vote
) -> None:
    before, after = plan.decide(tally), plan.decide(tally.add(vote))
    rank = [Decision.CRASHES, Decision.CONTINUE, Decision.SAFE].index
    assert rank(after) >= rank(before)


@given(PLANS, tallies())
def test_a_crash_in_place_of_a_survival_never_turns_towards_safe(plan: Plan, tally: Tally) -> None:
    rank = [Decision.SAFE, Decision.CONTINUE, Decision.CRASHES].index
    better = plan.decide(tally.add(Vote.SURVIVAL))
    assert rank(plan.decide(tally.add(Vote.CRASH))) >= rank(better)


@given(PLANS, tallies())
def test_lost_trials_never_help_either_verdict(plan: Plan, tally: Tally) -> None:
    """A lost trial is no survival for the safe line and no absence for the crash line."""
    before, after = plan.decide(tally), plan.decide(tally.add(Vote.LOST))
    assert after is before or after is Decision.CONTINUE or before is Decision.CRASHES
    assert not (after is Decision.SAFE and before is Decision.CONTINUE)


@given(PLANS)
def test_plan_survives_the_disk_bit_for_bit(plan: Plan) -> None:
    again = Plan.from_json(plan.to_json())
    assert again == plan
    assert again.digest() == plan.digest()
    assert plan_for(plan.design).digest() == plan.digest()


def test_the_digest_tells_designs_apart() -> None:
    designs = [Design(0.05), Design(0.05, 0.001), Design(0.05, 0, 0.99), Design(0.05, 0, 0.95, 0.9)]
    assert len({plan_for(design).digest() for design in designs}) == len(designs)


def test_an_edited_plan_is_refused() -> None:
    record = json.loads(NOISY.to_json())
    record["safe"]["intercept"] -= 1
    with pytest.raises(UsageError, match="does not match its hash"):
        Plan.from_json(json.dumps(record))


def test_a_plan_of_another_algorithm_is_refused() -> None:
    record = json.loads(NOISY.to_json())
    record["algorithm"] = 0
    with pytest.raises(UsageError, match="algorithm 0"):
        Plan.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"algorithm": 1', '{"algorithm": 1}', "7"])
def test_a_torn_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a plan"):
        Plan.from_json(text)


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("min_rate", {"min_rate": 0.0}),
        ("min_rate", {"min_rate": 1.0}),
        ("min_rate", {"min_rate": float("nan")}),
        ("min_rate", {"min_rate": True}),
        ("noise", {"min_rate": 0.1, "noise": -0.1}),
        ("noise", {"min_rate": 0.1, "noise": 1e-12}),
        ("min_rate", {"min_rate": 0.9999, "noise": 0.1}),
        ("noise", {"min_rate": 0.1, "noise": 0.1}),
        ("noise", {"min_rate": 0.1, "noise": 0.095}),
        ("confidence_safe", {"min_rate": 0.1, "confidence_safe": 1.0}),
        ("confidence_safe", {"min_rate": 0.1, "confidence_safe": 0.3}),
        ("confidence_crash", {"min_rate": 0.1, "confidence_crash": 99}),
    ],
)
def test_a_bad_design_names_its_field(field: str, arguments: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"^{field}"):
        Design(**arguments)


def test_a_decision_is_no_bool() -> None:
    with pytest.raises(TypeError):
        bool(Decision.SAFE)


def test_every_public_name_is_there() -> None:
    for name in stats.__all__:
        assert getattr(stats, name) is not None
    assert set(stats.__all__) <= set(dir(stats))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = stats.nonsense


def test_a_log_has_one_judgement_however_it_was_cut() -> None:
    log = [Vote.SURVIVAL] * 50 + [Vote.CRASH, Vote.LOST, Vote.VOID] + [Vote.SURVIVAL] * 300
    seen = NOISY.judge(log)
    assert seen.decision is Decision.SAFE
    assert seen.tally == Tally(178, 179, 1)
    assert seen.votes == 180
    assert NOISY.judge(log[: seen.votes]) == seen
    assert NOISY.judge(log[: seen.votes - 1]).decision is Decision.CONTINUE
    assert NOISY.judge([]) == Judgement(Decision.CONTINUE, Tally(), 0)


def test_a_crash_after_lost_trials_comes_late() -> None:
    """The first crash decides up to trial 7 of those started, lost ones among them."""
    assert NOISY.crash_at(1) == 7
    assert NOISY.decide(Tally(5, 7, 1)) is Decision.CRASHES
    assert NOISY.decide(Tally(5, 8, 1)) is Decision.CONTINUE


@pytest.mark.parametrize("rate", [1e-300, 1e-15, 1e-12, 1e-9])
def test_a_vanishing_rate_takes_the_trials_of_no_rate(rate: float) -> None:
    assert NOISY.expected_trials(rate) == pytest.approx(NOISY.safe_at(0), rel=1e-6)
