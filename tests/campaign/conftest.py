"""Campaigns on the fake machine: a coin for a guest, everything above it as shipped."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_flaky_repro.campaign.boots import Sharing
from pytest_flaky_repro.campaign.loop import Budget, Campaign, Observer
from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.campaign.verdict import Subject, Verdict
from pytest_flaky_repro.evidence import EvidenceWriter, History, PlanRecord, load_history
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.machine.trial import Machine, TrialOrder
from pytest_flaky_repro.stats import Design, plan_for

SUBJECT = Subject(
    item="test_x",
    kernel="k",
    kernel_sha256="0" * 64,
    kernel_path="/k",
    reproducer="r",
    experiment="e",
    trial_time=1.0,
)


def order(seed: str) -> TrialOrder:
    return TrialOrder(Command(("/repro/r",), 1.0, (), hashlib.sha512(seed.encode()).digest()))


@dataclass(frozen=True)
class Bench:
    """Where the evidence goes, and how campaigns are begun."""

    folder: Path
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def anew(self) -> Path:
        """A folder that holds no evidence yet."""
        return self.folder / str(next(self.numbers))

    def run(
        self,
        behaviour: Behaviour | Machine,
        design: Design,
        *,
        folder: Path | None = None,
        rules: Rules | None = None,
        jobs: int = 1,
        seed: str = "5eed",
        max_trials: int | None = None,
        seconds: float | None = None,
        observer: Observer | None = None,
        should_stop: Callable[[], str | None] = lambda: None,
        resume: bool = False,
        sharing: Sharing | None = None,
    ) -> Verdict:
        folder = folder or self.anew()
        plan = plan_for(design)
        record = PlanRecord("e", {"lines": plan.digest()}, "test_x", "k")
        history = load_history(folder, record) if resume else History()
        record = PlanRecord("e", {"lines": plan.digest()}, "test_x", "k", history.files)
        machine = FakeMachine(behaviour) if isinstance(behaviour, Behaviour) else behaviour
        writer = EvidenceWriter(folder, record)
        try:
            return Campaign(
                machine,
                plan,
                order,
                subject=SUBJECT,
                rules=rules or Rules(),
                budget=Budget(jobs, max_trials, seconds),
                writer=writer,
                history=history,
                observer=observer,
                should_stop=should_stop,
                seed=seed,
                sharing=sharing,
            ).run()
        finally:
            writer.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)
