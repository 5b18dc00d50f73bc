"""From a subset of changes to the configuration that the kernel makes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_flaky_repro.culprit.config.changes import Change, find_changes, wanted_everywhere
from pytest_flaky_repro.culprit.config.kconfig import Symbols
from pytest_flaky_repro.culprit.config.order import ordered, prerequisites
from pytest_flaky_repro.culprit.config.settling import Settled, SourceTree

FEW = 4  # changes at most that a subset can mean by leaving them out


@dataclass(frozen=True)
class Miss:
    """An option that did not take the value that was asked for."""

    option: str
    wanted: str
    got: str

    def __str__(self) -> str:
        return f"{self.option}={self.wanted} (is {self.got})"


@dataclass(frozen=True)
class Composition:
    """What became of a subset.

    ``companions`` are changes outside the subset that its members cannot be made without: they
    were made, too. ``missed`` are the options that Kconfig gave another value.
    """

    settled: Settled
    companions: tuple[str, ...]
    missed: tuple[Miss, ...]


class Mixture:
    """All configurations between a good one and a bad one, both settled."""

    def __init__(
        self, tree: SourceTree, symbols: Symbols, good: Settled, bad: Settled, scratch: Path
    ) -> None:
        self._tree = tree
        self._scratch = scratch
        before, after = good.values, bad.values
        found = find_changes(symbols, before, after)
        self.changes: Sequence[Change] = tuple(ordered(symbols, found))
        self._everywhere = wanted_everywhere(symbols, before, after)
        self._prerequisites = prerequisites(symbols, found)

    @cached_property
    def _names(self) -> list[str]:
        return [change.name for change in self.changes]

    def compose(self, names: Collection[str]) -> Composition:
        """The configuration with these changes made and no others, as Kconfig lets it be.

        A prefix of the order is asked for as it is, and so is all but a few (what depends on those
        goes with them). Any other subset brings along what its members need: the fewest further
        changes with which they take.
        """
        chosen = set(names)
        settled = self._settle(chosen)
        missed = self._missed(chosen, settled)
        stand_alone = self._is_prefix(chosen) or self._is_all_but_a_few(chosen)
        if stand_alone or not (missing := self._not_made(chosen, settled)):
            return Composition(settled, (), missed)
        companions = self._companions(chosen, missing)
        brought = tuple(name for name in self._names if name in companions)
        settled = self._settle(chosen | companions)
        return Composition(settled, brought, self._missed(chosen | companions, settled))

    def _is_prefix(self, chosen: set[str]) -> bool:
        return chosen == set(self._names[: len(chosen)])

    def _is_all_but_a_few(self, chosen: set[str]) -> bool:
        """Whether a subset means "without these", not "only these"."""
        left_out = len(self.changes) - len(chosen)
        return left_out <= FEW and left_out < len(chosen)

    def _settle(self, chosen: Collection[str]) -> Settled:
        return self._tree.settle(self.wanted(chosen), self._scratch)

    def _draft(self, chosen: Collection[str]) -> Settled:
        return self._tree.draft(self.wanted(chosen), self._scratch)

    def wanted(self, chosen: Collection[str]) -> dict[str, str]:
        """The values that are asked for."""
        values = dict(self._everywhere)
        for change in self.changes:
            for option in change.options:
                values[option.name] = option.bad if change.name in chosen else option.good
        return values

    def _missed(self, chosen: Collection[str], settled: Settled) -> tuple[Miss, ...]:
        got = settled.values
        wanted = self.wanted(chosen)
        options = [option.name for change in self.changes for option in change.options]
        return tuple(
            Miss(name, wanted[name], got.get(name, "n"))
            for name in options
            if got.get(name, "n") != wanted[name]
        )

    def _not_made(self, chosen: Iterable[str], settled: Settled) -> set[str]:
        """The chosen changes of which an option is not what it is to be."""
        got = settled.values
        return {
            change.name
            for change in self.changes
            if change.name in chosen
            and any(got.get(option.name, "n") != option.bad for option in change.options)
        }

    def _companions(self, chosen: set[str], missing: set[str]) -> set[str]:
        """A smallest set of further changes with which the missing ones are made.

        Taken from what they need, step by step away from them, until nothing more is made by
        another step; then everything is left out again that is not needed for it.
        """
        reached: set[str] = set()
        best, still = set(reached), missing
        for step in self._steps(missing, chosen):
            reached |= step
            now_missing = self._not_made(chosen, self._draft(chosen | reached))
            if len(now_missing) < len(still):
                best, still = set(reached), now_missing
            if not still:
                break

        def enough(companions: set[str]) -> bool:
            return self._not_made(chosen, self._draft(chosen | companions)) <= still

        return _smallest([name for name in self._names if name in best], enough)

    def _steps(self, starts: Iterable[str], chosen: set[str]) -> Iterator[set[str]]:
        """What has to come before ``starts``, then before that, and so on."""
        seen, front = set(chosen), set(starts)
        while front := {b for name in front for b in self._prerequisites[name]} - seen:
            seen |= front
            yield front


def _smallest(names: Sequence[str], enough: Callable[[set[str]], bool]) -> set[str]:
    """Leaves out what can be left out: halves first, then smaller pieces, at last single ones."""
    kept = list(names)
    size = max(1, len(kept) // 2)
    while kept:
        for start in range(len(kept) - size, -size, -size):
            without = kept[: max(0, start)] + kept[start + size :]
            if len(without) < len(kept) and enough(set(without)):
                kept = without
        if size == 1:
            break
        size //= 2
    return set(kept)
