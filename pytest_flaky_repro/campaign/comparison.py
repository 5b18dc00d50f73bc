"""Does the crash rate differ between two experiments? Interleaved pairs, anytime-valid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.campaign.trials import Ending
from pytest_flaky_repro.campaign.verdict import Subject
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.stats.bounds import RateBounds
from pytest_flaky_repro.stats.compare import Comparison, Difference


@dataclass(frozen=True)
class ComparisonVerdict:
    """What a comparison found; ``rate_a`` and ``rate_b`` are intervals at its confidence.

    ``NOT_SHOWN`` is not "equal": no difference was shown by the pairs there are.
    """

    difference: Difference
    why: str
    a: Subject
    b: Subject
    pairs: int
    crashes_a: int
    crashes_b: int
    e_value_log: float
    rate_a: RateBounds
    rate_b: RateBounds
    confidence: float
    conclusion: Conclusion
    evidence: Path
    earlier: int | None = None  # trials that a run before this one left; None: not asked for


class ComparisonGoal:
    """Even tickets are a's, odd ones b's; a pair is judged when both are in."""

    def __init__(self, confidence: float) -> None:
        self._confidence = confidence
        self.comparison = Comparison()
        self._open: Vote | None = None

    def arm_for(self, ticket: int) -> int:
        return ticket % 2

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        """In launch order, so that an a is followed by its b (each may be a boot of trials)."""
        del trial
        if arm == 0:
            self._open = vote
        elif self._open is not None:
            self.comparison, self._open = self.comparison.add(self._open, vote), None

    def reached(self) -> Ending | None:
        difference = self.comparison.difference(self._confidence)
        if difference is Difference.NOT_SHOWN:
            return None
        return Ending(Conclusion.CRASHES, difference.value)

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        del arm, trial, vote
        return False

    def wanted(self) -> int | None:
        return None

    def verdict(self, ending: Ending, a: Subject, b: Subject, evidence: Path) -> ComparisonVerdict:
        """What was found, now that the trials have ended."""
        seen = self.comparison
        rate_a, rate_b = seen.intervals(self._confidence)
        return ComparisonVerdict(
            difference=seen.difference(self._confidence),
            why=ending.why,
            a=a,
            b=b,
            pairs=seen.pairs,
            crashes_a=seen.crashes_a,
            crashes_b=seen.crashes_b,
            e_value_log=seen.log_e,
            rate_a=rate_a,
            rate_b=rate_b,
            confidence=self._confidence,
            conclusion=ending.conclusion,
            evidence=evidence,
        )

    def spent(self) -> int:
        """Pairs: ``--repro-max-trials`` bounds the trials of either side."""
        return self.comparison.pairs
