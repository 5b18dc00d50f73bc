"""Measure what the statistics claim: error rates by simulation, trials against the optimum.

    python benchmarks/calibration.py                    every section, 100,000 campaigns a cell
    python benchmarks/calibration.py --quick            the same in about two minutes
    python benchmarks/calibration.py optimum methods    some sections only
    python benchmarks/calibration.py loop --campaigns 10000     the real loop, on the fake machine
    python benchmarks/calibration.py qemu --campaigns 100       the real loop, on real guests
    python benchmarks/calibration.py foretold --campaigns 100   what that has to say, by its seeds

Sections: optimum, methods, campaigns, calibrated, hosts, family; and, only when they are named,
loop and qemu, which run whole campaigns as shipped, and foretold. Every row is Markdown.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import betainc
from scipy.stats import beta as beta_law
from scipy.stats import binom, nbinom

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Conditions, assemble
from pytest_flaky_repro.campaign.loop import Budget, Campaign
from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.campaign.trials import trial_seed
from pytest_flaky_repro.campaign.verdict import Subject
from pytest_flaky_repro.evidence import EvidenceWriter, History, PlanRecord
from pytest_flaky_repro.guest import reproducer
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.trial import Machine, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats import (
    NEVER,
    Calibration,
    Design,
    FamilyRule,
    Plan,
    member_design,
    plan_for,
)
from pytest_flaky_repro.stats.bounds import log_e_above, log_e_below
from pytest_flaky_repro.stats.lattice import Pair

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

SURVIVAL, CRASH, LOST, VOID, PENDING = range(5)


# --- the optimum of all tests -------------------------------------------------------------


def bayes_cost(
    pair: Pair,
    under: int,
    price0: Floats,
    price1: Floats,
    horizon: int,
    forced: frozenset[int] | None = None,
) -> Floats:
    """Least E_i[trials] + price0 P0(crashes) + price1 P1(safe) over all tests, randomised too.

    Backward induction over the lattice, in a window of crash counts that follows the line on
    which the likelihood ratio stands still; one column per pair of prices. With ``forced`` only
    over tests that say *crashes* on a first crash at those trials, and on no other single crash.
    """
    rate = (pair.p0, pair.p1)[under]
    s, g = pair.survival, pair.slope
    reach = math.ceil((math.log(float(max(price0.max(), price1.max()))) + 8) / (s * g)) + 2
    offsets = np.arange(-reach, reach + 2)[:, None]

    def prices(n: int, base: int) -> tuple[Floats, Floats]:
        log_ratio = np.clip(s * (g * (base + offsets) - n), -500, 500)
        if under == 0:
            return np.broadcast_to(price0, (len(offsets), len(price0))), price1 * np.exp(log_ratio)
        return price0 * np.exp(-log_ratio), np.broadcast_to(price1, (len(offsets), len(price1)))

    def stop(n: int, base: int) -> Floats:
        crash, safe = prices(n, base)
        if forced is not None:
            crash = np.where(base + offsets <= 1, np.inf, crash)
        return np.minimum(crash, safe)

    base = math.floor(horizon / g)
    value = stop(horizon, base)
    for n in range(horizon - 1, -1, -1):
        here = math.floor(n / g)
        if here != base:
            value = np.vstack([stop(n + 1, here)[:1], value[:-1]])
            base = here
        after = np.vstack([value[1:], stop(n + 1, here)[-1:]])
        if forced and n + 1 in forced:
            after = np.where(here + offsets == 0, np.roll(prices(n + 1, here)[0], -1, 0), after)
        value = np.minimum(stop(n, here), 1 + (1 - rate) * value + rate * after)
    return np.asarray(value[reach])


def optimum(
    design: Design, under: int, horizon: int, forced: frozenset[int] | None = None
) -> float:
    """Best lower bound found on E_i[trials] of any test with these errors (Lagrange dual).

    Every price gives a true lower bound; the search over prices only makes it sharper.
    """
    pair = Pair(design.noise, design.min_rate)
    errors = design.error_crash, design.error_safe
    centre = [math.log(0.02 * horizon / error) for error in errors]
    best, span = 0.0, 4.0
    while span > 0.02:
        steps = np.linspace(-span, span, 7)
        log0, log1 = (grid.ravel() for grid in np.meshgrid(centre[0] + steps, centre[1] + steps))
        price0, price1 = np.exp(log0), np.exp(log1)
        bound = bayes_cost(pair, under, price0, price1, horizon, forced)
        bound = bound - price0 * errors[0] - price1 * errors[1]
        top = int(np.argmax(bound))
        best = max(best, float(bound[top]))
        inside = abs(log0[top] - centre[0]) < span and abs(log1[top] - centre[1]) < span
        centre = [float(log0[top]), float(log1[top])]
        span = span / 2.5 if inside or max(centre) > 60 else span
    return best


def floors(design: Design, ours: list[float], best: list[float], horizon: int) -> list[float]:
    """Lower bounds on E0 and E1 of any test that tosses no coins, over the optimum of all tests.

    Without a coin nobody can stop on an unbroken run of survivals before the zero-failure
    count, and a first crash can say *crashes* at a whole number of places only, as many as the
    error pays for; the second bound is looked for where that is one place or none.
    """
    p0, p1, a = design.noise, design.min_rate, design.error_crash
    clean = plan_for(Design(p1, 0.0, design.confidence_safe)).safe_at(0)
    low = [-math.expm1(clean * math.log1p(-p)) / p for p in (p0, p1)]
    paid = int(a * (1 + 1e-9) / (p0 * (1 - p0) ** (20 / p1)))
    if paid <= 1 and ours[1] > 1.015 * max(best[1], low[1]):
        places = [frozenset[int](), *(frozenset([place]) for place in range(1, 12 * paid))]
        low[1] = max(low[1], min(optimum(design, 1, horizon, forced) for forced in places))
    return [max(1.0, low[0] / best[0]), max(1.0, low[1] / best[1])]


def section_optimum(args: argparse.Namespace) -> None:
    """Expected trials beside the optimum of all tests, on the 33-point grid."""
    print("\n| a = b | p0 | p1 | optimum E0/E1 | ours E0/E1 | ratio E0 | ratio E1 | no coins |")
    print("|---|---|---|---|---|---|---|---|")
    for error in (0.05, 0.01, 0.001):
        for p0 in (1e-4, 1e-3, 1e-2):
            for p1 in (0.5, 0.2, 0.05, 0.01):
                if p0 >= p1 or (args.quick and p1 < 0.2):
                    continue
                design = Design(p1, p0, 1 - error, 1 - error)
                curve = plan_for(design).operating_curve([p0, p1])
                ours = [point.expected_trials for point in curve]
                horizon = int(15 * max(ours)) + 20
                best = [optimum(design, under, horizon) for under in (0, 1)]
                floor = floors(design, ours, best, horizon)
                print(
                    f"| {error} | {p0} | {p1} | {best[0]:.2f}/{best[1]:.3f} "
                    f"| {ours[0]:.2f}/{ours[1]:.3f} | {ours[0] / best[0]:.3f} "
                    f"| {ours[1] / best[1]:.3f} | {floor[0]:.3f}/{floor[1]:.3f} |"
                )


# --- other methods ------------------------------------------------------------------------


Region = Callable[[int, "Ints"], "Bools"]
Regions = tuple[Region, Region]


def measure(regions: Regions, rate: float, limit: int) -> tuple[float, float, float]:
    """P(safe), P(crashes), expected trials of any rule on (n, x), one trial a step, exactly."""
    safe_here, crash_here = regions
    mass, safe, crash, trials = np.ones(1), 0.0, 0.0, 0.0
    for n in range(1, limit + 1):
        trials += float(mass.sum())
        mass = np.append(mass * (1 - rate), 0.0) + np.append(0.0, mass * rate)
        count = np.arange(len(mass))
        says_safe, says_crash = safe_here(n, count), crash_here(n, count)
        safe += float(mass[says_safe].sum())
        crash += float(mass[says_crash & ~says_safe].sum())
        mass = np.where(says_safe | says_crash, 0.0, mass)
        last = int(np.flatnonzero(mass > 1e-16)[-1]) if (mass > 1e-16).any() else -1
        mass = mass[: last + 1]
        if last < 0:
            break
    return safe, crash, trials


def other_methods(p0: float, p1: float, error: float) -> dict[str, Regions]:
    """Rules in use elsewhere, as regions of the lattice."""
    pair = Pair(p0, p1)
    s, g = pair.survival, pair.slope
    wald = math.log((1 - error) / error)
    zero = plan_for(Design(p1, 0.0, 1 - error)).safe_at(0)
    size = next(n for n in range(1, 10**6) if binom.cdf(binom.isf(error, n, p0), n, p1) <= error)
    most = int(binom.isf(error, size, p0))

    limit = -math.log(error)

    def at_least(log_e: Callable[[float, int, int], float], p: float) -> Region:
        return lambda n, x: np.array([k < n and log_e(p, int(k), n) >= limit for k in x])

    return {
        "zero-failure": (lambda n, x: (x == 0) & (n >= zero), lambda _, x: x > 0),
        f"fixed n={size} c={most}": (lambda n, x: size - n <= most - x, lambda _, x: x > most),
        "Wald SPRT": (
            lambda n, x: s * (g * x - n) <= -wald,
            lambda n, x: s * (g * x - n) >= wald,
        ),
        "Jeffreys e-process": (at_least(log_e_below, p1), at_least(log_e_above, p0)),
        "Clopper-Pearson peeking": (
            lambda n, x: (x < n) & (betainc(x + 1, np.maximum(n - x, 0.5), p1) >= 1 - error),
            lambda n, x: (x > 0) & (betainc(np.maximum(x, 0.5), n - x + 1, p0) <= error),
        ),
        "flat posterior": (
            lambda n, x: betainc(x + 1, n - x + 1, p1) >= 1 - error,
            lambda n, x: (x > 0) & (betainc(x + 1, n - x + 1, p0) <= error),
        ),
    }


def section_methods(args: argparse.Namespace) -> None:
    """Expected trials and real errors of ours and of other rules at p0 = 0.001, 1%."""
    p0, error = 0.001, 0.01
    print("\n| p1 | method | E0 | E1 | false crash | false safe |\n|---|---|---|---|---|---|")
    for p1 in (0.5, 0.2, 0.05) if args.quick else (0.5, 0.2, 0.05, 0.01):
        design = Design(p1, p0, 1 - error, 1 - error)
        plan = plan_for(design)
        at0, at1 = plan.operating_curve([p0, p1])
        print(
            f"| {p1} | **ours** | {at0.expected_trials:.2f} | {at1.expected_trials:.2f} "
            f"| {at0.p_crash:.5f} | {at1.p_safe:.5f} |"
        )
        limit = int(12 * at0.expected_trials) + 200
        for name, regions in other_methods(p0, p1, error).items():
            low, high = measure(regions, p0, limit), measure(regions, p1, limit)
            trials = f"{low[2]:.2f} | {high[2]:.2f}"
            print(f"| {p1} | {name} | {trials} | {low[1]:.5f} | {high[0]:.5f} |")


# --- simulated campaigns ------------------------------------------------------------------


@dataclass(frozen=True)
class Room:
    """A machine room: how many machines, and what goes wrong in it."""

    name: str
    slots: int
    void: float = 0.0
    lost: float = 0.0
    interruption: float = 0.0
    peek: float = 1.0


def simulate(
    rng: np.random.Generator, rate: float, room: Room, campaigns: int, tickets: int
) -> tuple[npt.NDArray[np.int8], Ints]:
    """Run campaigns side by side on an event clock; crashes end within a twentieth of a trial.

    Returns each ticket's vote, and its rank among the campaign's endings.
    """
    drawn = np.where(rng.random((campaigns, tickets)) < rate, CRASH, SURVIVAL).astype(np.int8)
    length = np.where(drawn == CRASH, 0.05 * rng.random(drawn.shape), 1.0)
    mishap = rng.random(drawn.shape)
    gone = mishap < room.lost
    length = np.where(gone, length * rng.random(drawn.shape), length)
    drawn[gone] = LOST
    dead = mishap > 1 - room.void
    length[dead], drawn[dead] = 0.01, VOID
    votes = np.full(drawn.shape, PENDING, dtype=np.int8)
    ranks = np.full(drawn.shape, tickets, dtype=np.int64)
    row = np.arange(campaigns)
    running = np.tile(np.arange(room.slots), (campaigns, 1))
    ends = np.take_along_axis(length, running, axis=1)
    ahead = np.full(campaigns, room.slots)
    for rank in range(tickets - room.slots):
        slot = np.argmin(ends, axis=1)
        clock, ticket = ends[row, slot], running[row, slot]
        votes[row, ticket], ranks[row, ticket] = drawn[row, ticket], rank
        running[row, slot] = np.minimum(ahead, tickets - 1)
        ends[row, slot] = np.where(ahead < tickets, clock + length[row, running[row, slot]], np.inf)
        ahead += 1
        if room.interruption:
            hit = np.flatnonzero(rng.random(campaigns) < room.interruption)
            hit = hit[ahead[hit] + room.slots <= tickets]
            for victim in hit:
                lost = running[victim]
                votes[victim, lost], ranks[victim, lost] = LOST, rank
                running[victim] = ahead[victim] + np.arange(room.slots)
                ends[victim] = clock[victim] + length[victim, running[victim]]
                ahead[victim] += room.slots
        if not np.isfinite(ends).any():
            break
    return votes, ranks


def verdicts(plan: Plan, votes: npt.NDArray[np.int8], looked: Bools | None = None) -> Ints:
    """Judge each row at its first crossing (of those looked at): 1 crashes, 2 safe, 0 neither."""
    hole = np.logical_or.accumulate(votes == PENDING, axis=1)
    crash = (votes == CRASH) & ~hole
    low = np.cumsum(crash | ((votes == SURVIVAL) & ~hole), axis=1)
    high = low + np.cumsum((votes == LOST) & ~hole, axis=1)
    count = np.cumsum(crash, axis=1)
    top = int(count.max()) + 1
    never = np.iinfo(np.int64).max
    safe_at = np.array([min(plan.safe_at(x), never) for x in range(top)])
    crash_at = np.array([min(plan.crash_at(x), never) for x in range(top)])
    says_crash = (count > 0) & (high <= crash_at[count])
    says_safe = low >= safe_at[count]
    decided = (says_crash | says_safe) & ~hole
    if looked is not None:
        decided &= looked
    first = np.argmax(decided, axis=1)
    row = np.arange(len(votes))
    answer = np.where(says_crash[row, first], 1, 2)
    return np.where(decided.any(axis=1), answer, 0)


def row_text(name: str, wrong: int, runs: int, nominal: float) -> str:
    """One measured rate with its exact 95% interval and z against the nominal rate."""
    low = float(beta_law.ppf(0.025, wrong, runs - wrong + 1)) if wrong else 0.0
    high = float(beta_law.ppf(0.975, wrong + 1, runs - wrong))
    z = (wrong / runs - nominal) / math.sqrt(nominal * (1 - nominal) / runs)
    return f"| {name} | {wrong / runs:.5f} | {low:.5f}-{high:.5f} | {nominal} | {z:+.1f} |"


ROOMS = [
    *(Room("quiet", k) for k in (1, 8, 32, 128)),
    *(Room("void 10%", k, void=0.1) for k in (8, 128)),
    *(Room("lost 5%", k, lost=0.05) for k in (8, 128)),
    *(Room("interrupts 2%", k, interruption=0.02) for k in (8, 32, 128)),
    *(Room("all of it, seen at random 1 in 5", k, 0.1, 0.05, 0.01, 0.2) for k in (8, 32, 128)),
]


def section_campaigns(args: argparse.Namespace) -> None:
    """Wrong verdicts per campaign: ours in launch order, and two naive rules on the same runs."""
    head = (
        "| p0 / p1, room, machines, error | measured | 95% | nominal | z |\n|---|---|---|---|---|"
    )
    naive: list[str] = []
    worst = -math.inf
    print("\n" + head)
    for p0, p1, tickets in ((0.01, 0.2, 260), (0.02, 0.3, 260), (0.0, 0.2, 200)):
        plan = plan_for(Design(p1, p0, 0.99, 0.99))
        for room in ROOMS:
            for rate, false, label in ((p0, 1, "false crash"), (p1, 2, "false safe")):
                if rate == 0:
                    continue  # nothing can crash, so nothing can be blamed
                rng = np.random.default_rng([20, room.slots, round(1e4 * rate), false])
                wrong = finished = dropped = 0
                span = tickets + (12 * room.slots if room.interruption else 2 * room.slots)
                chunk = min(args.campaigns, 2000)
                for _ in range(args.campaigns // chunk):
                    votes, ranks = simulate(rng, rate, room, chunk, span)
                    looked = rng.random(votes.shape) < room.peek
                    wrong += int((verdicts(plan, votes, looked) == false).sum())
                    by_end = np.take_along_axis(votes, np.argsort(ranks, axis=1), axis=1)
                    finished += int((verdicts(plan, by_end, looked) == false).sum())
                    kept = np.where(votes == LOST, VOID, votes)
                    dropped += int((verdicts(plan, kept, looked) == false).sum())
                runs = args.campaigns // chunk * chunk
                name = f"{p0} / {p1}, {room.name}, {room.slots}, {label}"
                line = row_text(name, wrong, runs, 0.01)
                worst = max(worst, float(line.split("|")[-2]))
                print(line, flush=True)
                naive += [
                    row_text(f"{name}, {rule}", count, runs, 0.01)
                    for rule, count in (("completion order", finished), ("lost dropped", dropped))
                    if count > 2 * 0.01 * runs
                ]
    print(f"\nLargest z of ours: {worst:+.1f}. Naive rules at more than twice the nominal rate:\n")
    print(head + "\n" + "\n".join(naive))


# --- calibration, hosts, families ---------------------------------------------------------


def section_calibrated(args: argparse.Namespace) -> None:
    """False safe after calibration to r crashes, exact by summation, and its price."""
    print("\n| r | p | false safe | plug-in rate | check / known rate | (M + n) p |")
    print("|---|---|---|---|---|---|")
    for crashes in (5, 10, 20):
        for rate in (0.05, 0.2, 0.9) if args.quick else (0.005, 0.02, 0.05, 0.2, 0.5, 0.9):
            span = range(crashes, int(nbinom.isf(1e-9, crashes, rate)) + crashes + 1)
            trials = np.array(span)
            chance = nbinom.pmf(trials - crashes, crashes, rate)
            clean = np.array([Calibration(m, crashes).clean_trials(0.01) for m in span])
            plug = np.log(0.01) / np.log1p(-np.minimum(crashes / trials, 1 - 1e-12))
            wrong = float(chance @ (1 - rate) ** clean)
            naive = float(chance @ (1 - rate) ** np.ceil(plug))
            price = float(chance @ clean) / math.ceil(math.log(0.01) / math.log1p(-rate))
            print(
                f"| {crashes} | {rate} | {wrong:.5f} | {naive:.4f} | {price:.2f} "
                f"| {float(chance @ (trials + clean)) * rate:.2f} |"
            )


def section_hosts(args: argparse.Namespace) -> None:
    """Hosts that differ: p1 = 5% on average over hosts, 90 clean trials, noise 0."""
    rng, runs, needed = np.random.default_rng(21), args.campaigns, 90
    rates = np.array([0.1, 0.0])
    mixed = rates[np.arange(needed) % 2]
    one = rates[rng.integers(0, 2, runs)][:, None]
    calibration = Calibration(200, 10)
    controls = needed // 9
    limit = calibration.clean_trials(0.005)
    clean_mixed = (rng.random((runs, needed)) >= mixed).all(axis=1)
    clean_one = (rng.random((runs, needed)) >= one).all(axis=1)
    until = np.where(one[:, 0] > 0, rng.geometric(np.maximum(one[:, 0], 1e-9)), NEVER)
    confirmed = until < limit
    print("\n| case | measured | 95% | nominal | z |\n|---|---|---|---|---|")
    print(row_text("two hosts .1/.0, interleaved", int(clean_mixed.sum()), runs, 0.01))
    print(row_text("one host of .1/.0 at random", int(clean_one.sum()), runs, 0.01))
    print(row_text("the same, with controls", int((clean_one & confirmed).sum()), runs, 0.01))
    wait = rng.geometric(0.05, runs)
    print(
        f"\nControls until one crashes, on a host where they can (5%): {wait.mean():.1f} on average"
        f" ({controls} are due); refused by mistake: {(wait >= limit).mean():.5f}"
    )


def section_family(args: argparse.Namespace) -> None:
    """Twenty kernels, half bad at p1 = 5%, noise 0: wrong calls and trials per kernel."""
    rng, runs, members, rate = np.random.default_rng(22), max(200, args.campaigns // 20), 20, 0.05
    bad = np.arange(members) % 2 == 0
    print("\n| rule | trials per kernel | P(any false safe) | false share |\n|---|---|---|---|")
    first = np.where(bad, rng.geometric(rate, (runs, members)), NEVER)
    for rule in FamilyRule:
        design = member_design(Design(rate, 0.0, 0.99), members, rule)
        if rule is FamilyRule.EBH:
            needed = ebh_trials(first, rate, 0.01)
        else:
            needed = np.full((runs, members), plan_for(design).safe_at(0))
        safe = first > needed
        wrong = safe & bad
        share = wrong.sum(axis=1) / np.maximum(safe.sum(axis=1), 1)
        spent = np.minimum(first, needed).mean()
        any_wrong = wrong.any(axis=1).mean()
        print(f"| {rule.value} | {spent:.1f} | {any_wrong:.4f} | {share.mean():.4f} |")


def ebh_trials(first: Ints, rate: float, error: float) -> Ints:
    """Trials at which e-BH calls the kernels still clean, when all run in rounds."""
    members = first.shape[1]
    ranks = np.arange(members, 0, -1)
    needed = np.ceil(np.log(members / (ranks * error)) / -math.log1p(-rate)).astype(np.int64)
    out = np.full(first.shape, needed[-1])
    for row, crashes in enumerate(first):
        for rank, trials in zip(ranks, needed, strict=True):
            if (crashes > trials).sum() >= rank:
                out[row] = trials
                break
    return out


# --- whole campaigns, as shipped ------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One way to be wrong: campaigns of ``design`` at ``rate`` that say ``wrong``."""

    name: str
    design: Design
    rate: float
    wrong: Conclusion
    nominal: float

    @property
    def per_mille(self) -> int:
        return round(1000 * self.rate)

    def seed(self, args: argparse.Namespace, number: int) -> str:
        """Of its campaign of this number."""
        return f"{args.seed} {self.name} {number}"


