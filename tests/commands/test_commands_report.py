"""``flaky-repro report``: evidence in, one page out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, Trial
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.question import question_parameters
from pytest_flaky_repro.stats import Design, plan_for

if TYPE_CHECKING:
    from tests.commands.conftest import Ran


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    """One campaign that is safe, and one that crashed."""
    asked = question_parameters(plan_for(Design(0.5, 0.0, 0.9, 0.9))) | Rules().parameters()
    for kernel, outcomes in {"new": [Outcome.SURVIVED] * 4, "old": [Outcome.CRASHED]}.items():
        plan = PlanRecord(f"e {kernel}", asked, f"test_it.py::test_it[{kernel}]", kernel)
        writer = EvidenceWriter(tmp_path / ".repro" / kernel, plan)
        for ticket, outcome in enumerate(outcomes):
            start = "2026-01-02T03:04:05+00:00"
            facts = (ticket, "5eed", "host", "tcg", f"b{ticket}", start, 1.0, 0.5, outcome)
            writer.launch(ticket, "5eed", "test")
            writer.trial(Trial(plan.experiment, *facts, title="oops" * (kernel == "old")))
        writer.close()
    return tmp_path / ".repro"


def test_the_page_is_written_and_the_verdicts_are_said(
    command: Callable[..., Ran], evidence: Path
) -> None:
    ran = command("report", evidence)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "SAFE (0/4, rate <= 44% at 90%)  test_it.py::test_it[new]",
        "CRASHES (1/1)  test_it.py::test_it[old]",
        "2 campaigns: report.html",
    ]
    assert Path("report.html").read_text().count("<figure>") == 6


def test_for_machines(command: Callable[..., Ran], evidence: Path) -> None:
    ran = command("report", evidence, "-o", "here/page.html", "--json")
    told = json.loads(ran.out)
    assert told["output"] == "here/page.html"
    assert {v["kernel"]: v["verdict"] for v in told["verdicts"]} == {
        "new": "safe",
        "old": "crashes",
    }
    assert Path("here/page.html").is_file()


def test_a_file_that_is_no_evidence_is_bad_input(
    command: Callable[..., Ran], evidence: Path, tmp_path: Path
) -> None:
    (tmp_path / "bzImage").write_bytes(b"MZ\n\xff\0\n{}\n" * 1000)
    ran = command("report", evidence, "bzImage")
    assert ran.status == 2
    assert "bzImage: this file holds no evidence" in ran.message
    assert not Path("report.html").exists()


def test_a_folder_without_evidence_is_bad_input(command: Callable[..., Ran]) -> None:
    ran = command("report", ".")
    assert ran.status == 2
    assert "no evidence" in ran.message
    assert not Path("report.html").exists()
