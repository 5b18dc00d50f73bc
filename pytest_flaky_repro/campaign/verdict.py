"""What a campaign says at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_flaky_repro.campaign.boots import Sharing, boots_of
from pytest_flaky_repro.campaign.rules import CUT_SHORT
from pytest_flaky_repro.errors import InfrastructureError, ReproError
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.machine.conversation import STOPPED
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Design, Tally, statement
from pytest_flaky_repro.stats.calibration import Calibration
from pytest_flaky_repro.stats.clusters import (
    Basis,
    Cluster,
    Correlation,
    correlation_of,
    is_worth_it,
    least_trial_rate,
)
from pytest_flaky_repro.stats.control import ControlCheck
from pytest_flaky_repro.stats.duration import Advice

CALIBRATION = "calibration"  # the source of the minimum rate of who only learns one
VoteOf = Callable[[Trial], Vote]


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
class BootTerms:
    """How trials share boots, and what a boot is taken to prove; ``asked`` is of trials."""

    how: str
    sharing: Sharing
    basis: Basis
    asked: Design
    assumed: float = 1.0  # the largest correlation, as the user vouches for it


@dataclass(frozen=True)
class SharedBoots:
    """Of a verdict whose trials shared boots: then its ``tally`` and ``design`` speak of boots.

    ``asked`` is the question about trials, ``trials`` their tally; ``boot_s`` and ``trial_s`` are
    the mean seconds that a boot and a trial in it took.
    """

    how: str
    size: int
    basis: Basis
    asked: Design
    trials: Tally
    correlation: Correlation
    boot_s: float
    trial_s: float
    assumed: float = 1.0  # the largest correlation, as the user vouches for it

    @property
    def is_worth_it(self) -> bool:
        """Whether, by what was seen, sharing boots is cheaper than cold boots are."""
        seen = self.trials
        if not seen.crashes or not self.boot_s:
            return True
        rate = min(0.999, seen.crashes / seen.trials_low)
        alike = self.correlation.estimate
        return is_worth_it(rate, alike, self.size, self.boot_s, self.trial_s)


@dataclass(frozen=True)
class Verdict:
    """A conclusion with everything that it rests on.

    ``rate_lower`` and ``rate_upper`` bound the crash rate of a trial at ``design``'s confidences
    and hold at whatever point the campaign stopped; where trials shared boots, the upper one is
    of boots. ``why`` is one clause: what ended it. ``void`` and ``lost`` are the harness's trials:
    those that we stopped ourselves are in neither.
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
    trials: tuple[Trial, ...] = field(repr=False)
    control: ControlCheck | None = None
    shared: SharedBoots | None = None
    note: str = ""  # on how trials got their guests, where that is not what was asked for
    calibration: Calibration | None = None
    unknown: int = 0  # launched before a crash that decided at once, and not waited for
    advice: Advice | None = None  # on the trial time, from a calibration
    earlier: int | None = None  # trials that a run before this one left; None: not asked for

    def __str__(self) -> str:
        """One line: the word, what it is about, and what ended it."""
        said = statement.word(self.conclusion, self.design, self.tally)
        return f"{said} {statement.printable(f'{self.subject.item}: {self.why}')}"

    @property
    def crashes(self) -> int:
        return self.tally.crashes

    @property
    def calibrates(self) -> bool:
        """Whether it is about a known-bad kernel, to learn how often that crashes."""
        return self.min_rate_source == CALIBRATION

    @property
    def intact(self) -> int:
        """Trials that ended in a crash or in an intact survival."""
        return self.tally.trials_low

    @property
    def unit(self) -> str:
        """What the tally counts: trials, or the boots that trials shared."""
        return "trials" if self.shared is None else "boots"


def of_arm(
    trials: Sequence[Trial], votes: Sequence[Vote], arm: str
) -> tuple[list[Trial], list[Vote]]:
    """One arm's trials among those of a loop, and their votes."""
    pairs = [(t, v) for t, v in zip(trials, votes, strict=True) if t.arm == arm]
    return [trial for trial, _ in pairs], [vote for _, vote in pairs]


def wasted(trials: Iterable[Trial], votes: Iterable[Vote]) -> tuple[int, int]:
    """How many trials the harness lost, and how many it never started.

    What we stopped ourselves, or an interrupted run left behind, is no failure of the harness.
    """
    pairs = zip(trials, votes, strict=True)
    own = [vote for trial, vote in pairs if trial.detail not in CUT_SHORT]
    return own.count(Vote.LOST), own.count(Vote.VOID)


def not_waited_for(trials: Sequence[Trial]) -> int:
    """How many of one run's trials were stopped though later ones had ended: what a crash left out.

    Those that had started are among the lost, too: the lower bound is the more careful for it.
    """
    last = max((trial.ticket for trial in trials if trial.detail not in CUT_SHORT), default=-1)
    return sum(trial.detail == STOPPED and trial.ticket < last for trial in trials)


def with_boots(verdict: Verdict, terms: BootTerms, vote_of: VoteOf) -> Verdict:
    """The verdict on boots, with what they show, and the lower bound that they set for trials."""
    trials = [trial for trial in verdict.trials if trial.arm == "test"]
    lower = least_trial_rate(verdict.rate_lower, terms.sharing.size)
    return replace(verdict, rate_lower=lower, shared=shared_boots(trials, terms, vote_of))


def shared_boots(trials: Sequence[Trial], terms: BootTerms, vote_of: VoteOf) -> SharedBoots:
    """What the boots of trials show beside their votes."""
    boots = boots_of(trials, terms.sharing)
    clusters, first, further = [], [], []
    for boot in boots:
        votes = [vote_of(trial) for trial in boot]
        crashes = votes.count(Vote.CRASH)
        clusters.append(Cluster(crashes, crashes + votes.count(Vote.SURVIVAL)))
        first += [trial.boot_s for trial in boot if trial.place == 1 and trial.started]
        further += [t.boot_s * (t.place > 1) + t.exposure_s for t in boot if t.started]
    return SharedBoots(
        how=terms.how,
        size=terms.sharing.size,
        basis=terms.basis,
        asked=terms.asked,
        trials=Tally.of(vote_of(trial) for trial in trials),
        correlation=correlation_of(clusters, terms.asked.confidence_safe),
        boot_s=sum(first) / len(first) if first else 0.0,
        trial_s=sum(further) / len(further) if further else 0.0,
        assumed=terms.assumed,
    )


def crashed_by(first: Trial, crashes: int) -> str:
    """The crash that decided, or the first of those that did together."""
    said = f"trial {first.number}: {first.title or first.outcome.value}"
    return said if crashes == 1 else f"{said}, the first of {crashes} crashes"


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
