"""What a culprit search costs, and how often it is wrong, by simulation.

    python benchmarks/culprit.py                              all cells, 10,000 runs each
    python benchmarks/culprit.py --runs 200                   the same in some minutes
    python benchmarks/culprit.py --kinds single --rates 0.3 --builds 10 --methods full known
    python benchmarks/culprit.py --candidates 114 --kinds and --methods full   another list
    python benchmarks/culprit.py --noise 0.02 --candidates 60 --methods full   where good ones crash
    python benchmarks/culprit.py --first 200 --runs 300 --save later.jsonl     runs 200 to 499
    python benchmarks/culprit.py --tables early.jsonl later.jsonl              one table of pieces

685 candidates, or --candidates; a trial costs 1, a build costs B; all bad and all good are built
already. A cell is a kind (none, single, or, and), the crash rate p of a trial with a culprit in,
and B. Two culprits that each suffice crash independently of each other.

Methods: full (p unknown, baseline and confirmations counted), bare (p unknown, baseline counted,
stops at the first threshold), known (as bare, told p), hash (the 32 kernels), fixed (bisection with
10 trials a step), told (bisection with trials enough for p), go (the rule of Go's bisect, each run
wrapped in trials enough for p), bayesect (git_bayesect 1.2's own code; pip install git_bayesect).
Every row is Markdown. Each run has a seed of its own, so a table may be made in pieces, on several
machines: --save appends a line for each cell that was finished (the same command again goes on
with those that were not), and --tables adds them up.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from pytest_flaky_repro.culprit.aim import Aim, Answer
from pytest_flaky_repro.culprit.hashing import hash_masks
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.strategy import Strategy
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.stats.search.outlook import bits_per_trial
from pytest_flaky_repro.stats.search.planning import Costs
from pytest_flaky_repro.stats.search.rates import NOISE_FLOOR, known_rate

CANDIDATES = 685
CONFIDENCE = 0.99
PER_STEP = 0.001  # chance of a miss per step, of methods that are told p
PATIENCE = 0.95
SLOW_RUNS = {"bayesect": 20}
STEPS_MAX = 5000

Sets = frozenset[frozenset[int]]


@dataclass
class World:
    """Builds and trials are counted; ``sets`` are what each crashes with rate ``p``."""

    sets: Sets
    p: float
    rng: random.Random
    candidates: int = CANDIDATES
    noise: float = 0.0
    built: set[int] = field(default_factory=set)
    builds: int = 0
    trials: int = 0

    def __post_init__(self) -> None:
        self.built |= {0, self.everything}
        self._masks = [sum(1 << i for i in members) for members in self.sets]

    @property
    def everything(self) -> int:
        return (1 << self.candidates) - 1

    @property
    def weights(self) -> list[float]:
        return [1.0] * self.candidates

    def run(self, mask: int, most: int) -> tuple[int, int]:
        """Trials until a crash, at most ``most``: survivals, and crashes (0 or 1)."""
        if mask not in self.built:
            self.built.add(mask)
            self.builds += 1
        inside = sum(mask & each == each for each in self._masks)
        survivals = most
        if quiet := inside * math.log1p(-self.p) + math.log1p(-self.noise):
            survivals = min(most, int(math.log(1 - self.rng.random()) / quiet))
        crashed = int(survivals < most)
        self.trials += survivals + crashed
        return survivals, crashed

    def crashes(self, mask: int, most: int) -> bool:
        return self.run(mask, most)[1] == 1


Found = Sets | None  # None: unresolved; an empty set inside: all good crashes, too
NOT_HERE: Sets = frozenset({frozenset()})


# --- this package ---------------------------------------------------------------------------


def ours(world: World, build: float, aim: Aim) -> Found:
    strategy, tallies = Strategy(aim), Tallies()
    tallies.build(0, "0")
    for _ in range(STEPS_MAX):
        step = strategy.step(tallies, Costs(build))
        if isinstance(step, Answer):
            return _found(step)
        survived, crashed = world.run(step.mask, step.trials)
        tallies.build(step.mask, f"{step.mask:x}")
        tallies.survive(f"{step.mask:x}", survived)
        tallies.crash(f"{step.mask:x}", crashed)
    return None


def _found(answer: Answer) -> Found:
    if answer.kind is Kind.NOT_HERE:
        return NOT_HERE
    if answer.kind in (Kind.UNRESOLVED, Kind.NO_CRASH):
        return None
    return frozenset(frozenset(each.members) for each in answer.sets)


def full(world: World, build: float) -> Found:
    noise = max(NOISE_FLOOR, world.noise)
    return ours(world, build, Aim(world.weights, confidence=CONFIDENCE, noise=noise))


def bare(world: World, build: float) -> Found:
    aim = Aim(world.weights, confidence=CONFIDENCE, confirm=False, nothing=1e-9)
    return ours(world, build, aim)


def known(world: World, build: float) -> Found:
    rate = known_rate(world.p)
    aim = Aim(world.weights, confidence=CONFIDENCE, confirm=False, nothing=1e-9, known_rate=rate)
    return ours(world, build, aim)


# --- the others -----------------------------------------------------------------------------


def enough(p: float, miss: float) -> int:
    """Trials after which a culprit of rate ``p`` was missed with probability ``miss``."""
    return max(1, math.ceil(math.log(miss) / math.log1p(-p)))


@cache
def masks_by_bit(candidates: int) -> tuple[int, ...]:
    return tuple(hash_masks([f"object-{i}.o" for i in range(candidates)]))


def hash_scheme(world: World, build: float) -> Found:
    """The 32 kernels, built when needed; a crash is proof of a bit. Four passes at most."""
    del build
    each = enough(world.p, 1 - PATIENCE)
    crashed: set[int] = set()
    left = list(range(world.candidates))
    for _ in range(4):
        for mask in masks_by_bit(world.candidates):
            if mask in crashed or not world.crashes(mask, each):
                continue
            crashed.add(mask)
            left = [i for i in left if mask >> i & 1]
            if len(left) <= 1:
                return frozenset({frozenset(left)}) if left else None
    return None


def bisection(world: World, trials: int) -> Found:
    low, high = 0, world.candidates  # prefix ``low`` is taken for good, prefix ``high`` for bad
    while high - low > 1:
        middle = (low + high) // 2
        if world.crashes((1 << middle) - 1, trials):
            high = middle
        else:
            low = middle
    return frozenset({frozenset({high - 1})})


def fixed(world: World, build: float) -> Found:
    del build
    return bisection(world, 10)


def told(world: World, build: float) -> Found:
    del build
    return bisection(world, enough(world.p, PER_STEP))


def go_rule(world: World, build: float) -> Found:
    """Both halves of every set by the next bit of a hash; if neither crashes, each with the other.

    As cmd/bisect of golang.org/x/tools does it [its documentation], with runs that are told p.
    """
    del build
    trials = enough(world.p, PER_STEP)
    digests = [hashlib.sha1(b"%d" % i).digest() for i in range(world.candidates)]
    bits = [int.from_bytes(digest, "big") for digest in digests]

    def search(members: list[int], forced: int, bit: int) -> Iterator[frozenset[int]]:
        if len(members) == 1:
            yield frozenset(members)
            return
        halves = [[i for i in members if bits[i] >> bit & 1 == side] for side in (0, 1)]
        if not all(halves):
            yield from search(members, forced, bit + 1)
            return
        masks = [sum(1 << i for i in half) for half in halves]
        bad = [world.crashes(forced | mask, trials) for mask in masks]
        if any(bad):
            for half, is_bad in zip(halves, bad, strict=True):
                if is_bad:
                    yield from search(half, forced, bit + 1)
            return
        parts = [
            frozenset().union(*search(half, forced | other, bit + 1))
            for half, other in zip(halves, reversed(masks), strict=True)
        ]
        yield frozenset().union(*parts)

    if not world.crashes(world.everything, trials) or world.crashes(0, trials):
        return None
    return frozenset(search(list(range(world.candidates)), 0, 0))


def bayesect(world: World, build: float) -> Found:
    """git_bayesect's own Bisector, on the chain; what a build costs plays no part in it."""
    del build
    from git_bayesect import Bisector

    bisector = Bisector(world.weights)
    for _ in range(STEPS_MAX):
        if float(bisector.distribution.max()) >= CONFIDENCE:
            break
        index = int(bisector.select())
        prefix = world.candidates - index  # its index 0 is the newest, where everything is bad
        bisector.record(index, world.crashes((1 << prefix) - 1, 1))
    else:
        return None
    threshold = world.candidates - int(bisector.distribution.argmax())
    return frozenset({frozenset({threshold - 1})})


