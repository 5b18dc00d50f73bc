"""Expected trials beside the best that any test can do.

The optima are lower bounds over all tests, randomised ones too, from the dual dynamic programme
in benchmarks/calibration.py (section optimum). Where the lattice keeps every test without a
coin away from them, the allowance says so.
"""

from __future__ import annotations

import math

import pytest

from pytest_flaky_repro.stats import Design, plan_for

GOAL = 1.02
# a = b, p0, p1, optimum at p0 and at p1, allowance for either ratio
POINTS = [
    (0.01, 1e-4, 0.2, 20.44, 4.910, 1.027, GOAL),  # 21 clean trials are needed, 20.4 is a mixture
    (0.01, 1e-4, 0.05, 89.27, 19.778, GOAL, GOAL),
    (0.01, 1e-4, 0.01, 474.91, 139.912, GOAL, GOAL),
    (0.01, 1e-3, 0.2, 20.82, 5.464, GOAL, 1.022),  # nine places of a first crash, not 9.9
    (0.01, 1e-3, 0.05, 97.30, 34.829, GOAL, GOAL),
    (0.01, 1e-3, 0.01, 668.52, 331.635, GOAL, GOAL),
    (0.001, 1e-4, 0.2, 31.02, 5.534, GOAL, 1.024),  # again nine places, not 9.9
    (0.001, 1e-4, 0.05, 136.33, 32.557, GOAL, GOAL),
    (0.001, 1e-4, 0.01, 726.49, 206.677, GOAL, GOAL),
    (0.001, 1e-3, 0.2, 31.83, 9.408, GOAL, 1.063),  # no place of a first crash, not 0.97
    (0.001, 1e-3, 0.05, 148.79, 48.959, GOAL, GOAL),
    (0.001, 1e-3, 0.01, 1022.99, 501.142, GOAL, GOAL),
]


@pytest.mark.parametrize(("error", "p0", "p1", "best0", "best1", "allow0", "allow1"), POINTS)
def test_expected_trials_beside_the_optimum(
    error: float, p0: float, p1: float, best0: float, best1: float, allow0: float, allow1: float
) -> None:
    plan = plan_for(Design(p1, p0, 1 - error, 1 - error))
    assert plan.expected_trials(p0) <= allow0 * best0
    assert plan.expected_trials(p1) <= allow1 * best1


@pytest.mark.parametrize("error", [0.01, 0.001])
@pytest.mark.parametrize("p1", [0.2, 0.05, 0.01])
def test_without_noise_only_rounding_is_lost(p1: float, error: float) -> None:
    plan = plan_for(Design(p1, 0.0, 1 - error))
    bound = math.log(error) / math.log1p(-p1)
    assert bound <= plan.safe_at(0) < bound + 1


@pytest.mark.parametrize(
    ("p1", "machines", "at_noise", "at_rate"),
    [
        (0.05, 2, 98.1, 36.0),
        (0.05, 8, 102.2, 39.4),
        (0.05, 32, 103.6, 54.2),
        (0.01, 8, 673.1, 335.2),
    ],
)
def test_trials_run_in_batches(p1: float, machines: int, at_noise: float, at_rate: float) -> None:
    """Trials started by k machines in step: k times the batches begun, E[k * ceil(N / k)].

    The figures are those of straight exact lines replayed in launch order, noise 0.001, 1%.
    """
    plan = plan_for(Design(p1, 0.001, 0.99, 0.99))
    for rate, known in ((0.001, at_noise), (p1, at_rate)):
        started, budget, open_still = 0.0, 0, 1.0
        while open_still > 1e-9:
            started += machines * open_still
            budget += machines
            open_still = plan.inconclusive_chance(budget, rate)
        assert started == pytest.approx(known, rel=0.02)
        assert started <= known * 1.005