CLEAN = Design(0.5, 0.0, 0.9, 0.9)
NOISY = Design(0.5, 0.1, 0.9, 0.9)
CELLS = (
    Cell("noise 0, false safe at 50%", CLEAN, 0.5, Conclusion.SAFE, 0.1),
    Cell("noise 10%, false safe at 50%", NOISY, 0.5, Conclusion.SAFE, 0.1),
    Cell("noise 10%, false crash at 10%", NOISY, 0.1, Conclusion.CRASHES, 0.1),
)
COIN = """
    #include <stdlib.h>
    int main(void) {
        if (strtoul(getenv("REPRO_SEED"), 0, 16) % 1000 < PER_MILLE) *(volatile int *)0 = 1;
        return 0;
    }
"""
MachineAndOrder = tuple[Machine, Callable[[str], TrialOrder]]


def whole_campaign(
    cell: Cell, machine: Machine, order: Callable[[str], TrialOrder], folder: Path, seed: str
) -> tuple[Conclusion, int]:
    """One campaign through the shipped loop, evidence and all: its conclusion and its trials."""
    plan = plan_for(cell.design)
    writer = EvidenceWriter(folder, PlanRecord("e", {"lines": plan.digest()}, "cell", "k"))
    subject = Subject("cell", "k", "0" * 64, "/k", "r", "e", 10.0)
    try:
        verdict = Campaign(
            machine,
            plan,
            order,
            subject=subject,
            rules=Rules(),
            budget=Budget(jobs=2),
            writer=writer,
            history=History(),
            seed=seed,
        ).run()
    finally:
        writer.close()
    return verdict.conclusion, len(verdict.trials)


