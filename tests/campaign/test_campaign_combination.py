"""Evidence of many jobs: pooled once, judged once, never counted twice."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pytest_flaky_repro.campaign.combination import combine, judge_in_order, read_jobs
from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, Trial
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Decision, Design, Tally, plan_for
from pytest_flaky_repro.stats.agreement import Agreed
from pytest_flaky_repro.stats.family import FamilyRule

CALIBRATED = {
    "calibrated_on": "sha",
    "calibration": {"trials": 20, "crashes": 10},
    "control_every": 10,
}
DESIGN = Design(min_rate=0.2, confidence_safe=0.9, confidence_crash=0.9)  # safe after 11


@dataclass(frozen=True)
class Matrix:
    """A folder where jobs leave their evidence."""

    folder: Path

    def job(
        self,
        name: str,
        outcomes: str,
        *,
        experiment: str = "e",
        host: str = "host-1",
        continues: tuple[str, ...] = (),
        first: int = 0,
        calibrated: bool = False,
    ) -> str:
        """One trial a letter: s(urvived), c(rashed), l(ost), v(oid); - is a launch without end.

        Large letters are trials of the known-bad kernel.
        """
        plan = plan_for(DESIGN)
        parameters = {
            "experiment": experiment,
            "min_rate": DESIGN.min_rate,
            "noise": DESIGN.noise,
            "confidence_safe": DESIGN.confidence_safe,
            "confidence_crash": DESIGN.confidence_crash,
            "lines": plan.digest(),
            **Rules().parameters(),
            **(CALIBRATED if calibrated else {}),
        }
        record = PlanRecord(experiment, parameters, f"test_{experiment}", "k", continues)
        writer = EvidenceWriter(self.folder / name, record)
        for ticket, letter in enumerate(outcomes, first):
            arm = "control" if letter.isupper() else "test"
            writer.launch(ticket, "seed", arm)
            if letter != "-":
                trial = _trial(experiment, ticket, host, letter.lower())
                writer.trial(replace(trial, arm=arm))
        writer.close()
        return writer.path.name


def _trial(experiment: str, ticket: int, host: str, letter: str) -> Trial:
    outcome = {
        "s": Outcome.SURVIVED,
        "c": Outcome.CRASHED,
        "l": Outcome.LOST,
        "v": Outcome.BOOT_FAILED,
    }[letter]
    return Trial(experiment, ticket, "seed", host, "tcg", "boot", "now", 0.1, 0.1, outcome)


@pytest.fixture
def matrix(tmp_path: Path) -> Matrix:
    return Matrix(tmp_path)


def test_jobs_that_were_undecided_alone_decide_together(matrix: Matrix) -> None:
    matrix.job("a", "ssssss")
    matrix.job("b", "sssss")
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.tally == Tally(11, 11, 0)
    assert verdict.jobs == 2


def test_one_trial_short_stays_undecided_and_says_how_many_are_missing(matrix: Matrix) -> None:
    matrix.job("a", "sssss")
    matrix.job("b", "sssss")
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.conclusion is Conclusion.INCONCLUSIVE
    assert verdict.still_needed == 1


def test_a_crash_anywhere_decides_without_noise(matrix: Matrix) -> None:
    matrix.job("a", "sssssssssss")
    matrix.job("b", "sssssssssssssssssc")
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.conclusion is Conclusion.CRASHES


def test_void_lost_and_unfinished_trials_are_no_survivals(matrix: Matrix) -> None:
    matrix.job("a", "sssssvvl--s")
    matrix.job("b", "sssss")
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.tally == Tally(trials_low=11, trials_high=12, crashes=0)
    assert (verdict.void, verdict.lost) == (2, 1)  # what we left unfinished is not the harness's


def test_the_same_artifact_unpacked_twice_counts_once(matrix: Matrix) -> None:
    matrix.job("a", "ssssss")
    shutil.copytree(matrix.folder / "a", matrix.folder / "copy of a")
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.tally == Tally(6, 6, 0)
    assert verdict.jobs == 1


def test_a_resumed_run_is_one_job_with_what_it_continues(matrix: Matrix) -> None:
    first = matrix.job("a", "ssssss")
    matrix.job("a", "sssss", continues=(first,), first=6)
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.jobs == 1
    assert verdict.conclusion is Conclusion.SAFE


def test_a_resumed_run_without_its_beginning_is_refused(matrix: Matrix) -> None:
    first = matrix.job("a", "ssssss")
    matrix.job("a", "sssss", continues=(first,), first=6)
    (matrix.folder / "a" / first).unlink()
    with pytest.raises(UsageError, match=r"continues .* which is not there"):
        read_jobs([matrix.folder])


def test_different_experiments_are_judged_apart(matrix: Matrix) -> None:
    matrix.job("a", "sssssssssss", experiment="good")
    matrix.job("b", "sc", experiment="bad")
    verdicts = {v.item: v.conclusion for v in combine(read_jobs([matrix.folder]), FamilyRule.NONE)}
    assert verdicts == {"test_good": Conclusion.SAFE, "test_bad": Conclusion.CRASHES}


def test_a_family_of_two_asks_for_more_trials_of_each(matrix: Matrix) -> None:
    matrix.job("a", "s" * 11, experiment="one")
    matrix.job("b", "s" * 14, experiment="two")  # ceil(ln 0.05 / ln 0.8)
    verdicts = combine(read_jobs([matrix.folder]), FamilyRule.BONFERRONI)
    assert {v.item: v.conclusion for v in verdicts} == {
        "test_one": Conclusion.INCONCLUSIVE,
        "test_two": Conclusion.SAFE,
    }


def test_hosts_that_crash_at_different_rates_are_shown(matrix: Matrix) -> None:
    matrix.job("a", "s" * 60, host="masked")
    matrix.job("b", "c" * 30 + "s" * 30, host="honest")
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.agreement is not None
    assert verdict.agreement.verdict is Agreed.DISAGREE


def test_a_folder_without_evidence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no evidence"):
        read_jobs([tmp_path])


def test_the_first_line_that_is_crossed_decides_with_noise() -> None:
    plan = plan_for(Design(0.2, 0.01, 0.9, 0.9))
    needed = plan.safe_at(0)
    votes = [Vote.SURVIVAL] * needed + [Vote.CRASH] * 50
    assert judge_in_order(plan, votes) == (Tally(needed, needed, 0), Decision.SAFE)


def test_a_torn_last_line_is_left_out_with_a_warning(matrix: Matrix) -> None:
    name = matrix.job("a", "ssssss")
    with (matrix.folder / "a" / name).open("a") as file:
        file.write(json.dumps({"schema": 1, "type": "trial"})[:20])
    with pytest.warns(UserWarning, match="not a whole record"):
        (job,) = read_jobs([matrix.folder])
    assert len(job.trials) == 6


@pytest.mark.parametrize(
    ("outcomes", "said"),
    [
        ("sssssCssssss", Conclusion.SAFE),
        ("sssssSssssss", Conclusion.INCONCLUSIVE),  # the known-bad kernel has not crashed
        ("sssssssssss", Conclusion.INCONCLUSIVE),  # nor was it run
        ("sssssScsssss", Conclusion.CRASHES),
    ],
)
def test_safe_waits_for_the_known_bad_kernel_to_crash(
    matrix: Matrix, outcomes: str, said: Conclusion
) -> None:
    matrix.job("a", outcomes, calibrated=True)
    (verdict,) = combine(read_jobs([matrix.folder]), FamilyRule.NONE)
    assert verdict.conclusion is said
    (called,) = combine(read_jobs([matrix.folder]), FamilyRule.EBH)
    assert (called.conclusion is Conclusion.SAFE) <= (said is Conclusion.SAFE)
