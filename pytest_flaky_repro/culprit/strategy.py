"""What to do next, from nothing but what was seen: so any run can be gone on with.

Baseline (how often does all bad crash?), then rounds: find a culprit set, try to do without each
of its members, take it out; as long as the rest still crashes there is another one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from pytest_flaky_repro.culprit.aim import Aim, Answer, FoundSet, Phase, Query
from pytest_flaky_repro.culprit.building import Shape
from pytest_flaky_repro.culprit.levels import Belief, Levels
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.tallies import Tallies, Tally
from pytest_flaky_repro.stats.search.companions import Exposure, companion_rates
from pytest_flaky_repro.stats.search.planning import Costs
from pytest_flaky_repro.stats.search.rates import Grid, Rates, is_loud, learned_rates

ROUNDS_MAX = 8
NOTHING_LATER = 0.01  # all good crashes too, after a culprit was found
ANOTHER = 0.1  # prior probability of a second culprit
COMPANION = 0.2  # of the error: what rates learned under selection leave of it (benchmarked)
TO_NEXT_CRASH = 8  # half-lives of survival that one query may take
MINIMAL_DIRECT = 0.02  # what the trials without a member have to reach by themselves


class Strategy:
    """Decides; remembers only what it would compute again."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._levels = Levels(aim)
        self.found: tuple[FoundSet, ...] = ()

    def step(self, tallies: Tallies, costs: Costs) -> Query | Answer:
        """The next query, or the answer: a function of its arguments only.

        ``found`` and ``belief`` then say where the search is.
        """
        self.found = ()
        rates = self._aim.known_rate or self._baseline(tallies)
        if not isinstance(rates, Rates):
            return rates
        taken, nothing = 0, self._aim.nothing
        while len(self.found) < ROUNDS_MAX:
            pool = self._aim.everything & ~taken
            found = self._find(pool, rates, tallies, costs, nothing)
            if isinstance(found, FoundSet):
                found = self._minimal(found, tallies)
            if isinstance(found, Query):
                return found
            if isinstance(found, Answer):
                return self._told(found, tallies)
            self.found += (found,)
            if not self._aim.confirm or self._aim.shape is Shape.CHAIN:
                return self._finished(tallies)
            rest = self._aim.everything & ~(taken | found.mask)
            more = self._rest(rest, taken, found, tallies)
            if isinstance(more, Query | Answer):
                return more
            taken, rates = taken | found.mask, more
            # the rest crashes: there is a second culprit, or all good does, too
            nothing = found.all_good / (found.all_good + ANOTHER * found.probability)
            nothing = max(NOTHING_LATER, min(nothing, 0.9))
        why = f"more than {ROUNDS_MAX} culprits: what they share may be outside of the candidates"
        return Answer(Kind.UNRESOLVED, self.found, 0.0, why)

    @property
    def belief(self) -> Belief | None:
        """The chain that is being searched; None before there is one."""
        return self._levels.belief

    def _find(
        self, pool: int, rates: Rates, tallies: Tallies, costs: Costs, nothing: float
    ) -> Query | FoundSet | Answer:
        return self._levels.find(pool, rates, tallies, costs, nothing)

    # ---- how often does all bad crash?

    def _baseline(self, tallies: Tallies) -> Rates | Query | Answer:
        aim, mask = self._aim, self._aim.everything
        if mask in tallies.skipped:
            why = f"all bad cannot be built or tested: {tallies.skipped[mask]}"
            return Answer(Kind.UNRESOLVED, (), 0.0, why)
        tally = tallies.of(mask)
        limit = math.ceil(math.log(aim.error) / math.log1p(-aim.min_rate))
        if tally.crashed >= 1 and is_loud(tally.trials, tally.crashed, aim.noise, aim.error):
            limit *= 1 + aim.baseline_crashes
        enough = tally.crashed >= aim.baseline_crashes
        if enough and is_loud(tally.trials, tally.crashed, aim.noise, aim.error):
            return learned_rates(tally.survived, tally.crashed, aim.noise)
        if tally.trials < limit:
            return Query(mask, limit - tally.trials, Phase.BASELINE)
        if tally.crashed and is_loud(tally.trials, tally.crashed, aim.noise, aim.error):
            return learned_rates(tally.survived, tally.crashed, aim.noise)
        seen = f"all bad: {tally.crashed} of {tally.trials} crashed"
        return Answer(Kind.NO_CRASH, (), 0.0, seen)

    # ---- can any member be done without?

    def _minimal(self, found: FoundSet, tallies: Tallies) -> FoundSet | Query:
        """The set less what it does not need. Of a single one its crash alone was the proof."""
        members, aim = found.members, self._aim
        if len(members) == 1:
            return found
        whole, rates = tallies.of(found.mask), found.rates
        if whole.crashed >= aim.baseline_crashes:  # how often they crash, from them alone
            rates = learned_rates(whole.survived, whole.crashed, aim.noise)
        elif found.mask not in tallies.skipped:
            return Query(found.mask, TO_NEXT_CRASH * rates.survivals_for(0.5), Phase.MINIMAL)
        for member in members:
            mask = found.mask & ~(1 << member)
            tally = tallies.of(mask)
            odds = rates.odds(tally.survived, tally.crashed)
            if odds >= aim.confidence / aim.error:
                rest = tuple(m for m in members if m != member)
                return self._minimal(replace(found, members=rest), tallies)
            if mask in tallies.skipped:
                continue  # what its supersets said has to do
            need = rates.survivals_for(MINIMAL_DIRECT, tally.survived, tally.crashed)
            if need > 0:
                return Query(mask, need, Phase.MINIMAL)
        return found

    # ---- is there another culprit?

    def _rest(
        self, rest: int, taken: int, found: FoundSet, tallies: Tallies
    ) -> Query | Answer | Rates:
        """The rates of the next round, if all bad without what was found still crashes.

        Where nothing else is left, that is all good.
        """
        if rest in tallies.skipped:
            why = f"whether there are more culprits is open: {tallies.skipped[rest]}"
            return Answer(Kind.UNRESOLVED, self.found, found.probability, why)
        tally, aim = tallies.of(rest), self._aim
        rates = companions_of(found, taken, aim, tallies)
        odds = rates.odds(tally.survived, tally.crashed)
        if tally.crashed and odds >= aim.confidence / aim.error:
            if tally.crashed >= aim.baseline_crashes:
                return learned_rates(tally.survived, tally.crashed, aim.noise)
            return Query(rest, TO_NEXT_CRASH * rates.survivals_for(0.5), Phase.COMPLETE)
        need = max(
            rates.survivals_for(aim.error * COMPANION, tally.survived, tally.crashed),
            self._to_rule_all_good_out(found, tally),
        )
        if need > 0:
            return Query(rest, need, Phase.COMPLETE)
        self.found = tuple(_spoken_for(each, min(1.0, odds)) for each in self.found)
        return self._finished(tallies)

    def _to_rule_all_good_out(self, found: FoundSet, tally: Tally) -> int:
        """Survivals of the rest after which all good is not to blame, had it been so at evens."""
        weight = found.all_good / found.probability * (1 - self._aim.nothing) / self._aim.nothing
        rates = found.all_good_rates
        if rates is None or weight <= self._aim.error:
            return 0
        return rates.survivals_for(self._aim.error / weight, tally.survived, tally.crashed)

    def _finished(self, tallies: Tallies) -> Answer:
        found, explained = _by_themselves(self.found, tallies)
        sure, why = math.prod(each.probability for each in found), "the confidence was reached"
        if len(found) > 1:
            why = "each of these sets crashes by itself"
            return Answer(Kind.ANY_OF, found, sure, why, explained)
        kind = Kind.SINGLE if len(found[0].members) == 1 else Kind.ALL_OF
        return Answer(kind, found, sure, why, explained)

    def _told(self, answer: Answer, tallies: Tallies) -> Answer:
        """With what was found before: unless all good crashes, for then that crashed as it does."""
        if answer.kind is Kind.NOT_HERE:
            return answer
        found, explained = _by_themselves(self.found, tallies)
        return replace(answer, sets=found, explained=explained)


