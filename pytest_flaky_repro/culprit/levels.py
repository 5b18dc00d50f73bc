"""Finding one culprit set, level by level.

On the first level the chain of prefixes of all candidates has a threshold ``c``: whatever crashes
among the first ``c`` needs candidate ``c``. On the next, ``c`` is always bad and the chain is made
of those before it: its threshold 0 says that ``c`` alone is enough, any other names the next
member of a set that only crashes together (QuickXplain's argument [Junker 2004], with doubt).
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flaky_repro.culprit.aim import Aim, Answer, FoundSet, Phase, Query
from pytest_flaky_repro.culprit.building import Shape
from pytest_flaky_repro.culprit.links import Link, Lookout, Seen
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.stats.search.chain import Chain, Prior
from pytest_flaky_repro.stats.search.planning import Costs, Move, best_move
from pytest_flaky_repro.stats.search.rates import Rates

HALF = 0.5
ALL_GOOD = 0  # its mask
TOGETHER_MAX = 4  # members of a set that only crashes together


@dataclass(frozen=True)
class Belief:
    """The chain that is being searched; what people are shown."""

    link: Link
    chain: Chain

    def credible(self, confidence: float) -> list[tuple[int | None, float]]:
        """Candidates (indices; None: the context is enough) that together have ``confidence``."""
        pool = self.link.pool
        return [(pool[k - 1] if k else None, p) for k, p in self.chain.credible(confidence)]


class Levels:
    """Descends; remembers posteriors that did not change."""

    def __init__(self, aim: Aim) -> None:
        self._aim = aim
        self._links: dict[tuple[int, int, float], tuple[Link, Prior]] = {}
        self._lookouts: dict[tuple[int, int], Lookout] = {}
        self._chains: dict[tuple[int, int], Chain] = {}
        self.belief: Belief | None = None

    def find(
        self,
        pool: int,
        rates: Rates,
        tallies: Tallies,
        costs: Costs,
        nothing: float,
    ) -> Query | FoundSet | Answer:
        """The next query for one culprit set in the mask ``pool``, which crashes; or the set."""
        aim, size, bits, context = self._aim, pool.bit_count(), pool, 0
        members: list[int] = []
        probability, place, all_good, if_good = 1.0, 0, 0.0, rates
        known = pool or None  # its trials are in ``rates``
        while True:
            link, prior = self._link(context, bits, nothing)
            seen = self._lookout(link, tallies, None if members else known).seen()
            chain = self._chain(link, prior, rates, seen)
            best, sure = chain.best
            proven = None if members else self._proven(chain, seen)
            if proven is not None:
                best, sure = proven, 1 - chain.probability(0)
            elif not self._is_settled(chain, first=not members):
                move = self._move(chain, costs, seen)
                if move is None:
                    return self._stuck(members, link, chain, tallies)
                mask = link.leap(move.at) if move.is_leap else link.prefix(move.at)
                return Query(mask, move.trials, Phase.TOGETHER if members else Phase.SEARCH)
            probability *= sure
            if best == 0:
                if members:
                    found, last = tuple(sorted(members)), chain.rates_given(0)
                    return FoundSet(found, probability, last, place, size, all_good, if_good)
                return self._not_here(rates, probability, tallies)
            if len(members) == TOGETHER_MAX:
                why = f"more than {TOGETHER_MAX} candidates are needed together"
                return Answer(Kind.UNRESOLVED, (), probability, why)
            rates = chain.rates_given(best)
            if not members:
                place, all_good, if_good = best, chain.probability(0), chain.rates_given(0)
            nothing = aim.one_more if members else aim.alone
            member = link.pool[best - 1]
            members.append(member)
            context, bits = context | 1 << member, bits & ((1 << member) - 1)
            if aim.shape is Shape.CHAIN or not aim.confirm:
                return FoundSet(tuple(members), probability, rates, place, size, all_good, if_good)

    def _proven(self, chain: Chain, seen: Seen) -> int | None:
        """The threshold of a candidate that crashed alone: a culprit, wherever the first one is."""
        if not self._aim.confirm or chain.probability(0) > HALF:
            return None
        certain = self._aim.confidence / self._aim.error
        for leap in seen.leaps:
            if leap.crashed and chain.rates_now.odds(leap.survived, leap.crashed) >= certain:
                return leap.at
        return None

    def _not_here(self, rates: Rates, probability: float, tallies: Tallies) -> Query | Answer:
        """All good is blamed for nothing but its own crash.

        Where several candidates crash each by themselves, a chain's prior, which knows of one,
        would sooner believe that all good does.
        """
        if ALL_GOOD in tallies.skipped:
            why = f"whether all good crashes too is open: {tallies.skipped[ALL_GOOD]}"
            return Answer(Kind.UNRESOLVED, (), probability, why)
        tally = tallies.of(ALL_GOOD)
        odds = rates.odds(tally.survived, tally.crashed)
        if odds >= self._aim.confidence / self._aim.error:
            return Answer(Kind.NOT_HERE, (), probability, "all good crashes too")
        doubt = min(
            self._aim.error, odds * self._aim.error
        )  # each time it survives, it gains on it
        more = rates.survivals_for(doubt, tally.survived, tally.crashed)
        return Query(ALL_GOOD, more, Phase.SEARCH)

    def _is_settled(self, chain: Chain, *, first: bool) -> bool:
        """Whether the threshold is known.

        That all good crashes too need not be ruled out yet where the rest, without the culprit,
        will be tried anyway.
        """
        best, sure = chain.best
        aim = self._aim
        if first and best != 0 and aim.confirm and aim.shape is Shape.SET and sure >= HALF:
            sure += chain.probability(0)
        return sure >= aim.confidence

    def _lookout(self, link: Link, tallies: Tallies, apart: int | None) -> Lookout:
        key = (link.context, link.bits)
        known = self._lookouts.get(key)
        if known is None or known.tallies is not tallies:
            self._lookouts[key] = known = Lookout(link, tallies, apart)
        return known

    def _chain(self, link: Link, prior: Prior, rates: Rates, seen: Seen) -> Chain:
        key = (link.context, link.bits)
        chain = self._chains.get(key)
        if chain is None or not _is_of(chain, prior, rates, seen):
            alone = self._aim.one_more if link.context else self._aim.alone
            chain = Chain(prior, rates, seen.tests, seen.leaps, seen.same, alone)
            self._chains[key] = chain
        self.belief = Belief(link, chain)
        return chain

    def _link(self, context: int, bits: int, nothing: float) -> tuple[Link, Prior]:
        key = (context, bits, nothing)
        if key not in self._links:
            pool = tuple(index for index in range(bits.bit_length()) if bits >> index & 1)
            weights = [self._aim.weights[index] for index in pool]
            prior = Prior.of(nothing if pool else 1.0, weights)
            self._links[key] = Link(context, pool, bits), prior
        return self._links[key]

    def _move(self, chain: Chain, costs: Costs, seen: Seen) -> Move | None:
        leaps = self._aim.shape is Shape.SET and self._aim.confirm
        return best_move(chain, costs, seen.ground, leaps=leaps)

    def _stuck(self, members: list[int], link: Link, chain: Chain, tallies: Tallies) -> Answer:
        left = [link.pool[k - 1] for k, _ in chain.credible(self._aim.confidence) if k]
        together = " besides those already needed" if members else ""
        failed = len(tallies.skipped)
        why = (
            f"{len(left)} candidates{together} cannot be told apart: {failed} subsets that would "
            "do it could not be built or tested"
        )
        return Answer(Kind.UNRESOLVED, (), 1.0, why)


def _is_of(chain: Chain, prior: Prior, rates: Rates, seen: Seen) -> bool:
    """Rates are compared by identity: they hold arrays, and are made anew only if they changed."""
    return (
        chain.prior is prior
        and chain.rates is rates
        and chain.tests == seen.tests
        and chain.leaps == seen.leaps
        and chain.same == seen.same
    )
