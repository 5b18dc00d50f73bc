"""From a search's state to what people get: views while it runs, the result at its end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_flaky_repro.culprit.aim import Aim, Answer, FoundSet, Phase, Query
from pytest_flaky_repro.culprit.building import Image, Shape
from pytest_flaky_repro.culprit.candidates import Subset, Universe
from pytest_flaky_repro.culprit.ledger import Book
from pytest_flaky_repro.culprit.levels import Belief
from pytest_flaky_repro.culprit.result import (
    Claim,
    Confirmation,
    CulpritSet,
    Kind,
    Leader,
    Result,
    Spent,
)
from pytest_flaky_repro.culprit.strategy import companions_of, speaking_against
from pytest_flaky_repro.culprit.watching import Activity, View
from pytest_flaky_repro.stats.bounds import rate_bounds
from pytest_flaky_repro.stats.search.outlook import outlook
from pytest_flaky_repro.stats.search.planning import Costs
from pytest_flaky_repro.stats.tally import Tally

LEADERS = 5


def spent_of(book: Book) -> Spent:
    """What all runs cost together."""
    seconds = book.seconds
    trial_s = sum(seconds.survivals) + sum(seconds.crashes) + seconds.rest
    return Spent(
        builds=len(seconds.builds),
        skips=len(book.tallies.skipped),
        trials=len(seconds.survivals) + len(seconds.crashes),
        crashes=len(seconds.crashes),
        others=book.others.total(),
        infrastructure=book.infrastructure,
        build_s=sum(seconds.builds) + sum(seconds.skips),
        trial_s=trial_s,
        boot_size=book.boot_size,
    )


def leaders_of(belief: Belief | None, universe: Universe, confidence: float) -> list[Leader]:
    """The fewest candidates that together have the confidence."""
    if belief is None:
        return []
    credible = belief.credible(confidence)
    return [Leader(universe[index], p) for index, p in credible if index is not None]


def view_of(
    query: Query | None,
    subset: Subset | None,
    activity: Activity,
    belief: Belief | None,
    found: tuple[FoundSet, ...],
    universe: Universe,
    aim: Aim,
    book: Book,
    costs: Costs,
    elapsed_s: float,
) -> View:
    """The search as it is now."""
    searching = query is not None and query.phase in (Phase.SEARCH, Phase.TOGETHER)
    builds, trials = 0.0, float(query.trials) if query is not None else 0.0
    if belief is not None and searching:
        ahead = outlook(belief.chain, aim.confidence)
        builds, trials = ahead.builds, ahead.trials
    elif query is not None and query.phase is Phase.BASELINE:
        seen = book.tallies.of(query.mask)
        more = max(0, aim.baseline_crashes - seen.crashed)
        trials = more * seen.trials / seen.crashed if seen.crashed else 0.0
    left = leaders_of(belief, universe, aim.confidence)
    tally = book.tallies.of(subset.mask) if subset is not None else None
    return View(
        phase=query.phase if query is not None else None,
        activity=activity,
        subset=subset,
        survived=tally.survived if tally is not None else 0,
        crashed=tally.crashed if tally is not None else 0,
        candidates_left=len(left) if belief is not None else len(universe),
        leaders=tuple(left[:LEADERS]),
        found=tuple(tuple(universe[m].name for m in each.members) for each in found),
        spent=spent_of(book),
        expected_builds=builds,
        expected_trials=trials,
        expected_s=builds * costs.build + trials * costs.survival,
        elapsed_s=elapsed_s,
    )


def result_of(
    answer: Answer,
    belief: Belief | None,
    universe: Universe,
    aim: Aim,
    book: Book,
    *,
    images: Mapping[int, Image],
    resume: str,
    evidence: Path,
    signature: str,
) -> Result:
    """The answer with all it rests on."""
    confirming = _Confirming(universe, aim, book, images)
    sets = tuple(
        CulpritSet(
            tuple(universe[member] for member in found.members),
            found.probability,
            tuple(confirming.of(found, answer)),
        )
        for found in answer.sets
    )
    rates = answer.sets[-1].rates if answer.sets else None
    if rates is None and belief is not None:
        rates = belief.chain.rates_now
    low, high = rates.interval((1 - aim.confidence) / 2) if rates is not None else (0.0, 1.0)
    if answer.kind is Kind.NO_CRASH:
        tally = book.tallies.of(aim.everything)
        high = rate_bounds(Tally(tally.trials, tally.trials, tally.crashed), aim.confidence).upper
    skipped = book.tallies.skipped.items()
    return Result(
        kind=answer.kind,
        sets=sets,
        probability=answer.probability,
        confidence=aim.confidence,
        why=answer.why,
        credible=tuple(leaders_of(belief, universe, aim.confidence)),
        rate=(low, rates.mean if rates is not None else 0.0, high),
        signature=signature,
        spent=spent_of(book),
        others=dict(book.others),
        skipped=tuple((Subset(universe, mask), reason) for mask, reason in skipped),
        evidence=evidence,
        explained=tuple(
            (Subset(universe, each.mask), Subset(universe, book.tallies.brought[each.mask]))
            for each in answer.explained
        ),
        resume=resume if answer.kind is Kind.UNRESOLVED else "",
    )


class _Confirming:
    """Which images speak for a set, and how surely."""

    def __init__(
        self, universe: Universe, aim: Aim, book: Book, images: Mapping[int, Image]
    ) -> None:
        self._universe, self._aim, self._book, self._images = universe, aim, book, images

    def of(self, found: FoundSet, answer: Answer) -> list[Confirmation]:
        if self._aim.shape is Shape.CHAIN:
            last = found.members[0] + 1
            before = (1 << last - 1) - 1
            return [self._sufficient(found, (1 << last) - 1), self._necessary(found, before)]
        parts = [self._sufficient(found, found.mask)]
        if len(found.members) > 1:
            parts += [self._necessary(found, found.mask & ~(1 << m)) for m in found.members]
        if found is answer.sets[-1]:
            taken = sum(each.mask for each in (*answer.sets[:-1], *answer.explained))
            rest = self._aim.everything & ~(taken | found.mask)
            if rest and rest in self._book.tallies.built:
                left = self._book.tallies.of(rest)
                rates = companions_of(found, taken, self._aim, self._book.tallies)
                error = min(1.0, rates.odds(left.survived, left.crashed))
                parts.append(self._confirmation(Claim.COMPLETE, rest, error))
        return parts

    def _sufficient(self, found: FoundSet, mask: int) -> Confirmation:
        tally = self._book.tallies.of(mask)
        noise = 1 / max(1.0, found.rates.odds(tally.survived, tally.crashed))
        return self._confirmation(Claim.SUFFICIENT, mask, noise)

    def _necessary(self, found: FoundSet, mask: int) -> Confirmation:
        seen = speaking_against(mask, self._book.tallies)
        error = min(1.0, found.rates.odds(seen.survived, seen.crashed))
        return self._confirmation(Claim.NECESSARY, mask, error)

    def _confirmation(self, claim: Claim, mask: int, error: float) -> Confirmation:
        tally = self._book.tallies.of(mask)
        bounds = rate_bounds(Tally(tally.trials, tally.trials, tally.crashed), self._aim.confidence)
        names = self._book.tallies.built.get(mask, ())
        return Confirmation(
            claim,
            Subset(self._universe, mask),
            self._images.get(mask),
            tally.survived,
            tally.crashed,
            error,
            bounds.lower,
            bounds.upper,
            tuple(seed for name in names for seed in self._book.seeds.get(name, ())),
        )