def chosen(args: argparse.Namespace) -> list[Cell]:
    return [CELLS[number - 1] for number in args.cells]


def tell_cells(args: argparse.Namespace, machine_for: Callable[[Cell], MachineAndOrder]) -> None:
    print("\n| cell | campaigns | trials | wrong | measured | 95% | nominal | z | said nothing |")
    print("|---|---|---|---|---|---|---|---|---|")
    for cell in chosen(args):
        machine, order = machine_for(cell)
        wrong = silent = trials = 0
        for number in range(args.campaigns):
            with tempfile.TemporaryDirectory() as folder:  # TMPDIR=/dev/shm spares the disk
                seed = cell.seed(args, number)
                said, ran = whole_campaign(cell, machine, order, Path(folder), seed)
            wrong += said is cell.wrong
            silent += said in (Conclusion.INCONCLUSIVE, Conclusion.INFRASTRUCTURE)
            trials += ran
        row = row_text("", wrong, args.campaigns, cell.nominal).removeprefix("|  |").rstrip(" |")
        counts = f"{args.campaigns} | {trials} | {wrong}"
        print(f"| {cell.name} | {counts} |{row} | {silent} |", flush=True)


def section_loop(args: argparse.Namespace) -> None:
    """Whole campaigns on the fake machine, 2% void and 3% lost, crashes first to end."""

    def machine_for(cell: Cell) -> MachineAndOrder:
        behaviour = Behaviour(crash=cell.rate, void=0.02, lost=0.03, seconds=0.002)
        return FakeMachine(behaviour, at_once=2), lambda seed: TrialOrder(
            Command(("r",), 1.0, (), hashlib.sha512(seed.encode()).digest())
        )

    tell_cells(args, machine_for)