METHODS: dict[str, Callable[[World, float], Found]] = {
    "full": full,
    "bare": bare,
    "known": known,
    "hash": hash_scheme,
    "fixed": fixed,
    "told": told,
    "go": go_rule,
    "bayesect": bayesect,
}
CHAIN_ONLY = {"bare", "known", "bayesect", "fixed", "told"}  # name one candidate, whatever


# --- cells ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    kind: str
    p: float
    build: float
    method: str
    candidates: int = field(default=CANDIDATES, repr=False)  # seeds are made of the others
    noise: float = field(default=0.0, repr=False)

    def truth(self, rng: random.Random) -> Sets:
        if self.kind == "none":
            return NOT_HERE
        a, b = rng.sample(range(self.candidates), 2) if self.candidates > 1 else (0, 0)
        if self.kind == "single":
            return frozenset({frozenset({a})})
        return frozenset(
            {frozenset({a}), frozenset({b})} if self.kind == "or" else {frozenset({a, b})}
        )

    @property
    def bound(self) -> float | None:
        """Least mean cost at this confidence: Fano's inequality, and the Z-channel's capacity."""
        pairs = math.comb(self.candidates, 2)
        number = {"single": self.candidates, "none": 0}.get(self.kind, pairs)
        if number < 2:
            return None
        miss = 1 - CONFIDENCE
        spare = -miss * math.log2(miss) - CONFIDENCE * math.log2(CONFIDENCE)
        bits = math.log2(number) - spare - miss * math.log2(number - 1)
        return bits * (self.build + 1 / bits_per_trial(self.p))


