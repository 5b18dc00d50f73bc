"""What ``--repro-trial-time auto`` costs and promises, simulated.

    python benchmarks/trial_time.py                 4,000 campaigns a law, seconds
    python benchmarks/trial_time.py --campaigns 400

A campaign is a calibration on a known-bad kernel (10 crashes, trials of up to 10 s, 2 s a boot)
and a check at 95% of a kernel that crashes just as often, which must be called safe at most one
time in twenty. *Re-read* is the trap: length and rate from the same ten crashes. Machine time is
to a verdict on a fixed kernel, calibration included, relative to trials of 10 s throughout.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from pytest_flaky_repro.stats.calibration import Calibration
from pytest_flaky_repro.stats.duration import (
    PILOT_CRASHES,
    CrashTimes,
    Hazard,
    best_length,
    hazard,
)

BOOT, LONGEST, CRASHES, ERROR = 2.0, 10.0, 10, 0.05


@dataclass(frozen=True)
class Law:
    """When a trial crashes that is never stopped: P(by t), and a draw of it."""

    name: str
    share: Callable[[float], float]
    draw: Callable[[random.Random], float]


def exponential(name: str, mean: float, vulnerable: float = 1.0, warm_up: float = 0.0) -> Law:
    """A constant hazard after a warm-up, in a share of the boots; the others never crash."""

    def share(t: float) -> float:
        return -vulnerable * math.expm1(-max(0.0, t - warm_up) / mean)

    def draw(rng: random.Random) -> float:
        return warm_up + rng.expovariate(1 / mean) if rng.random() < vulnerable else math.inf

    return Law(name, share, draw)


LAWS = (
    exponential("constant hazard, 5% in 10 s", 195.0),
    exponential("constant hazard, 40% in 10 s", 19.6),
    exponential("early: 0.5 s, in 2% of the boots", 0.5, 0.02),
    exponential("early: 0.5 s, in 20% of the boots", 0.5, 0.2),
    exponential("4 s, in 5% of the boots", 4.0, 0.05),
    exponential("7 s of warm-up, then 6% in 3 s", 50.0, warm_up=7.0),
)


@dataclass(frozen=True)
class Run:
    """One campaign: chances of a false *safe* each way, and machine seconds to a true one."""

    length: float
    hazard: Hazard
    auto: float
    reread: float
    auto_s: float
    fixed_s: float


def observed(law: Law, crashes: int, rng: random.Random) -> CrashTimes:
    """A calibration with trials of the longest length; survivors are drawn all at once."""
    crashed: list[float] = []
    while len(crashed) < crashes:
        time = law.draw(rng)
        if time <= LONGEST:
            crashed.append(time)
    survivors = trials(law.share(LONGEST), crashes, rng) - crashes
    return CrashTimes(tuple(crashed), (LONGEST,) * survivors, BOOT, LONGEST)


def trials(rate: float, crashes: int, rng: random.Random) -> int:
    """Trials until so many have crashed."""
    waits = (math.log(1 - rng.random()) / math.log1p(-rate) for _ in range(crashes))
    return sum(max(1, math.ceil(wait)) for wait in waits)


def seconds(count: int, length: float) -> float:
    """Machine time of trials that survive."""
    return count * (BOOT + length)


def campaign(law: Law, rng: random.Random) -> Run:
    """The three ways, on the same first crashes."""
    whole = observed(law, CRASHES, rng)
    first = CrashTimes(whole.crashed[:PILOT_CRASHES], (), BOOT, LONGEST)
    chosen = best_length(first).seconds
    at_longest = len(whole.crashed) + len(whole.survived)
    fixed = Calibration(at_longest, CRASHES).clean_trials(ERROR)
    fixed_s = seconds(at_longest + fixed, LONGEST)
    if chosen == LONGEST:
        auto, auto_s = (1 - law.share(LONGEST)) ** fixed, fixed_s
    else:
        pilot = round(at_longest * PILOT_CRASHES / CRASHES)
        again = trials(law.share(chosen), CRASHES, rng)
        clean = Calibration(again, CRASHES).clean_trials(ERROR)
        auto = (1 - law.share(chosen)) ** clean
        auto_s = seconds(pilot, LONGEST) + seconds(again + clean, chosen)
    dipped = best_length(whole).seconds
    seen = sum(time <= dipped for time in whole.crashed)
    clean = Calibration(at_longest, seen).clean_trials(ERROR)
    reread = (1 - law.share(dipped)) ** clean
    return Run(chosen, hazard(whole), auto, reread, auto_s, fixed_s)


def row(law: Law, campaigns: int, rng: random.Random) -> str:
    """One law's line of the table."""
    runs = [campaign(law, rng) for _ in range(campaigns)]
    lengths = statistics.quantiles((run.length for run in runs), n=10, method="inclusive")
    means = [
        (statistics.fmean(values), 1.96 * statistics.stdev(values) / math.sqrt(campaigns))
        for values in ([run.auto for run in runs], [run.reread for run in runs])
    ]
    cost = math.fsum(run.auto_s for run in runs) / math.fsum(run.fixed_s for run in runs)
    shapes = [sum(run.hazard is shape for run in runs) / campaigns for shape in Hazard]
    errors = " | ".join(f"{mean:.4f} ± {half:.4f}" for mean, half in means)
    told = " / ".join(f"{share:.2f}" for share in shapes)
    spread = f"{lengths[0]:.1f} / {lengths[4]:.1f} / {lengths[8]:.1f}"
    return f"| {law.name} | {spread} | {errors} | {cost:.2f} | {told} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--campaigns", type=int, default=4000)
    options = parser.parse_args()
    rng = random.Random(20261122)
    shapes = " / ".join(shape.value for shape in Hazard)
    print(
        "| time to crash | chosen s (10/50/90%) | false safe, auto | false safe, re-read | "
        f"machine time | hazard said to be {shapes} |"
    )
    print("|---|---|---|---|---|---|")
    for law in LAWS:
        print(row(law, options.campaigns, rng))


if __name__ == "__main__":
    main()
