"""Published sequential plans come out of the same walk over the lattice."""

from __future__ import annotations

import math

import pytest

from pytest_flaky_repro.stats.lattice import Pair
from pytest_flaky_repro.stats.lines import NEVER, Line, Lines
from pytest_flaky_repro.stats.walk import walk


def sprt(pair: Pair, lower: float, upper: float, levels: int = 600) -> Lines:
    """Wald's test on ln(L1/L0), as explicit thresholds."""
    s, g = pair.survival, pair.slope
    safe = tuple(max(0, math.ceil(g * x - lower / s)) for x in range(levels))
    crash = tuple(max(0, math.floor(g * x - upper / s)) for x in range(1, levels + 1))
    return Lines(Line(0, safe, 0, NEVER << 20, 0), Line(1, crash, 0, 0, 0))


@pytest.mark.parametrize(
    ("lower", "upper", "alpha", "beta", "at", "trials"),
    [
        (-2.13007890800412, 1.84945091269363, 0.100177213286582, 0.099388777200239,
         0.076846178793028, 40.5332536508766),
        (-2.89671174337309, 2.58699169658096, 0.04992946627218, 0.049790670375191,
         0.082295897173327, 71.9301376364661),
        (-4.54459531426782, 4.21762916103079, 0.009992588050133, 0.009991015384718,
         0.086473166961665, 173.086799800748),
    ],
)  # fmt: skip
def test_bernoulli_sprt_of_the_kiefer_weiss_tables(
    lower: float, upper: float, alpha: float, beta: float, at: float, trials: float
) -> None:
    """A. Novikov, A. Novikov and F. Farkhshatov 2022, results for 0.05 against 0.15."""
    seen = walk(sprt(Pair(0.05, 0.15), lower, upper), [0.05, 0.15, at])
    assert seen.crash[0] == pytest.approx(alpha, rel=1e-9)
    assert seen.safe[1] == pytest.approx(beta, rel=1e-9)
    assert seen.trials[2] == pytest.approx(trials, rel=1e-9)


@pytest.mark.parametrize(
    ("rate", "low", "high", "trials"),
    [
        (0.02, 0.964, 0.001, 34.8),
        (0.04, 0.769, 0.019, 46.4),
        (0.06, 0.506, 0.108, 54.3),
        (0.08, 0.291, 0.290, 56.1),
        (0.10, 0.155, 0.516, 52.8),
        (0.12, 0.079, 0.714, 46.8),
        (0.14, 0.039, 0.851, 40.2),
        (0.16, 0.020, 0.930, 34.2),
    ],
)
def test_gsdesign_binomial_sprt(rate: float, low: float, high: float, trials: float) -> None:
    """gsDesign's snapshot of binomialSPRT(p0=.04, p1=.1, alpha=.04, beta=.2, maxn=75).

    Its minn=4 does not bind: no line can be crossed before the fourth trial.
    """
    lines = sprt(Pair(0.04, 0.1), math.log(0.2 / 0.96), math.log(0.8 / 0.04))
    seen = walk(lines, [rate], budget=75)
    assert seen.safe[0] == pytest.approx(low, abs=6e-4)
    assert seen.crash[0] == pytest.approx(high, abs=6e-4)
    assert seen.trials[0] == pytest.approx(trials, abs=0.06)


