"""The search: asks its strategy what to do, has it built and tried, writes it down."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.aim import Aim, Answer, FoundSet, Phase, Query
from pytest_flaky_repro.culprit.building import Builder, Image, Shape, Skipped
from pytest_flaky_repro.culprit.candidates import Subset, Universe
from pytest_flaky_repro.culprit.hashing import HashStrategy
from pytest_flaky_repro.culprit.ledger import Book, Ledger, Question
from pytest_flaky_repro.culprit.levels import ALL_GOOD, Belief
from pytest_flaky_repro.culprit.reporting import result_of, view_of
from pytest_flaky_repro.culprit.result import Kind, Result
from pytest_flaky_repro.culprit.strategy import Strategy
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.culprit.testing import Tester, TrialReport, Untestable, unit_of
from pytest_flaky_repro.culprit.watching import Activity, Watcher
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.search.planning import Costs
from pytest_flaky_repro.stats.search.rates import NOISE_FLOOR

RESUME = "--resume"
UNMEASURED_BUILD = 10.0  # trials that a build is taken to cost before one was timed


@dataclass(frozen=True)
class SearchOptions:
    """What a search is to reach and may spend.

    ``target`` is the crash that counts; None: whatever all bad crashes with first. ``noise`` is
    the rate at which a trial of an image that cannot crash looks crashed, taken for at least 1e-4;
    ``min_rate`` and ``max_trials`` are of what the tester reports: trials, or boots of several.
    ``max_trials`` counts those that teach nothing, too.
    ``strategy`` is ``prefix``, or ``hash`` (32 kernels by the bits of the names' SHA-1).
    ``seconds`` count from ``began``, when these options were made: searches that share them, one
    that goes deeper after another, share their seconds.
    """

    confidence: float = 0.99
    noise: float = NOISE_FLOOR
    min_rate: float = 0.01
    target: Signature | None = None
    max_trials: int | None = None
    max_builds: int | None = None
    seconds: float | None = None
    strategy: str = "prefix"
    resume: bool = False
    began: float = field(default_factory=time.monotonic, compare=False)


class Decider(Protocol):
    """What decides: prefixes, or hashes."""

    found: tuple[FoundSet, ...]

    @property
    def belief(self) -> Belief | None: ...
    def step(self, tallies: Tallies, costs: Costs) -> Query | Answer: ...


def find_culprit(
    builder: Builder,
    tester: Tester,
    options: SearchOptions | None = None,
    *,
    folder: Path,
    title: str = "",
    watcher: Watcher | None = None,
    should_stop: Callable[[], str | None] = lambda: None,
) -> Result:
    """Searches until the culprit is known at the confidence asked for, or a budget is spent.

    Evidence goes to ``folder``, append-only, and is called ``title`` in reports; with
    ``options.resume`` what is there is gone on from. KeyboardInterrupt passes through with
    everything on disk. Raises UsageError for input that no search could use and
    InfrastructureError when the harness cannot go on.
    """
    options = options or SearchOptions()
    search = _Search(builder, tester, options, folder, title, watcher, should_stop)
    try:
        return search.run()
    finally:
        search.close()


class _EnoughError(Exception):
    """A budget is spent, or somebody asks to stop; ``resume`` is how to go on."""

    def __init__(self, why: str, resume: str = RESUME) -> None:
        super().__init__(why)
        self.resume = resume


@dataclass
class _Clock:
    """Wall time of trials against their own: several may run at once."""

    began: float = field(default_factory=time.monotonic)
    wall_s: float = 0.0
    own_s: float = 0.0

    @property
    def share(self) -> float:
        return self.wall_s / self.own_s if self.own_s > 0 and self.wall_s > 0 else 1.0

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.began


class _Search:
    def __init__(
        self,
        builder: Builder,
        tester: Tester,
        options: SearchOptions,
        folder: Path,
        title: str,
        watcher: Watcher | None,
        should_stop: Callable[[], str | None],
    ) -> None:
        self._builder, self._tester, self._options = builder, tester, options
        self._watcher, self._should_stop = watcher, should_stop
        self._universe = Universe(builder.candidates, getattr(builder, "describe", None))
        boot_size = getattr(tester, "boot_size", 1)
        noise = max(options.noise, NOISE_FLOOR)
        self._aim = Aim(
            [candidate.weight for candidate in self._universe],
            builder.shape,
            options.confidence,
            -math.expm1(boot_size * math.log1p(-noise)),
            options.min_rate,  # of trials: at least as many of their boots crash
        )
        self._strategy = self._decider()
        crash = str(options.target) if options.target is not None else None
        question = Question(self._universe.digest, builder.identity, tester.identity, crash)
        info = {
            "title": title,
            "confidence": options.confidence,
            "strategy": options.strategy,
            "seed": getattr(tester, "seed", None),
            "boot_size": boot_size,
            "noise": self._aim.noise,  # of a boot, where boots are counted
            "files": {**getattr(builder, "files", {}), **getattr(tester, "files", {})},
        }
        self._ledger = Ledger(folder, question, self._universe, resume=options.resume, info=info)
        self._images: dict[int, Image] = {}
        self._clock = _Clock()

    def close(self) -> None:
        self._ledger.close()

    def run(self) -> Result:
        resume = RESUME
        try:
            answer = self._search()
        except _EnoughError as enough:
            resume = enough.resume
            self._strategy.step(self._book.tallies, self._costs())  # what is known by now
            found = self._strategy.found
            answer = Answer(Kind.UNRESOLVED, found, self._best(), str(enough))
        self._see(None, Activity.DONE)
        result = result_of(
            answer,
            self._strategy.belief,
            self._universe,
            self._aim,
            self._book,
            images={**self._book.images(), **self._images},
            resume=resume,
            evidence=self._ledger.path,
            signature=str(self._target() or ""),
        )
        self._ledger.answer(result.kind, result.sets, result.probability, result.why)
        return result

    def _search(self) -> Answer:
        while True:
            query = self._strategy.step(self._book.tallies, self._costs())
            if isinstance(query, Answer):
                self._refuse_unusable()
                return query
            if query.mask in self._book.tallies.skipped:
                return self._out_of_reach(query)
            self._ask(query)

    def _out_of_reach(self, query: Query) -> Answer:
        """No strategy should ask for what cannot be built or tested; none may do so for ever."""
        reason = self._book.tallies.skipped[query.mask]
        why = f"{Subset(self._universe, query.mask)} would be tried next and cannot be: {reason}"
        return Answer(Kind.UNRESOLVED, self._strategy.found, self._best(), why)

    def _ask(self, query: Query) -> None:
        """Builds and tests what the query is about, as far as the budgets allow."""
        self._check_budget()
        image = self._image(query)
        if image is not None:
            self._test(query, image)

    def _refuse_unusable(self) -> None:
        reason = self._book.tallies.skipped.get(self._aim.everything)
        if reason is not None:
            self._try_all_good()
            advice = getattr(self._builder, "if_all_bad_fails", "")
            raise UsageError(
                f"all bad cannot be built or tested: {reason}. Nothing can be found{advice}. "
                f"{self._said_of_all_good()}"
                "--resume remembers this: once it is mended, run without --resume"
            )

    def _try_all_good(self) -> None:
        """One trial tells whether it is the bad variant that cannot be tested, or the question.

        Only where all bad was built: a second build just to say so may take an hour.
        """
        tallies = self._book.tallies
        known = ALL_GOOD in tallies.skipped or tallies.of(ALL_GOOD).trials
        if known or self._aim.everything not in tallies.built:
            return
        try:
            self._ask(Query(ALL_GOOD, 1, Phase.BASELINE))
        except _EnoughError:
            return  # then it is not known

    def _said_of_all_good(self) -> str:
        """Whether it is only the bad variant that fails, where that is known."""
        tallies = self._book.tallies
        if ALL_GOOD in tallies.skipped:
            reason = tallies.skipped[ALL_GOOD]
            if reason == tallies.skipped[self._aim.everything]:
                return "All good fails, too, in the same way. "
            return f"All good fails, too: {reason}. "
        return "All good can be tested. " if tallies.of(ALL_GOOD).trials else ""

    # ---- building

    def _image(self, query: Query) -> Image | None:
        """The image to test now; None when what its build told has to be thought over first."""
        mask, tallies = query.mask, self._book.tallies
        if mask in self._images:
            return self._images[mask]
        if mask not in tallies.built:
            self._check_builds()
        subset = Subset(self._universe, mask)
        self._see(query, Activity.BUILDING)
        began = time.monotonic()
        built = self._builder.build(subset)
        seconds = round(time.monotonic() - began, 3)
        if isinstance(built, Skipped):
            self._ledger.skip(subset, built.reason, seconds)
            self._see(query, Activity.BUILT)
            return None
        is_known = built.id in tallies.images and built.id not in tallies.built.get(mask, ())
        if built.id not in tallies.built.get(mask, ()):
            self._ledger.build(subset, built, seconds)
        self._images[mask] = built
        self._see(query, Activity.BUILT)
        return None if is_known else built

    # ---- testing

    def _test(self, query: Query, image: Image) -> None:
        clock, before = time.monotonic(), self._book.reported[image.id]
        own = 0.0

        def on_trial(report: TrialReport) -> None:
            nonlocal own
            self._ledger.trial(image.id, report)
            own += report.seconds
            self._see(query, Activity.TESTING)
            self._check_budget()

        self._see(query, Activity.TESTING)
        target = self._options.target if query.phase is Phase.BASELINE else self._target()
        try:
            ended = self._tester.run(image, query.trials, target, on_trial, before)
        finally:
            self._clock.wall_s += time.monotonic() - clock
            self._clock.own_s += own
        if isinstance(ended, Untestable):
            self._ledger.untestable(image.id, ended.reason)
        elif self._book.reported[image.id] == before:
            raise UsageError(
                "the tester ran no trial and did not say why: expected reports, each with a "
                "seed of its own or none, or Untestable"
            )

    def _target(self) -> Signature | None:
        """The crash that counts: the one asked for, or those that all bad showed."""
        if self._options.target is not None:
            return self._options.target
        names = self._book.tallies.built.get(self._aim.everything, ())
        return self._book.signature(names)

    # ---- what it costs, and what may be spent

    @property
    def _book(self) -> Book:
        return self._ledger.book

    def _costs(self) -> Costs:
        seconds, share = self._book.seconds, self._clock.share
        known = [*seconds.survivals, *seconds.crashes]
        usual = sum(known) / len(known) * share if known else 1.0
        survival = _mean(seconds.survivals, usual / share) * share
        crash = _mean(seconds.crashes, usual / share) * share
        build = _median(seconds.builds, UNMEASURED_BUILD * usual)
        return Costs(build, max(survival, 1e-6), max(crash, 1e-6))

    def _check_budget(self) -> None:
        options, book = self._options, self._book
        why = self._should_stop()
        if why is not None:
            raise _EnoughError(why)
        trials = sum(book.reported.values())
        if options.max_trials is not None and trials >= options.max_trials:
            raise _spent(options.max_trials, unit_of(book.boot_size), "--max-trials")
        elapsed_s = time.monotonic() - options.began
        if options.seconds is not None and elapsed_s > options.seconds:
            raise _EnoughError(f"the budget of {options.seconds:g} s is spent (--budget)")

    def _check_builds(self) -> None:
        most = self._options.max_builds
        if most is not None and len(self._book.seconds.builds) >= most:
            raise _spent(most, "builds", "--max-builds")

    # ---- what is seen

    def _see(self, query: Query | None, activity: Activity) -> None:
        if self._watcher is None:
            return
        subset = Subset(self._universe, query.mask) if query is not None else None
        self._watcher.see(
            view_of(
                query,
                subset,
                activity,
                self._strategy.belief,
                self._strategy.found,
                self._universe,
                self._aim,
                self._book,
                self._costs(),
                self._clock.elapsed_s,
            )
        )

    def _best(self) -> float:
        belief = self._strategy.belief
        return belief.chain.best[1] if belief is not None else 0.0

    def _decider(self) -> Decider:
        name = self._options.strategy
        if name == "prefix":
            return Strategy(self._aim)
        if name != "hash":
            raise UsageError(f"--strategy {name}: expected prefix or hash")
        if self._builder.shape is not Shape.SET:
            raise UsageError("--strategy hash needs any subset; here only prefixes can be built")
        return HashStrategy(self._aim, [candidate.name for candidate in self._universe])


def _spent(number: int, what: str, option: str) -> _EnoughError:
    """Of a budget for all runs of a search: going on with the same one would do nothing."""
    why = f"the budget of {number} {what} is spent ({option}), all runs together"
    return _EnoughError(why, f"{RESUME} and a larger {option}")


def _mean(values: list[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _median(values: list[float], otherwise: float) -> float:
    """Of what was timed, without the first (all bad), which may have been there already."""
    timed = sorted(values[1:])
    return timed[len(timed) // 2] if timed else (values[0] if values else otherwise)
