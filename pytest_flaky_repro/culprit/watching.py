"""What can be seen of a search while it runs."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from pytest_flaky_repro.culprit.aim import Phase
from pytest_flaky_repro.culprit.candidates import Subset
from pytest_flaky_repro.culprit.result import Leader, Spent


class Activity(enum.Enum):
    """What the search is doing with the subset of its view."""

    BUILDING = "building"
    BUILT = "built"
    TESTING = "testing"
    DONE = "done"


@dataclass(frozen=True)
class View:
    """Where a running search is.

    ``candidates_left``: the fewest candidates that together have the confidence. ``expected_*``
    are what is still needed, roughly, if one culprit is what is left to find. ``survived`` and
    ``crashed`` are of ``subset``'s image; ``others`` counts crashes with another signature.
    """

    phase: Phase | None
    activity: Activity
    subset: Subset | None
    survived: int
    crashed: int
    candidates_left: int
    leaders: tuple[Leader, ...]
    found: tuple[tuple[str, ...], ...]
    spent: Spent
    expected_builds: float
    expected_trials: float
    expected_s: float
    elapsed_s: float


class Watcher(Protocol):
    """Told of every build and every trial, in the thread that called ``find_culprit``."""

    def see(self, view: View) -> None: ...
