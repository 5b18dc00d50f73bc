"""What a sub-command of ``flaky-repro culprit`` hands over to the search."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_flaky_repro.culprit.building import Builder
from pytest_flaky_repro.culprit.result import Result
from pytest_flaky_repro.culprit.testing import Tester


@dataclass(frozen=True)
class Section:
    """More of a report: ``lines`` for people, ``data`` for ``--json``."""

    heading: str
    lines: Sequence[str]
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Backend:
    """One way of building, ready to search.

    ``title`` names the search: its evidence's folder is called after it. Without a ``tester``
    trials run in guests, with ``--reproducer`` on the image's kernel. ``afterwards`` adds what can
    be said once the culprit is known. ``deeper`` may name another search that a single culprit
    asks for (a merge: what did it merge?); its result is the last word.
    """

    builder: Builder
    title: str
    tester: Tester | None = None
    afterwards: Callable[[Result], Sequence[Section]] | None = None
    deeper: Callable[[Result], Backend | None] | None = None


def say(text: str) -> None:
    """A line for whoever waits, before and beside the report."""
    print(text, file=sys.stderr, flush=True)
