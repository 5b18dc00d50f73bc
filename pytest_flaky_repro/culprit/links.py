"""Chains of subsets, as masks: a context that is always bad, and a pool taken in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_flaky_repro.culprit.tallies import Tallies, Tally
from pytest_flaky_repro.stats.search.chain import Counts
from pytest_flaky_repro.stats.search.planning import Ground


@dataclass(frozen=True)
class Link:
    """Prefix ``j`` is the ``context`` and the first ``j`` of ``pool``.

    The pool holds indices, ascending; ``bits`` is the mask of all of it.
    """

    context: int
    pool: tuple[int, ...]
    bits: int

    @classmethod
    def of(cls, context: int, pool: tuple[int, ...]) -> Link:
        return cls(context, pool, sum(1 << index for index in pool))

    def prefix(self, j: int) -> int:
        """The mask of prefix ``j``."""
        if j == 0:
            return self.context
        return self.context | self.bits & ((1 << (self.pool[j - 1] + 1)) - 1)

    def leap(self, threshold: int) -> int:
        """The mask of the context with the candidate of this threshold alone added."""
        return self.context | 1 << self.pool[threshold - 1]

    def place(self, mask: int) -> int | None:
        """``j`` if the mask is prefix ``j``."""
        if mask & self.context != self.context:
            return None
        rest = mask ^ self.context
        if rest != self.bits & ((1 << rest.bit_length()) - 1):
            return None
        return rest.bit_count()

    def covered(self, mask: int) -> int | None:
        """The longest prefix that lies within the mask: if the mask survives, so does that."""
        if mask & self.context != self.context:
            return None
        missing = self.bits & ~mask
        return (self.bits & ((missing & -missing) - 1)).bit_count() if missing else len(self.pool)

    def leap_place(self, mask: int) -> int | None:
        """``k`` if the mask is the leap to threshold ``k``, and no prefix."""
        rest = mask ^ self.context
        if mask & self.context != self.context or rest.bit_count() != 1 or not rest & self.bits:
            return None
        k = (self.bits & (rest - 1)).bit_count() + 1
        return k if k > 1 else None


@dataclass(frozen=True)
class Seen:
    """What tallies say of one link. Each image's trials are counted once.

    Any subset that contains a prefix and never crashed speaks for that prefix's survival, too; a
    subset that contains none, or that crashed, says nothing about the link's threshold.
    """

    tests: tuple[Counts, ...]
    leaps: tuple[Counts, ...]
    same: tuple[tuple[int, int], ...]
    ground: Ground

    @classmethod
    def of(cls, link: Link, tallies: Tallies, apart: int | None) -> Seen:
        """``apart`` is a mask whose trials are known from elsewhere: the baseline's."""
        return Lookout(link, tallies, apart).seen()


@dataclass
class Witness:
    """An image, and where it stands on a link: on prefixes, on leaps, or with a prefix inside."""

    tally: Tally
    masks: int
    prefixes: tuple[int, ...]
    leaps: tuple[int, ...]
    counts: Counts | None  # as they were when last asked; None: it has nothing to say

    @classmethod
    def of(cls, link: Link, tally: Tally, masks: Sequence[int], apart: int | None) -> Witness:
        prefixes = [place for mask in masks if (place := link.place(mask)) is not None]
        leaps = [place for mask in masks if (place := link.leap_place(mask)) is not None]
        within = [place for mask in masks if (place := link.covered(mask)) is not None]
        at = max(prefixes) if prefixes else leaps[0] if leaps else max(within, default=None)
        counts = None if at is None or apart in masks else Counts(at, 0, 0)
        return cls(tally, len(masks), tuple(prefixes), tuple(leaps), counts)

    def now(self) -> Counts | None:
        """Its trials, if there are any that say something."""
        tally, counts = self.tally, self.counts
        if counts is None:
            return None
        if tally.survived != counts.survived or tally.crashed != counts.crashed:
            self.counts = counts = Counts(counts.at, tally.survived, tally.crashed)
        if tally.crashed and not (self.prefixes or self.leaps):
            return None
        return counts if tally.survived or tally.crashed else None


class Lookout:
    """Sees tallies from one link: where images stand is found once, then only counts are read."""

    def __init__(self, link: Link, tallies: Tallies, apart: int | None) -> None:
        self.tallies = tallies
        self._link = link
        self._apart = apart
        self._growth = -1
        self._witnesses: dict[str, Witness] = {}
        self._tests: list[Witness] = []
        self._leaps: list[Witness] = []
        self._seen = Seen((), (), (), Ground())

    def seen(self) -> Seen:
        """What the tallies say now; the same object as before if that is nothing new."""
        before = self._seen
        if is_grown := self._growth != self.tallies.growth:
            self._look_around()
        tests = tuple([counts for each in self._tests if (counts := each.now())])
        leaps = tuple([counts for each in self._leaps if (counts := each.now())])
        if is_grown:
            self._seen = Seen(tests, leaps, self._same(), self._ground())
        elif tests != before.tests or leaps != before.leaps:
            self._seen = Seen(tests, leaps, before.same, before.ground)
        return self._seen

    def _look_around(self) -> None:
        """Something was built or skipped."""
        tallies, known = self.tallies, self._witnesses
        self._growth = tallies.growth
        for image, masks in tallies.masks.items():
            if image not in known or known[image].masks != len(masks):
                tally = tallies.images[image]
                known[image] = Witness.of(self._link, tally, masks, self._apart)
        speaking = [each for each in known.values() if each.counts is not None]
        self._leaps = [each for each in speaking if each.leaps and not each.prefixes]
        self._tests = [each for each in speaking if each.prefixes or not each.leaps]

    def _same(self) -> tuple[tuple[int, int], ...]:
        several = (each.prefixes for each in self._witnesses.values() if len(each.prefixes) > 1)
        return tuple((min(prefixes), max(prefixes)) for prefixes in several)

    def _ground(self) -> Ground:
        built: set[int] = set()
        leaps_built: set[int] = set()
        no_leaps: set[int] = set()
        for each in self._witnesses.values():
            if each.prefixes:
                built.update(each.prefixes)
                no_leaps.update(each.leaps)  # as a prefix: what there is to learn is learned there
            elif each.leaps:
                leaps_built.update(each.leaps)
                no_leaps.update(each.leaps[1:])  # the same image: once is enough
        skipped = self.tallies.skipped
        return Ground(
            frozenset(built),
            frozenset(j for mask in skipped if (j := self._link.place(mask)) is not None),
            frozenset(leaps_built),
            frozenset(no_leaps).union(
                k for mask in skipped if (k := self._link.leap_place(mask)) is not None
            ),
        )
