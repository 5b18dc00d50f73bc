"""``flaky-repro combine``: one verdict from the evidence of many jobs, and its exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.evidence import UNFINISHED, EvidenceWriter, PlanRecord, Trial
from pytest_flaky_repro.machine.conversation import STOPPED
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.stats import Design, plan_for

DESIGN = Design(min_rate=0.2, confidence_safe=0.9, confidence_crash=0.8)  # safe after 11
KEYS = {
    *(
        "item",
        "items",
        "kernel",
        "plan_hash",
        "verdict",
        "trials",
        "crashes",
        "lost",
        "void",
        "jobs",
    ),
    *("confidence_safe", "confidence_crash", "min_rate", "rate_lower", "rate_upper"),
    *("still_needed", "control", "hosts", "hosts_p_value", "unit", "boot"),
}
OUTCOMES = {
    "s": Outcome.SURVIVED,
    "c": Outcome.CRASHED,
    "l": Outcome.LOST,
    "v": Outcome.BOOT_FAILED,
}


@dataclass(frozen=True)
class Jobs:
    """A folder where jobs leave their evidence."""

    folder: Path

    def job(
        self,
        name: str,
        outcomes: str,
        *,
        item: str = "test_it",
        host: str = "h",
        check: bool = True,
        question: str = "",
        boot: str = "",
        detail: str = "",
    ) -> Path:
        """One trial a letter: s(urvived), c(rashed), l(ost), v(oid); with ``boot`` two a boot."""
        lines = {"lines": plan_for(DESIGN).digest()} if check else {}
        shared = {"boot": boot, "batch": 2, "counting": "first"} if boot else {}
        record = PlanRecord(
            question or item,
            {"item": question or item, **vars(DESIGN), **lines, **Rules().parameters(), **shared},
            item,
            "k",
            info={"min_rate_source": "default"},
        )
        writer = EvidenceWriter(self.folder / name, record)
        for ticket, letter in enumerate(outcomes):
            writer.launch(ticket, "seed", "test")
            outcome = OUTCOMES[letter]
            facts = (host, "tcg", f"boot {ticket // 2}", "now", 0.1, 0.1, outcome)
            writer.trial(Trial(item, ticket, "seed", *facts, detail=detail))
        writer.close()
        return writer.path


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return Jobs(tmp_path / "evidence")


def test_jobs_that_make_safe_together(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "ssssss")
    jobs.job("b", "sssss")
    ran = command("combine", jobs.folder / "a", jobs.folder / "b")
    assert ran.status == 0
    assert ran.out.startswith("SAFE  test_it: 0 crashed of 11 trials in 2 jobs\n")
    assert "If 20% or more of the trials crashed" in ran.out
    assert "with probability at most 10%" in ran.out


def test_a_crash_in_any_job_is_status_1(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "sssss")
    jobs.job("b", "sc")
    ran = command("combine", jobs.folder)
    assert ran.status == 1
    assert ran.out.startswith("CRASHES  test_it: 1 crashed of 7 trials in 2 jobs\n")


def test_each_bound_on_the_rate_is_said_at_its_own_confidence(
    command: Callable[..., Any], jobs: Jobs
) -> None:
    jobs.job("a", "sc")
    said = command("combine", jobs.folder).out
    assert "at 80%, at most " in said
    assert "at 90%, whenever the jobs stopped" in said


def test_undecided_is_status_3_and_says_what_is_missing(
    command: Callable[..., Any], jobs: Jobs
) -> None:
    jobs.job("a", "sssssss")
    ran = command("combine", jobs.folder)
    assert ran.status == 3
    assert ran.out.startswith("INCONCLUSIVE  test_it: 0 crashed of 7 trials in 1 job\n")
    assert "4 more surviving trials would make it safe" in ran.out


def test_one_undecided_among_the_safe_is_undecided(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "s" * 11, item="test_a")
    jobs.job("b", "s" * 10, item="test_b")
    assert command("combine", jobs.folder).status == 3


def test_a_crash_outweighs_the_undecided(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "c", item="test_a")
    jobs.job("b", "s", item="test_b")
    assert command("combine", jobs.folder).status == 1


def test_json_holds_every_number(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "ssl")
    ran = command("combine", "--json", jobs.folder)
    (record,) = json.loads(ran.out)
    assert ran.status == 3
    assert record.keys() == KEYS
    assert record["verdict"] == "inconclusive"
    assert (record["trials"], record["crashes"], record["lost"]) == (2, 0, 1)
    assert (record["confidence_safe"], record["confidence_crash"]) == (0.9, 0.8)
    assert record["still_needed"] == 9
    assert record["hosts"] is None


def test_hosts_are_compared(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "s" * 60, host="one")
    jobs.job("b", "c" * 30 + "s" * 30, host="two")
    assert "their crash rates differ: the pooled verdict does not hold for each" in (
        command("combine", jobs.folder).out
    )
    (record,) = json.loads(command("combine", "--json", jobs.folder).out)
    assert record["hosts"] == "disagree"
    assert record["hosts_p_value"] < 0.001


def test_a_family_raises_what_each_member_needs(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "s" * 13, item="test_a")
    jobs.job("b", "s" * 14, item="test_b")  # ceil(ln 0.05 / ln 0.8)
    assert command("combine", jobs.folder).status == 0
    ran = command("combine", "--family", "bonferroni", jobs.folder)
    assert ran.status == 3
    assert "INCONCLUSIVE  test_a" in ran.out
    assert "SAFE  test_b" in ran.out


@pytest.mark.parametrize(
    ("family", "chance"), [("none", "<= 0.2"), ("bonferroni", "<= 0.1"), ("ebh", "<= 0.1")]
)
def test_a_family_says_what_may_be_false_in_it(
    command: Callable[..., Any], jobs: Jobs, family: str, chance: str
) -> None:
    jobs.job("a", "s" * 11, item="test_a")
    jobs.job("b", "s" * 11, item="test_b")
    last = command("combine", "--family", family, jobs.folder).out.splitlines()[-1]
    assert last.startswith(f"family of 2 ({family}): ")
    assert chance in last


def test_an_unknown_family_is_bad_input(command: Callable[..., Any], jobs: Jobs) -> None:
    ran = command("combine", "--family", "holm", jobs.folder)
    assert ran.status == 2
    assert "--family: invalid choice: 'holm'" in ran.err


def test_a_folder_that_is_not_there_is_bad_input(command: Callable[..., Any]) -> None:
    ran = command("combine", "nowhere")
    assert ran.status == 2
    assert "nowhere: no such folder" in ran.err


def test_a_folder_without_evidence_is_bad_input(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    ran = command("combine", tmp_path)
    assert ran.status == 2
    assert f"no evidence (trials-*.jsonl) was found below {tmp_path}" in ran.err


def test_nothing_but_calibrations_is_bad_input_and_no_verdict(
    command: Callable[..., Any], jobs: Jobs
) -> None:
    jobs.job("a", "sssc", check=False)
    ran = command("combine", "--json", jobs.folder)
    assert (ran.status, ran.out) == (2, "")
    assert f"no job's evidence in {jobs.folder}" in ran.err


def test_a_file_that_is_no_evidence_is_bad_input(
    command: Callable[..., Any], jobs: Jobs, tmp_path: Path
) -> None:
    (tmp_path / "bzImage").write_bytes(b"MZ\n\xff\0\n{}\n" * 1000)
    jobs.job("a", "s" * 11)
    ran = command("combine", "bzImage", jobs.folder)
    assert (ran.status, ran.out) == (2, "")
    assert "bzImage: this file holds no evidence. Expected a folder" in ran.err
    assert len(ran.err.splitlines()) < 5


def test_boots_that_trials_shared_are_counted_and_named(
    command: Callable[..., Any], jobs: Jobs
) -> None:
    jobs.job("a", "s" * 22, boot="batch")
    jobs.job("b", "s" * 20, boot="snapshot")
    said = command("combine", jobs.folder).out
    assert "SAFE  test_it: 0 crashed of 11 boots (batch, 22 trials) in 1 job\n" in said
    assert "If 20% (default) or more of the trials in a fresh boot crashed, this would" in said
    assert "INCONCLUSIVE  test_it: 0 crashed of 10 boots (snapshot, 20 trials) in 1 job\n" in said
    assert "% of boots at 90%, whenever" in said
    assert "    1 more surviving boot would make it safe\n" in said
    records = json.loads(command("combine", "--json", jobs.folder).out)
    assert [(r["unit"], r["boot"]) for r in records] == [("boots", "batch"), ("boots", "snapshot")]


def test_a_boot_s_lower_bound_is_one_of_its_trials(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "c", item="cold")
    jobs.job("b", "c", item="shared", boot="batch")
    cold, shared = json.loads(command("combine", "--json", jobs.folder).out)
    assert shared["rate_lower"] == pytest.approx(cold["rate_lower"] / 2)


@pytest.mark.parametrize("detail", [STOPPED, UNFINISHED])
def test_what_we_stopped_ourselves_is_not_the_harness_s_failure(
    command: Callable[..., Any], jobs: Jobs, detail: str
) -> None:
    jobs.job("a", "vvl", detail=detail)
    ran = command("combine", jobs.folder)
    assert ran.out.startswith("INCONCLUSIVE  test_it: 0 crashed of 0 trials in 1 job\n")


def test_no_item_moves_the_cursor(command: Callable[..., Any], jobs: Jobs) -> None:
    jobs.job("a", "c", item="test[\x1b[2J]")
    assert "\\x1b[2J" in command("combine", jobs.folder).out


def test_all_tests_that_asked_one_question_are_named(
    command: Callable[..., Any], jobs: Jobs
) -> None:
    jobs.job("a", "ssssss", item="test_a", question="q")
    jobs.job("b", "sssss", item="test_b", question="q")
    ran = command("combine", jobs.folder)
    assert ran.out.startswith("SAFE  test_a: 0 crashed of 11 trials in 2 jobs\n")
    assert "the same question was asked by test_b\n" in ran.out
    (record,) = json.loads(command("combine", "--json", jobs.folder).out)
    assert record["items"] == ["test_a", "test_b"]


@pytest.mark.parametrize("family", ["none", "bonferroni", "ebh"])
def test_jobs_in_which_nothing_began_have_no_verdict(
    command: Callable[..., Any], jobs: Jobs, family: str
) -> None:
    jobs.job("a", "vvv")
    jobs.job("b", "vv")
    ran = command("combine", "--family", family, jobs.folder)
    assert ran.status == 3
    assert "INFRASTRUCTURE  test_it: 0 crashed of 0 trials (and 5 void) in 2 jobs\n" in ran.out
    assert "No trial began: nothing was learned" in ran.out


def test_the_share_of_a_family_can_be_read(command: Callable[..., Any], jobs: Jobs) -> None:
    for number in range(7):
        jobs.job(f"{number}", "ss", item=f"test_{number}")
    said = command("combine", "--family", "bonferroni", jobs.folder).out
    assert "at 98.57%, whenever" in said  # 1 - 0.1 / 7 = 98.571428...%