def _by_themselves(
    found: Sequence[FoundSet], tallies: Tallies
) -> tuple[tuple[FoundSet, ...], tuple[FoundSet, ...]]:
    """The sets that crash by themselves, and those whose builds brought another one along."""
    kept = list(found)
    for each in found:
        brought = tallies.brought.get(each.mask, 0)
        if any(other.mask & ~(each.mask | brought) == 0 for other in kept if other is not each):
            kept.remove(each)
    return tuple(kept), tuple(each for each in found if each not in kept)


def _spoken_for(found: FoundSet, odds: float) -> FoundSet:
    """Were anything else the culprit, it would be in the rest, whose survivals have these odds.

    They say nothing of what may be needed besides: the rest lacks the set's members, too.
    """
    doubt = (1 - found.first) * odds
    return replace(found, first=found.first / (found.first + doubt))


def companions_of(found: FoundSet, taken: int, aim: Aim, tallies: Tallies) -> Rates:
    """The crash rate of ``found`` under the assumption that another culprit is as frequent.

    From all images with ``found`` in and without ``taken``, what earlier rounds found.
    """
    whole, members = aim.everything & ~taken, found.mask
    exposures = []
    for image, masks in tallies.masks.items():
        tally = tallies.images[image]
        for mask in masks:
            if mask & members == members and not mask & taken:
                both = _both(mask, found, whole) if tally.trials else None
                if both is not None:
                    exposures.append(Exposure(both, tally.survived, tally.crashed))
                break
    return _companion_rates(found.rates.grid, tuple(sorted(exposures)))


@lru_cache(maxsize=64)
def _companion_rates(grid: Grid, exposures: tuple[Exposure, ...]) -> Rates:
    return companion_rates(grid, exposures)


def _both(mask: int, found: FoundSet, whole: int) -> float | None:
    """P(another culprit is in this image, too); None: unknown."""
    if mask == whole:
        return 1.0
    if mask == found.mask:
        return 0.0
    if mask != whole & ((1 << mask.bit_length()) - 1):
        return None
    others = found.size - found.place
    return (mask.bit_count() - found.place) / others if others > 0 else 0.0


def speaking_against(mask: int, tallies: Tallies) -> Tally:
    """What is known of whether a subset can crash, against what it cannot.

    The trials of its own images, and the survivals of those that have everything in it and never
    crashed: if it could crash, so could they. (One that crashed may have done so for the rest.)
    """
    seen = Tally()
    for image, masks in tallies.masks.items():
        tally = tallies.images[image]
        if mask in masks:
            seen.crashed += tally.crashed
        elif tally.crashed or not any(m & mask == mask for m in masks):
            continue
        seen.survived += tally.survived
    return seen
