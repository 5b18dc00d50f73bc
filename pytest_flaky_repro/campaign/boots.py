"""Boots that trials share: which trial goes where, and what a boot as a whole says.

The unit of all statistics is the boot. With one trial a boot the two are the same; with more, a
boot's trials are written down one by one, and the goal is told of the boot.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.machine.trial import Fault
from pytest_flaky_repro.outcomes import Outcome, Vote


class Counting(enum.Enum):
    """When a boot without a crash has survived."""

    FIRST = "first"  # one intact trial is enough: what more it took proves nothing further
    WHOLE = "whole"  # it took all its trials, or its kernel became unfit for another one


@dataclass(frozen=True)
class Sharing:
    """How trials share boots. ``size``: trials of one boot at most; 1 is a boot a trial."""

    size: int = 1
    counting: Counting = Counting.FIRST
    side_by_side: bool = False  # several threads may run trials of one boot
    thrifty: bool = False  # a boot is left once its further trials took as long as the first did

    @property
    def whole(self) -> bool:
        """Whether a boot votes as a whole, and one lost trial is a lost boot."""
        return self.size > 1 and self.counting is Counting.WHOLE


@dataclass(frozen=True)
class Finished:
    """A trial that has ended, and what the loop has to know beside its record."""

    trial: Trial
    fault: Fault = Fault.NONE
    lost_with: str = ""
    took_s: float = 0.0  # all of it: boot or restore, run, and QEMU's start and end


@dataclass
class Boot:
    """One boot of a running campaign; ``number`` counts boots in launch order."""

    number: int
    name: str
    arm: int
    drawn: int = 0
    running: int = 0
    closed: bool = False
    has_started: bool = False
    taken: int = 0  # results that the leading thread has looked at
    results: list[Finished] = field(default_factory=list)
    first_s: float = 0.0  # the first trial, for which the boot was made, and all further ones
    further_s: float = 0.0

    @property
    def is_done(self) -> bool:
        return self.closed and not self.running and self.taken == len(self.results)

    def add(self, result: Finished, vote: Vote, spent: str, sharing: Sharing) -> None:
        """Notes a trial's end; anything but a survival ends the boot, and so may its kernel."""
        trial = result.trial
        self.results.append(result)
        self.running -= 1
        if trial.place == 1:
            self.first_s = result.took_s
        else:
            self.further_s += result.took_s
        costly = sharing.thrifty and self.further_s >= self.first_s
        full = self.drawn >= sharing.size
        if vote is not Vote.SURVIVAL or spent or costly or full:
            self.closed = True

    def judge(self, vote_of: Callable[[Trial], Vote], sharing: Sharing) -> tuple[Trial, Vote]:
        """The trial that decided, and the boot's vote."""
        trials = sorted((r.trial for r in self.results), key=lambda trial: trial.ticket)
        return judge_boot(trials, [vote_of(trial) for trial in trials], sharing)


def boot_name(seed: str, number: int) -> str:
    """A boot's id: the same for the same campaign seed, another for every other."""
    return hashlib.sha256(f"{seed} boot {number}".encode()).hexdigest()[:16]


def judge_boot(
    trials: Sequence[Trial], votes: Sequence[Vote], sharing: Sharing
) -> tuple[Trial, Vote]:
    """What a boot says, and which of its trials said it.

    A crash is a crash. Without one, a boot survived as ``sharing.counting`` has it; one that was
    cut short from outside is lost, and one in which nothing started is void.
    """
    if sharing.size == 1:
        return trials[0], votes[0]
    pairs = list(zip(trials, votes, strict=True))
    for trial, vote in pairs:
        if vote is Vote.CRASH:
            return trial, vote
    for trial, vote in pairs:
        if vote is Vote.LOST and sharing.counting is Counting.WHOLE:
            return trial, vote
    intact = [trial for trial, vote in pairs if vote is Vote.SURVIVAL]
    if not intact:
        lost = [trial for trial, vote in pairs if vote is Vote.LOST]
        return (lost[0], Vote.LOST) if lost else (trials[-1], Vote.VOID)
    unfit = any(trial.spent and trial.outcome is Outcome.SURVIVED for trial in intact)
    if sharing.counting is Counting.FIRST or len(intact) >= sharing.size or unfit:
        return intact[-1], Vote.SURVIVAL
    return intact[-1], Vote.LOST


def boots_of(trials: Iterable[Trial], sharing: Sharing) -> list[list[Trial]]:
    """The trials of earlier runs by boot, boots in the order of their first trials."""
    if sharing.size == 1:
        return [[trial] for trial in trials]
    boots: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: trial.ticket):
        boots.setdefault(trial.boot or f"unknown {trial.ticket}", []).append(trial)
    return list(boots.values())
