"""The crash a test expects: what ``repro.check(..., crash=...)`` compares a trial with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from .ending import Reading


@dataclass(frozen=True)
class Signature:
    """A pattern searched for in a crash's title and alternates, or a set of exact titles."""

    pattern: re.Pattern[str] | None = None
    titles: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str, source: str = "crash=") -> Signature:
        """Read a regular expression (``re.search`` semantics) of the marker or of ``check``."""
        try:
            return cls(re.compile(text))
        except re.error as error:
            raise UsageError(
                f"{source}: expected a regular expression for a crash title, saw {text!r}:"
                f" {error}; escape brackets and other special characters with a backslash"
            ) from error

    @classmethod
    def of(cls, reading: Reading) -> Signature:
        """The signature of a crash that was seen: its title and alternates."""
        return cls(titles=frozenset({reading.title, *reading.alternates}))

    def __str__(self) -> str:
        """What the user wrote: the expression, or the titles."""
        if self.pattern is not None:
            return self.pattern.pattern
        return " | ".join(sorted(self.titles))

    def matches(self, reading: Reading) -> bool:
        """Whether a trial crashed in the expected way."""
        if reading.outcome is not Outcome.CRASHED:
            return False
        names = {reading.title, *reading.alternates}
        if not self.titles.isdisjoint(names):
            return True
        return self.pattern is not None and any(self.pattern.search(name) for name in names)
