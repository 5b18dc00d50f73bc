"""What may be to blame: candidates in one fixed order, and subsets of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_flaky_repro.errors import UsageError


@dataclass(frozen=True)
class Candidate:
    """One thing that differs between the good and the bad build: an object, an option, a commit.

    ``weight`` is its prior share of the blame, relative to the others' (a size of the difference,
    say); ``detail`` is shown beside its name.
    """

    name: str
    weight: float = 1.0
    detail: str = ""


@dataclass(frozen=True)
class Subset:
    """Which candidates are bad in one build; all others are good. Bit ``i`` is candidate ``i``."""

    universe: Universe
    mask: int

    @property
    def names(self) -> tuple[str, ...]:
        """The bad candidates' names, in the universe's order."""
        return tuple(candidate.name for candidate in self.candidates)

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(self.universe[index] for index in self.indices())

    def indices(self) -> Iterator[int]:
        """The bad candidates' numbers, ascending."""
        return (index for index in range(len(self.universe)) if self.mask >> index & 1)

    @property
    def prefix(self) -> int | None:
        """``j`` if exactly the first ``j`` candidates are bad, else None."""
        length = self.mask.bit_length()
        return length if self.mask == (1 << length) - 1 else None

    def __len__(self) -> int:
        return self.mask.bit_count()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.mask >> self.universe.index(name) & 1)

    def __str__(self) -> str:
        """For people: ``all bad``, ``the first 12 of 40``, ``only a, b``, ``all but c``."""
        if self.universe.describe is not None:
            return self.universe.describe(self)
        total, size = len(self.universe), len(self)
        if size in (0, total):
            return "all good" if size == 0 else "all bad"
        if size <= 3:
            return f"only {', '.join(self.names)}"
        if total - size <= 3:
            others = Subset(self.universe, self.universe.everything ^ self.mask)
            return f"all but {', '.join(others.names)}"
        if self.prefix is not None:
            return f"the first {size} of {total}"
        return f"{size} of {total}"


class Universe(Sequence[Candidate]):
    """All candidates, in the order in which the search's chain of prefixes takes them."""

    def __init__(
        self,
        candidates: Iterable[Candidate],
        describe: Callable[[Subset], str] | None = None,
    ) -> None:
        self._candidates = tuple(candidates)
        self.describe = describe  # a backend's own words for a subset
        self._numbers = {c.name: number for number, c in enumerate(self._candidates)}
        twice = [n for n, times in Counter(c.name for c in self._candidates).items() if times > 1]
        if twice:
            raise UsageError(f"two candidates are called {twice[0]!r}: their names have to differ")
        if not self._candidates:
            raise UsageError(
                "there are no candidates: nothing differs between the good and the bad variant"
            )
        light = [c.name for c in self._candidates if not c.weight > 0]
        if light:
            raise UsageError(f"candidate {light[0]!r}: expected a weight above 0")

    def __getitem__(self, index: int) -> Candidate:  # type: ignore[override]  # no slices needed
        return self._candidates[index]

    def __len__(self) -> int:
        return len(self._candidates)

    def index(self, name: str) -> int:  # type: ignore[override]  # by name: what people have
        """The number of the candidate with this name. UsageError when there is none."""
        if name not in self._numbers:
            raise UsageError(f"{name!r} is not among the {len(self)} candidates")
        return self._numbers[name]

    @property
    def everything(self) -> int:
        """The mask of *all bad*."""
        return (1 << len(self)) - 1

    @property
    def digest(self) -> str:
        """Identifies names and order; masks of another digest mean other candidates."""
        names = "\0".join(candidate.name for candidate in self._candidates)
        return hashlib.sha256(names.encode()).hexdigest()

    def subset(self, names: Iterable[str]) -> Subset:
        return Subset(self, sum(1 << index for index in {self.index(name) for name in names}))