# MIL-HDBK-781A test plans I-D to VIII-D: accept at time t or later with 0, 1, ... failures;
# reject when a failure comes by time t (0: cannot reject); in units of the lower test MTBF.
# Discrimination ratio; alpha', beta' in percent; expected time at either MTBF.
PLANS = {
    "I": (
        [6.95, 8.17, 9.38, 10.60, 11.80, 13.03, 14.25, 15.46, 16.69, 17.90, 19.11, 20.33, 21.54,
         22.76, 23.98, 25.19, 26.41, 27.62, 28.84, 30.06, 31.27, 32.49, 33.70, 34.92, 36.13,
         37.35, 38.57, 39.78, 41.00, 42.22, 43.43, 44.65, 45.86, 47.08, 48.30, *[49.50] * 6],
        [*[0.0] * 5, 0.34, 1.56, 2.78, 3.99, 5.20, 6.42, 7.64, 8.86, 10.07, 11.29, 12.50, 13.72,
         14.94, 16.15, 17.37, 18.58, 19.80, 21.02, 22.23, 23.45, 24.66, 25.88, 27.07, 28.31,
         29.53, 30.74, 31.96, 33.18, 34.39, 35.61, 36.82, 38.04, 39.26, 40.47, 41.69, 49.50],
        1.5, 11.13, 11.97, 27.36, 24.73,
    ),
    "II": (
        [4.19, 5.40, 6.62, 7.83, 9.05, 10.26, 11.49, 12.71, 13.92, 15.14, 16.35, 17.57, 18.73,
         19.99, 21.21, *[21.90] * 4],
        [0.0, 0.0, 0.24, 1.46, 2.67, 3.90, 5.12, 6.33, 7.55, 8.76, 9.98, 11.19, 12.41, 13.62,
         14.84, 16.05, 17.28, 18.50, 21.90],
        1.5, 22.70, 23.20, 11.35, 9.60,
    ),
    "III": (
        [4.40, 5.79, 7.18, 8.56, 9.94, 11.34, 12.72, 14.10, 15.49, 16.88, 18.26, 19.65,
         *[20.60] * 4],
        [0.0, 0.0, 0.70, 2.08, 3.48, 4.86, 6.24, 7.63, 9.02, 10.40, 11.79, 13.18, 14.56, 15.94,
         17.34, 20.60],
        2.0, 12.83, 12.82, 10.235, 7.671,
    ),
    "IV": (
        [2.80, 4.18, 5.58, 6.96, 8.34, *[9.74] * 3],
        [0.0, 0.70, 2.08, 3.46, 4.86, 6.24, 7.62, 9.74],
        2.0, 22.31, 22.50, 4.82, 3.72,
    ),
    "V": (
        [3.75, 5.40, 7.05, 8.70, *[10.35] * 3],
        [0.0, 0.57, 2.22, 3.87, 5.52, 7.17, 10.35],
        3.0, 11.11, 10.94, 6.13, 3.98,
    ),
    "VI": ([2.67, 4.32, 4.50], [0.0, 0.36, 4.50], 3.0, 18.25, 19.26, 3.43, 2.58),
    "VII": (
        [3.15, 4.37, 5.58, *[6.80] * 3],
        [0.0, 0.0, 1.22, 2.43, 3.65, 6.80],
        1.5, 31.92, 32.16, 5.08, 4.34,
    ),
    "VIII": ([1.72, 3.10, 4.50], [0.0, 0.0, 4.50], 2.0, 29.28, 29.94, 2.53, 2.27),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_mil_hdbk_781a_sequential_plans(name: str) -> None:
    """Exposure time is the limit of many short trials: a millionth of the MTBF each."""
    accept, reject, ratio, alpha, beta, time_good, time_bad = PLANS[name]
    unit = 1e-6
    lines = Lines(
        Line(0, tuple(round(t / unit) for t in accept), 0, round(accept[-1] / unit) << 20, 0),
        Line(1, tuple(round(t / unit) for t in reject), 0, round(reject[-1] / unit) << 20, 0),
    )
    seen = walk(lines, [unit / ratio, unit])
    assert 100 * seen.crash[0] == pytest.approx(alpha, abs=0.011)
    assert 100 * seen.safe[1] == pytest.approx(beta, abs=0.011)
    assert seen.trials[0] * unit == pytest.approx(time_good, abs=0.0055)
    assert seen.trials[1] * unit == pytest.approx(time_bad, abs=0.0055)
    assert max(seen.undecided) < 1e-12