def section_qemu(args: argparse.Namespace) -> None:
    """Whole campaigns on real guests of the bare kernel."""
    kernel = max((cache_folder() / "kernels").glob("bare-*/bzImage"))
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:

        def machine_for(cell: Cell) -> MachineAndOrder:
            program = Path(folder) / "coin.c"
            program.write_text(COIN.replace("PER_MILLE", str(cell.per_mille)))
            payload = reproducer.prepare(program, cache=cache_folder())
            how = Conditions(1, 128, "pc", "", 10.0, ())
            image = read_kernel(kernel)
            made = assemble(image, payload, how, [], cache_folder(), {"PATH": ""})
            spec = stack.enter_context(made.guest_spec(Accel.TCG))
            return QemuMachine(find_emulator(), spec), lambda seed: made.order(seed, None)

        tell_cells(args, machine_for)


def section_foretold(args: argparse.Namespace) -> None:
    """What the campaigns of ``qemu`` have to say: seeds decide each trial, no guest is run."""
    print("\n| cell | campaigns | trials | wrong |")
    print("|---|---|---|---|")
    for cell in chosen(args):
        plan = plan_for(cell.design)
        seeds = [cell.seed(args, number) for number in range(args.campaigns)]
        said = [foretold(cell, plan, seed) for seed in seeds]
        wrong = sum(conclusion is cell.wrong for conclusion, _ in said)
        trials = sum(ran for _, ran in said)
        print(f"| {cell.name} | {args.campaigns} | {trials} | {wrong} |")


