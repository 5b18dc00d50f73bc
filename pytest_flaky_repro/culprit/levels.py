"""Finding one culprit set, level by level.

On the first level the chain of prefixes of all candidates has a threshold ``c``: whatever crashes
among the first ``c`` needs candidate ``c``. On the next, ``c`` is always bad and the chain is made
of those before it: its threshold 0 says that ``c`` alone is enough, any other names the next
member of a set that only crashes together (QuickXplain's argument [Junker 2004], with doubt).
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
BY_NOISE = 0.25  # of the error: that what crashes by noise alone is taken for enough (benchmarked)


@dataclass(frozen=True)
class Belief:
    """The chain that is being searched; what people are shown."""

    link: Link
    chain: Chain

    def credible(self, confidence: float) -> list[tuple[int | None, float]]:
        """Candidates (indices; None: the context is enough) that together have ``confidence``."""
        pool = self.link.pool
        return [(pool[k - 1] if k else None, p) for k, p in self.chain.credible(confidence)]


@dataclass
class _Descent:
    """Where a search of one set is: its members so far, and what is left to choose from."""

    bits: int  # the mask of what is left
    size: int  # of the first level's pool
    rates: Rates
    context: int = 0
    members: list[int] = field(default_factory=list)
    first: float = 1.0
    enough: float = 1.0
    place: int = 0
    all_good: float = 0.0
    if_good: Rates | None = None

    def go_on(self, link: Link, chain: Chain, best: int, sure: float) -> None:
        """The candidate of threshold ``best`` is a member, with the probability ``sure``."""
        if self.members:
            self.enough *= sure
        else:
            self.first, self.place = sure, best
            self.all_good, self.if_good = chain.probability(0), chain.rates_given(0)
        self.rates = chain.rates_given(best)
        member = link.pool[best - 1]
        self.members.append(member)
        self.context |= 1 << member
        self.bits &= (1 << member) - 1

    def found(self) -> FoundSet:
        return FoundSet(
            tuple(sorted(self.members)),
            self.first,
            self.rates,
            self.place,
            self.size,
            self.all_good,
            self.if_good,
            self.enough,
        )


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
        known, baseline = pool or None, rates  # the trials of ``known`` are in ``rates``
        way = _Descent(pool, pool.bit_count(), rates)
        while True:
            link, prior = self._link(way.context, way.bits, nothing)
            seen = self._lookout(link, tallies, None if way.members else known).seen()
            chain = self._chain(link, prior, way.rates, seen)
            settled = self._settled(chain, seen, first=not way.members)
            if settled is None:
                return self._ask(way, link, chain, costs, seen, tallies)
            if settled[0] == 0:
                return self._enough(way, chain, settled[1], baseline, tallies)
            if len(way.members) == TOGETHER_MAX:
                why = f"more than {TOGETHER_MAX} candidates are needed together"
                return Answer(Kind.UNRESOLVED, (), way.first * way.enough, why)
            nothing = self._aim.one_more if way.members else self._aim.alone
            way.go_on(link, chain, *settled)
            if self._aim.shape is Shape.CHAIN or not self._aim.confirm:
                return way.found()

    def _settled(self, chain: Chain, seen: Seen, *, first: bool) -> tuple[int, float] | None:
        """The threshold, once it is known, and its probability."""
        proven = self._proven(chain, seen) if first else None
        if proven is not None:
            return proven
        return chain.best if self._is_settled(chain, first=first) else None

    def _ask(
        self, way: _Descent, link: Link, chain: Chain, costs: Costs, seen: Seen, tallies: Tallies
    ) -> Query | Answer:
        move = self._move(chain, costs, seen)
        if move is None:
            return self._stuck(way.members, link, chain, tallies)
        mask = link.leap(move.at) if move.is_leap else link.prefix(move.at)
        return Query(mask, move.trials, Phase.TOGETHER if way.members else Phase.SEARCH)

    def _enough(
        self, way: _Descent, chain: Chain, sure: float, baseline: Rates, tallies: Tallies
    ) -> Query | Answer | FoundSet:
        """What is bad already is enough: a culprit set, or nothing, which is all good."""
        if not way.members:
            return self.not_here(baseline, sure, tallies)
        unproven = self._unproven(way.context, baseline, tallies)
        if unproven is not None:
            return unproven
        way.enough *= sure
        way.rates = chain.rates_given(0)
        return way.found()

    def _proven(self, chain: Chain, seen: Seen) -> tuple[int, float] | None:
        """The threshold of a candidate that crashed alone: a culprit, wherever the first one is.

        With the probability that it is enough.
        """
        if not self._aim.confirm or chain.probability(0) > HALF:
            return None
        for leap in seen.leaps:
            if leap.crashed and (sure := chain.enough_alone(leap.at)) >= self._aim.confidence:
                return leap.at, sure
        return None

    def _unproven(self, mask: int, rates: Rates, tallies: Tallies) -> Query | Answer | None:
        """More trials of a set that is believed to be enough, until they alone prove that.

        However probable it was: the prior knows nothing of how often noise will look like it.
        """
        if mask in tallies.skipped:
            return None
        tally = tallies.of(mask)
        odds = rates.odds(tally.survived, tally.crashed)
        if odds >= self._aim.confidence / (self._aim.error * BY_NOISE):
            return None
        if odds <= self._aim.error:
            why = "what was found does not crash by itself, and nothing is left that it could need"
            return Answer(Kind.UNRESOLVED, (), 0.0, why)
        more = rates.survivals_for(HALF * odds, tally.survived, tally.crashed)
        return Query(mask, more, Phase.TOGETHER)

    def not_here(self, rates: Rates, probability: float, tallies: Tallies) -> Query | Answer:
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
        return Answer(Kind.UNRESOLVED, (), chain.best[1], why)


def _is_of(chain: Chain, prior: Prior, rates: Rates, seen: Seen) -> bool:
    """Rates are compared by identity: they hold arrays, and are made anew only if they changed."""
    return (
        chain.prior is prior
        and chain.rates is rates
        and chain.tests == seen.tests
        and chain.leaps == seen.leaps
        and chain.same == seen.same
    )
