"""When trials ran, and beside which others: bars on lanes, or columns where there are many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.report.runs import Run, moment


@dataclass(frozen=True)
class Bar:
    """One trial: seconds since its run's first launch, and the lane that was free for it."""

    number: int
    begin: float
    end: float
    lane: int
    vote: Vote
    control: bool


@dataclass(frozen=True)
class Column:
    """What ended in one stretch of time, by vote."""

    begin: float
    end: float
    counts: dict[Vote, int]


def bars_of(runs: Sequence[tuple[Run, Sequence[Vote]]]) -> list[Bar]:
    """All trials of the runs; the lanes of each run lie above those of the one before."""
    bars: list[Bar] = []
    below = 0
    for run, votes in runs:
        own = _bars(run, votes, below)
        bars += own
        below = max((bar.lane for bar in own), default=below - 1) + 1
    return bars


def _bars(run: Run, votes: Sequence[Vote], below: int) -> list[Bar]:
    timed = [
        (*_times(run, trial), trial, vote) for trial, vote in zip(run.trials, votes, strict=True)
    ]
    if not timed:
        return []
    origin = min(begin for begin, _, _, _ in timed)
    free: list[float] = []  # when each lane is free again
    bars = []
    for begin, end, trial, vote in sorted(timed, key=lambda each: (each[0], each[2].ticket)):
        lane = next((i for i, until in enumerate(free) if until <= begin + 0.05), len(free))
        if lane == len(free):
            free.append(end)
        free[lane] = end
        control = trial.arm == "control"
        bars.append(Bar(trial.number, begin - origin, end - origin, below + lane, vote, control))
    return bars


def _times(run: Run, trial: Trial) -> tuple[float, float]:
    """When a trial was launched and when it ended, on the host's clock."""
    started = moment(trial.started) if trial.started else None
    begin = run.launched.get(trial.ticket)
    if begin is None:
        begin = (started or 0.0) - trial.boot_s
    end = run.ended.get(trial.ticket)
    if end is None:  # an older record: the guest's own clock may run faster than the host's
        end = begin + trial.boot_s if started is None else started + trial.exposure_s
    return begin, max(end, begin)


def columns_of(bars: Sequence[Bar], most: int) -> list[Column]:
    """At most so many stretches of equal length, and how the trials that ended in each voted."""
    last = max((bar.end for bar in bars), default=0.0)
    width = max(last / most, 1e-9)
    counts: list[dict[Vote, int]] = [{} for _ in range(most)]
    for bar in bars:
        column = counts[min(most - 1, int(bar.end / width))]
        column[bar.vote] = column.get(bar.vote, 0) + 1
    return [Column(i * width, (i + 1) * width, column) for i, column in enumerate(counts)]
