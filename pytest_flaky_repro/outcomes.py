"""The vocabulary: what a trial can come to, and what a campaign can say.

Three-way answers stay three-way: nothing here converts to a bool.
"""

from __future__ import annotations

import enum


class Outcome(enum.Enum):
    """What became of one trial (one boot, one run of the reproducer)."""

    SURVIVED = "survived"  # the END frame arrived intact and nothing crashed
    CRASHED = "crashed"  # kernel report, signal, or an exit status that is not a survival
    HUNG = "hung"  # started, then the guest stopped making progress
    LOST = "lost"  # started, but the harness lost it before any verdict
    BOOT_FAILED = "boot_failed"  # the guest never said START
    INFRASTRUCTURE = "infrastructure"  # the harness failed before START

    def __bool__(self) -> bool:
        raise TypeError("an Outcome has more than two answers: compare it by identity")

    @property
    def vote(self) -> Vote:
        """How sequential statistics may use this trial."""
        return _VOTES[self]


class Vote(enum.Enum):
    """The only three ways a trial may enter the statistics."""

    CRASH = "crash"
    SURVIVAL = "survival"
    LOST = "lost"  # counts as a survival for the crash line, as nothing for the safe line
    VOID = "void"  # never started: counts for nothing

    def __bool__(self) -> bool:
        raise TypeError("a Vote has more than two answers: compare it by identity")


_VOTES = {
    Outcome.SURVIVED: Vote.SURVIVAL,
    Outcome.CRASHED: Vote.CRASH,
    Outcome.HUNG: Vote.LOST,
    Outcome.LOST: Vote.LOST,
    Outcome.BOOT_FAILED: Vote.VOID,
    Outcome.INFRASTRUCTURE: Vote.VOID,
}


class Conclusion(enum.Enum):
    """What a campaign concludes about one kernel and one reproducer."""

    CRASHES = "crashes"
    SAFE = "safe"
    INCONCLUSIVE = "inconclusive"
    INFRASTRUCTURE = "infrastructure"

    def __bool__(self) -> bool:
        raise TypeError("a Conclusion has more than two answers: compare it by identity")
