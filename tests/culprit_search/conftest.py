"""Searches without builds or guests: images are masks, trials are a seeded coin."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image, Shape, Skipped
from pytest_flaky_repro.culprit.candidates import Candidate, Subset
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable


@dataclass
class Masks:
    """A builder whose image is the subset's mask, less the candidates that change nothing."""

    number: int
    shape: Shape = Shape.SET
    broken: Callable[[Subset], bool] = lambda _: False
    without_effect: frozenset[int] = frozenset()
    needs: Mapping[int, int] = field(default_factory=dict)  # what cannot be bad without another
    identity: str = "masks"
    built: list[int] = field(default_factory=list)

    @property
    def candidates(self) -> Sequence[Candidate]:
        return [Candidate(f"c{i}") for i in range(self.number)]

    def build(self, subset: Subset) -> Image | Skipped:
        self.built.append(subset.mask)
        if self.broken(subset):
            return Skipped("it does not link")
        bad = {i for i in subset.indices() if i not in self.without_effect}
        brought = {self.needs[i] for i in bad if i in self.needs} - bad
        mask = sum(1 << i for i in bad | brought)
        return Image(f"{mask:x}", brought=tuple(f"c{i}" for i in sorted(brought)))


@dataclass
class Coin:
    """Crashes with ``rate`` for each of the sets of candidates that is wholly bad."""

    sets: Sequence[Sequence[int]]
    rate: float
    seed: int = 0
    other: float = 0.0  # rate of a crash that nobody looks for
    noise: float = 0.0
    untestable: Callable[[int], bool] = lambda _: False
    identity: str = "coin"
    boot_size: int = 1
    trials: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None:
        del target
        mask = int(image.id, 16)
        if self.untestable(mask):
            return Untestable("it does not boot")
        survived, number = 0, already
        while survived < survivals:
            report = self._trial(mask, f"{self.seed} {image.id} {number}")
            number += 1
            self.trials += 1
            on_trial(report)
            if report.outcome is TrialOutcome.CRASHED:
                return None
            survived += report.outcome is TrialOutcome.SURVIVED
        return None

    def _trial(self, mask: int, seed: str) -> TrialReport:
        inside = sum(all(mask >> i & 1 for i in members) for members in self.sets)
        quiet = (1 - self.rate) ** inside * (1 - self.noise)
        if self._random.random() < self.other:
            return TrialReport(TrialOutcome.OTHER, 1.0, seed, title="WARNING: another one")
        if self._random.random() >= quiet:
            return TrialReport(TrialOutcome.CRASHED, 1.0, seed, title="the crash")
        return TrialReport(TrialOutcome.SURVIVED, 1.0, seed)


@pytest.fixture
def masks() -> type[Masks]:
    return Masks


@pytest.fixture
def coin() -> type[Coin]:
    return Coin
