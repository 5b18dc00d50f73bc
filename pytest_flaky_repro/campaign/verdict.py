"""What a campaign says at its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError, ReproError
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Design, Tally
from pytest_flaky_repro.stats.calibration import Calibration
from pytest_flaky_repro.stats.control import ControlCheck


@dataclass(frozen=True)
class KindCount:
    """One kind of crash: its title, how often, and the ticket of its first trial."""

    title: str
    count: int
    first: int
    expected: bool


@dataclass(frozen=True)
class Subject:
    """What a campaign is about."""

    item: str
    kernel: str
    kernel_sha256: str
    kernel_path: str
    reproducer: str
    experiment: str
    trial_time: float
    smp: int = 1


@dataclass(frozen=True)
class Verdict:
    """A conclusion with everything that it rests on.

    ``rate_lower`` and ``rate_upper`` bound the crash rate of a trial at ``design``'s confidences
    and hold at whatever point the campaign stopped. ``why`` is one clause: what ended it.
    """

    conclusion: Conclusion
    why: str
    subject: Subject
    design: Design
    min_rate_source: str
    tally: Tally
    void: int
    lost: int
    rate_lower: float
    rate_upper: float
    still_needed: int | None
    kinds: tuple[KindCount, ...]
    first_crash: Trial | None
    evidence: Path
    trials: tuple[Trial, ...]
    control: ControlCheck | None = None
    calibration: Calibration | None = None
    suggested_trial_time: float | None = None

    @property
    def crashes(self) -> int:
        return self.tally.crashes

    @property
    def intact(self) -> int:
        """Trials that ended in a crash or in an intact survival."""
        return self.tally.trials_low


def count_kinds(trials: Sequence[Trial], votes: Sequence[Vote]) -> tuple[KindCount, ...]:
    """The kinds of crash among ``trials``, the most frequent first."""
    kinds: dict[str, KindCount] = {}
    for trial, vote in zip(trials, votes, strict=True):
        if trial.outcome not in (Outcome.CRASHED, Outcome.HUNG):
            continue
        title = trial.title or trial.outcome.value
        seen = kinds.get(title)
        kinds[title] = KindCount(
            title,
            count=(seen.count if seen else 0) + 1,
            first=seen.first if seen else trial.ticket,
            expected=vote is Vote.CRASH,
        )
    return tuple(sorted(kinds.values(), key=lambda kind: (-kind.count, kind.first)))


class CampaignError(ReproError):
    """A campaign's verdict, raised; ``verdict`` has everything it rests on."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


class KernelCrashed(CampaignError):
    """The reproducer crashes on this kernel."""


class Inconclusive(CampaignError):
    """Neither *crashes* nor *safe* could be said within the budget."""


class CampaignInfrastructureError(CampaignError, InfrastructureError):
    """Too much of the campaign was lost to the harness for any verdict."""
