"""The hash scheme: one kernel for each of 32 bits of the candidates' SHA-1, for comparison.

Kernel ``i`` has bad what has bit ``i`` set in the SHA-1 of its name. A crash says that the culprit
has the bit, survivals say the contrary; 32 bits name it. It needs no order and no adaptive builds
(a wrapper that sees one name at a time can do it), but 32 bits leave some pairs of names apart by
too few bits, and it believes in one culprit. Here the trials are weighed as everywhere else, and
the answer is confirmed as everywhere else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from pytest_flaky_repro.culprit.aim import Aim, Answer, FoundSet, Phase, Query
from pytest_flaky_repro.culprit.levels import ALL_GOOD, Belief
from pytest_flaky_repro.culprit.links import Link
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.strategy import Strategy
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.stats.search.planning import Costs
from pytest_flaky_repro.stats.search.rates import Rates
from pytest_flaky_repro.stats.search.suspects import Suspects, Trials

BITS = 32
PASSES = 4
PATIENCE = 0.95


def hash_masks(names: Sequence[str]) -> list[int]:
    """For each of 32 bits the mask of the candidates that have it set in their SHA-1."""
    digests = [int.from_bytes(hashlib.sha1(n.encode()).digest()[:4], "big") for n in names]  # noqa: S324 - no secret: the scheme is defined by it
    return [
        sum(1 << index for index, digest in enumerate(digests) if digest >> (BITS - 1 - bit) & 1)
        for bit in range(BITS)
    ]


class HashStrategy(Strategy):
    """Asks all good, then the 32 subsets one after the other, in up to four passes; confirms."""

    def __init__(self, aim: Aim, names: Sequence[str]) -> None:
        super().__init__(aim)
        self._masks = hash_masks(names)
        self._suspects: Suspects | None = None

    @property
    def belief(self) -> Belief | None:
        if self._suspects is None:
            return None
        pool = tuple(range(len(self._aim.weights)))
        return Belief(Link.of(0, pool), self._suspects.as_chain())

    def _find(
        self, pool: int, rates: Rates, tallies: Tallies, costs: Costs, nothing: float
    ) -> Query | FoundSet | Answer:
        del costs, nothing
        if not pool or self._may_be_all_good(rates, tallies):
            return self._levels.not_here(rates, 1.0, tallies)
        suspects = self._suspects = self._weigh(pool, rates, tallies)
        best, sure = suspects.best
        if sure >= self._aim.confidence:
            return self._alone(best, sure, suspects.rates_given(best), pool.bit_count(), tallies)
        each = max(1, rates.survivals_for(1 - PATIENCE))
        for turn in range(1, PASSES + 1):
            for mask in self._masks:
                tally = tallies.of(mask & pool)
                if mask & pool in tallies.skipped or tally.crashed:
                    continue
                if tally.survived < turn * each:
                    return Query(mask & pool, turn * each - tally.survived, Phase.SEARCH)
        why = f"{PASSES} passes over the {BITS} subsets leave more than one candidate, or none"
        return Answer(Kind.UNRESOLVED, (), sure, why)

    def _may_be_all_good(self, rates: Rates, tallies: Tallies) -> bool:
        """Asked first: no bit of a name would tell."""
        tally = tallies.of(ALL_GOOD)
        is_open = rates.odds(tally.survived, tally.crashed) > self._aim.error
        return is_open and ALL_GOOD not in tallies.skipped

    def _weigh(self, pool: int, rates: Rates, tallies: Tallies) -> Suspects:
        trials = []
        for mask in dict.fromkeys(mask & pool for mask in self._masks):
            tally = tallies.of(mask)
            if tally.trials:
                members = [bool(mask >> index & 1) for index in range(len(self._aim.weights))]
                trials.append(Trials(members, tally.survived, tally.crashed))
        weights = [w if pool >> i & 1 else 0.0 for i, w in enumerate(self._aim.weights)]
        return Suspects(weights, rates, trials)

    def _alone(
        self, best: int, sure: float, rates: Rates, size: int, tallies: Tallies
    ) -> Query | FoundSet | Answer:
        """The named candidate has to crash alone; otherwise the hash was led astray."""
        mask = 1 << best
        tally = tallies.of(mask)
        if mask in tallies.skipped:
            why = f"the named candidate alone cannot be built or tested: {tallies.skipped[mask]}"
            return Answer(Kind.UNRESOLVED, (), sure, why)
        if rates.odds(tally.survived, tally.crashed) >= self._aim.confidence / self._aim.error:
            return FoundSet((best,), sure, rates, 0, size)
        need = rates.survivals_for(self._aim.error, tally.survived, tally.crashed)
        if need:
            return Query(mask, need, Phase.TOGETHER)
        why = "the candidate that the hashes name does not crash alone: there is more than one"
        return Answer(Kind.UNRESOLVED, (), sure, why)
