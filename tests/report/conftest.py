"""Evidence as campaigns leave it, written line by line without running any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, Trial
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.question import question_parameters
from pytest_flaky_repro.report.findings import Finding, findings_of
from pytest_flaky_repro.report.runs import runs_below
from pytest_flaky_repro.stats import Design, plan_for

DESIGN = Design(0.2, 0.02, 0.9, 0.9)
OUTCOMES = {
    "s": Outcome.SURVIVED,
    "c": Outcome.CRASHED,
    "l": Outcome.LOST,
    "v": Outcome.BOOT_FAILED,
}


@dataclass
class Evidence:
    """A folder to which campaigns are added; a letter for each trial: s, c, l or v."""

    folder: Path
    design: Design = DESIGN
    parameters: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    def add(
        self,
        trials: str,
        *,
        item: str = "test_it.py::test_it[k]",
        kernel: str = "k",
        title: str = "kernel panic: sysrq triggered crash",
        console: bytes | None = None,
        host: Callable[[int], str] = lambda _: "here",
        boot: Callable[[int], str] = lambda ticket: f"boot {ticket}",
        detail: str = "",
        arms: Sequence[str] = ("test",),
        shared: int = 1,
        check: bool = True,
        end: tuple[str, str] | None = None,
        status: str | None = None,
    ) -> Path:
        """One campaign, ``shared`` trials a boot, by turns of each arm; returns its file."""
        asked = question_parameters(plan_for(self.design)) if check else {}
        asked |= Rules().parameters()
        asked |= {"kernel_sha256": "ab" * 32, "trial_time": 10.0, "smp": 1, "memory_mib": 256}
        info = {"kernel_path": f"/boot/{kernel}", "command": f"pytest '{item}'", **self.info}
        plan = PlanRecord(f"experiment {kernel}", asked | self.parameters, item, kernel, info=info)
        writer = EvidenceWriter(self.folder / f"{len(list(self.folder.glob('*')))}", plan)
        for ticket, letter in enumerate(trials):
            outcome = OUTCOMES[letter]
            arm = arms[ticket % len(arms)]
            writer.launch(ticket, "5eed", arm)
            kept = None
            if letter == "c" and console is not None:
                kept = writer.keep_console(ticket, console)
            writer.trial(
                Trial(
                    experiment=plan.experiment,
                    ticket=ticket,
                    seed="5eed",
                    host=host(ticket),
                    accel="tcg",
                    boot=boot(ticket),
                    started=None if letter == "v" else "2026-01-02T03:04:05.678+00:00",
                    boot_s=0.0 if letter == "v" or ticket % shared else 1.5,
                    exposure_s=0.25 + ticket % 7,
                    outcome=outcome,
                    title=title if letter == "c" else "",
                    console=kept,
                    detail=detail,
                    status=None if letter == "v" else status,
                    arm=arm,
                    place=ticket % shared + 1,
                )
            )
        if end is not None:
            writer.end(*end)
        writer.close()
        return writer.path

    def findings(self) -> Sequence[Finding]:
        return findings_of(runs_below([self.folder]))


@pytest.fixture
def evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Evidence:
    monkeypatch.setattr(
        "os.fdatasync", lambda _: None
    )  # thousands of lines, none worth a disk's time
    folder = tmp_path / "evidence"
    folder.mkdir()
    return Evidence(folder)