@dataclass
class Outcomes:
    """Counts of answers; how many runs took so many builds, trials, and cost so much."""

    exact: int = 0
    wrong: int = 0
    unresolved: int = 0
    builds: Counter[float] = field(default_factory=Counter)
    trials: Counter[float] = field(default_factory=Counter)
    costs: Counter[float] = field(default_factory=Counter)
    seconds: float = 0.0  # of all processes

    def merge(self, other: Outcomes) -> None:
        self.exact += other.exact
        self.wrong += other.wrong
        self.unresolved += other.unresolved
        self.builds += other.builds
        self.trials += other.trials
        self.costs += other.costs
        self.seconds += other.seconds


def simulate(cell: Cell, first: int, after: int) -> Outcomes:
    """Runs ``first .. after - 1`` of a cell; each has a seed of its own."""
    outcomes, began = Outcomes(), time.process_time()
    for number in range(first, after):
        rng = random.Random(f"{cell} {number}")
        world = World(cell.truth(rng), cell.p, rng, cell.candidates, cell.noise)
        found = METHODS[cell.method](world, cell.build)
        outcomes.builds[world.builds] += 1
        outcomes.trials[world.trials] += 1
        outcomes.costs[world.trials + cell.build * world.builds] += 1
        if found is None:
            outcomes.unresolved += 1
        elif found == world.sets:
            outcomes.exact += 1
        else:
            outcomes.wrong += 1
    outcomes.seconds = time.process_time() - began
    return outcomes


def row(cell: Cell, got: Outcomes) -> str:
    costs, runs = sorted(got.costs.elements()), got.costs.total()
    mean = statistics.fmean(costs)
    against = f"{mean / cell.bound:.2f}" if cell.bound else ""
    builds, trials = (statistics.median(each.elements()) for each in (got.builds, got.trials))
    parts = [
        *(cell.method, cell.kind, f"{cell.p:g}", f"{cell.build:g}", f"{runs}"),
        *(f"{builds:g}", f"{trials:g}"),
        *(f"{mean:.0f}", f"{statistics.median(costs):.0f}", f"{costs[int(0.9 * runs)]:.0f}"),
        against,
        *(f"{100 * n / runs:.2f}" for n in (got.exact, got.wrong, got.unresolved)),
        f"{1000 * got.seconds / runs:.0f}",
    ]
    return f"| {' | '.join(parts)} |"


