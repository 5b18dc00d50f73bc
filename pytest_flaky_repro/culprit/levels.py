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
from pytest_flaky_repro.culprit.links import Link, Seen
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.stats.search.chain import Chain, Prior
from pytest_flaky_repro.stats.search.planning import Costs, Move, best_move
from pytest_flaky_repro.stats.search.rates import Rates

HALF = 0.5
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
        self._links: dict[tuple[int, tuple[int, ...], float], tuple[Link, Prior]] = {}
        self._chains: dict[tuple[int, int], tuple[object, Chain]] = {}
        self._masks: dict[tuple[int, ...], int] = {}
        self.belief: Belief | None = None

    def find(
        self,
        pool: tuple[int, ...],
        rates: Rates,
        tallies: Tallies,
        costs: Costs,
        nothing: float,
    ) -> Query | FoundSet | Answer:
        """The next query for one culprit set in ``pool``, which is known to crash; or the set."""
        aim, whole = self._aim, pool
        members: list[int] = []
        probability, place, prior, all_good, if_good = 1.0, 0, nothing, 0.0, rates
        known = None if not pool else self._mask(pool)  # its trials are in ``rates``
        while True:
            link, chain, seen = self._chain(members, pool, rates, tallies, prior, known)
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
                    last = chain.rates_given(0)
                    return FoundSet(
                        tuple(sorted(members)),
                        probability,
                        last,
                        place,
                        len(whole),
                        all_good,
                        if_good,
                    )
                return Answer(Kind.NOT_HERE, (), probability, "all good crashes too")
            if len(members) == TOGETHER_MAX:
                why = f"more than {TOGETHER_MAX} candidates are needed together"
                return Answer(Kind.UNRESOLVED, (), probability, why)
            rates = chain.rates_given(best)
            if not members:
                place, all_good, if_good = best, chain.probability(0), chain.rates_given(0)
            prior = aim.one_more if members else aim.alone
            members.append(pool[best - 1])
            pool = pool[: best - 1]
            if aim.shape is Shape.CHAIN or not aim.confirm:
                return FoundSet(
                    tuple(members), probability, rates, place, len(whole), all_good, if_good
                )

    def _mask(self, pool: tuple[int, ...]) -> int:
        if pool not in self._masks:
            self._masks[pool] = sum(1 << index for index in pool)
        return self._masks[pool]

    def _proven(self, chain: Chain, seen: Seen) -> int | None:
        """The threshold of a candidate that crashed alone: a culprit, wherever the first one is."""
        if not self._aim.confirm or chain.probability(0) > HALF:
            return None
        certain = self._aim.confidence / self._aim.error
        for leap in seen.leaps:
            if leap.crashed and chain.rates_now.odds(leap.survived, leap.crashed) >= certain:
                return leap.at
        return None

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

    def _chain(
        self,
        members: list[int],
        pool: tuple[int, ...],
        rates: Rates,
        tallies: Tallies,
        nothing: float,
        known: int | None,
    ) -> tuple[Link, Chain, Seen]:
        link, prior = self._link(sum(1 << m for m in members), pool, nothing)
        seen = Seen.of(link, tallies, None if members else known)
        state = (seen.tests, seen.leaps, seen.same, nothing, rates)
        key = (link.context, link.bits)
        before = self._chains.get(key)
        if before is not None and _equal(before[0], state):
            chain = before[1]
        else:
            alone = self._aim.one_more if members else self._aim.alone
            chain = Chain(prior, rates, seen.tests, seen.leaps, seen.same, alone)
            self._chains[key] = (state, chain)
        self.belief = Belief(link, chain)
        return link, chain, seen

    def _link(self, context: int, pool: tuple[int, ...], nothing: float) -> tuple[Link, Prior]:
        key = (context, pool, nothing)
        if key not in self._links:
            weights = [self._aim.weights[index] for index in pool]
            prior = Prior.of(nothing if pool else 1.0, weights)
            self._links[key] = Link.of(context, pool), prior
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


def _equal(a: object, b: tuple[object, ...]) -> bool:
    """Rates are compared by identity: they hold arrays, and are made anew only if they changed."""
    return (
        isinstance(a, tuple)
        and a[-1] is b[-1]
        and all(x == y for x, y in zip(a[:-1], b[:-1], strict=True))
    )
