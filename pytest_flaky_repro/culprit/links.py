"""Chains of subsets, as masks: a context that is always bad, and a pool taken in order."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flaky_repro.culprit.tallies import Tallies
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
        tests, leaps, same = [], [], []
        built: set[int] = set()
        leaps_built: set[int] = set()
        no_leaps: set[int] = set()
        for image, masks in tallies.masks.items():
            tally = tallies.images[image]
            counts = tally.trials > 0 and apart not in masks
            places = [place for mask in masks if (place := link.place(mask)) is not None]
            jumps = [place for mask in masks if (place := link.leap_place(mask)) is not None]
            if places:
                built.update(places)
                no_leaps.update(jumps)  # as a prefix: what there is to learn is learned there
                if len(places) > 1:
                    same.append((min(places), max(places)))
                if counts:
                    tests.append(Counts(max(places), tally.survived, tally.crashed))
                continue
            leaps_built.update(jumps)
            no_leaps.update(jumps[1:])  # the same image: once is enough
            if counts and jumps:
                leaps.append(Counts(jumps[0], tally.survived, tally.crashed))
            elif counts and not tally.crashed:
                within = [place for mask in masks if (place := link.covered(mask)) is not None]
                tests += [Counts(max(within), tally.survived, 0)] if within else []
        ground = Ground(
            built,
            {place for mask in tallies.skipped if (place := link.place(mask)) is not None},
            leaps_built,
            no_leaps
            | {place for mask in tallies.skipped if (place := link.leap_place(mask)) is not None},
        )
        return cls(tuple(tests), tuple(leaps), tuple(same), ground)