HEAD = (
    "| method | kind | p | B | runs | kernels | trials | mean cost | median | p90 | x bound "
    "| exact % | wrong % | unresolved % | ms/run |"
)


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    for kind in options.kinds:
        for p in options.rates:
            for build in options.builds:
                for method in options.methods:
                    if kind == "single" or method not in CHAIN_ONLY:
                        yield Cell(kind, p, build, method, options.candidates, options.noise)


# --- pieces ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """Runs ``first .. after - 1`` of a cell."""

    cell: Cell
    first: int
    after: int
    got: Outcomes

    def line(self) -> str:
        histograms = {
            name: sorted(getattr(self.got, name).items()) for name in ("builds", "trials", "costs")
        }
        return json.dumps(
            {
                "cell": asdict(self.cell),
                "first": self.first,
                "after": self.after,
                "got": asdict(self.got) | histograms,
            }
        )

    @classmethod
    def of(cls, line: str) -> Piece:
        read = json.loads(line)
        got = read["got"]
        for name in ("builds", "trials", "costs"):
            got[name] = Counter(dict(got[name]))
        return cls(Cell(**read["cell"]), read["first"], read["after"], Outcomes(**got))


def pieces_in(files: Iterable[Path]) -> list[Piece]:
    return [Piece.of(line) for file in files for line in file.read_text().splitlines()]


def overlap(pieces: Iterable[Piece]) -> str | None:
    """Says which runs of a cell are there twice."""
    upto: dict[Cell, int] = {}
    for piece in sorted(pieces, key=lambda each: (each.first, each.after)):
        if piece.first < upto.get(piece.cell, 0):
            until = min(upto[piece.cell], piece.after) - 1
            return f"runs {piece.first} to {until} of {piece.cell} are there twice"
        upto[piece.cell] = piece.after
    return None


def merged(pieces: Iterable[Piece]) -> dict[Cell, Outcomes]:
    whole: dict[Cell, Outcomes] = {}
    for piece in pieces:
        whole.setdefault(piece.cell, Outcomes()).merge(piece.got)
    return whole


def planned(options: argparse.Namespace) -> Iterator[Piece]:
    """What is to be simulated, its outcomes still empty."""
    for cell in cells(options):
        after = options.first + options.runs
        after = min(after, SLOW_RUNS.get(cell.method, after))
        if options.first < after:
            yield Piece(cell, options.first, after, Outcomes())


def run(piece: Piece, pool: Executor, jobs: int) -> None:
    """Fills its outcomes."""
    step = max(1, (piece.after - piece.first) // (8 * jobs))
    parts = [
        pool.submit(simulate, piece.cell, first, min(first + step, piece.after))
        for first in range(piece.first, piece.after, step)
    ]
    for part in parts:
        piece.got.merge(part.result())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--noise", type=float, default=0.0, help="crash rate of good images")
    parser.add_argument("--kinds", nargs="+", default=["none", "single", "or", "and"])
    parser.add_argument("--rates", nargs="+", type=float, default=[0.9, 0.3, 0.05])
    parser.add_argument("--builds", nargs="+", type=float, default=[0.0, 2.0, 10.0, 100.0])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--save", type=Path, help="append each finished cell to this file")
    parser.add_argument("--tables", nargs="+", type=Path, help="print what was saved, run nothing")
    options = parser.parse_args(argv)
    saved = [file for file in options.tables or [options.save] if file]
    known = pieces_in(file for file in saved if options.tables or file.exists())
    done = {(piece.cell, piece.first, piece.after) for piece in known}
    todo = [] if options.tables else planned(options)
    plan = [piece for piece in todo if (piece.cell, piece.first, piece.after) not in done]
    if twice := overlap([*known, *plan]):
        parser.error(f"{twice} ({', '.join(map(str, saved))}): take one away, or another --first")
    print(HEAD, "|---" * HEAD.count(" | ") + "|---|", sep="\n", flush=True)
    if options.tables:
        print(*(row(cell, got) for cell, got in merged(known).items()), sep="\n")
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        for piece in plan:
            run(piece, pool, options.jobs)
            print(row(piece.cell, piece.got), flush=True)
            if options.save:
                with options.save.open("a") as file:
                    print(piece.line(), file=file)


if __name__ == "__main__":
    main()