def foretold(cell: Cell, plan: Plan, seed: str) -> tuple[Conclusion, int]:
    """The verdict and its last trial, where each trial ends as COIN has it fall."""
    crashes = 0
    for trial in itertools.count(1):
        crashes += int(trial_seed(seed, trial - 1), 16) % 1000 < cell.per_mille
        if crashes and trial <= plan.crash_at(crashes):
            return Conclusion.CRASHES, trial
        if trial >= plan.safe_at(crashes):
            return Conclusion.SAFE, trial
    raise AssertionError


SECTIONS = {
    "optimum": section_optimum,
    "methods": section_methods,
    "campaigns": section_campaigns,
    "calibrated": section_calibrated,
    "hosts": section_hosts,
    "family": section_family,
}
WHOLE = {"loop": section_loop, "qemu": section_qemu, "foretold": section_foretold}


def main() -> None:
    """Run the sections asked for and print their tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "sections", nargs="*", choices=[[], *SECTIONS, *WHOLE], default=list(SECTIONS)
    )
    parser.add_argument("--seed", default="8", help="of the whole campaigns; a piece has its own")
    every = list(range(1, len(CELLS) + 1))
    parser.add_argument("--cells", type=int, nargs="+", default=every, choices=every)
    parser.add_argument("--quick", action="store_true", help="fewer campaigns and grid points")
    parser.add_argument("--campaigns", type=int, help="simulated campaigns a cell")
    args = parser.parse_args()
    args.campaigns = args.campaigns or (4_000 if args.quick else 100_000)
    for name in args.sections:
        began = time.process_time()
        section = (SECTIONS | WHOLE)[name]
        print(f"\n## {name}: {(section.__doc__ or '').splitlines()[0]}")
        section(args)
        print(f"\n({time.process_time() - began:.0f} s of CPU)")


if __name__ == "__main__":
    main()
