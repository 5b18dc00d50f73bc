"""Trials as ordinary processes: what a status means, in which order, and that nothing stays."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.processes import ProcessTester
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable
from pytest_flaky_repro.errors import InfrastructureError

IMAGE = Image("an image")
SEGV = Signature(re.compile("SIGSEGV"))
PATIENCE = 200  # trials: no command here is worth as many
NTH = "echo >> n; n=$(wc -l < n)"  # which trial of its folder this is, from 1


def trials(
    command: str,
    survivals: int = 1,
    *,
    image: Image = IMAGE,
    target: Signature | None = None,
    jobs: int = 1,
    time_limit: float | None = 60.0,
    already: int = 0,
) -> tuple[list[TrialReport], Untestable | None]:
    reports: list[TrialReport] = []

    def on_trial(report: TrialReport) -> None:
        reports.append(report)
        assert len(reports) <= PATIENCE, "it would go on for ever"

    tester = ProcessTester(command, time_limit, jobs, seed="1")
    return reports, tester.run(image, survivals, target, on_trial, already)


def test_status_0_is_survived_as_often_as_asked() -> None:
    reports, nothing = trials("exit 0", 3)
    assert [report.outcome for report in reports] == [TrialOutcome.SURVIVED] * 3
    assert nothing is None


def test_still_running_when_its_time_is_over_is_survived() -> None:
    [report], _ = trials("sleep 600", time_limit=0.05)
    assert report.outcome is TrialOutcome.SURVIVED


@pytest.mark.parametrize(
    ("command", "title"),
    [
        ("exit 3", "exit status 3"),
        ("kill -SEGV $$", "signal SIGSEGV"),
        ("sh -c 'kill -ABRT $$'; exit $?", "signal SIGABRT"),
        ("exit 255", "exit status 255"),
    ],
)
def test_other_statuses_and_signals_are_crashes_with_a_title(command: str, title: str) -> None:
    [report], _ = trials(command, 5)
    assert (report.outcome, report.title) == (TrialOutcome.CRASHED, title)


def test_the_first_crash_ends_the_run() -> None:
    reports, _ = trials('n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; [ "$n" != 2 ]', 9)
    assert [report.outcome.value for report in reports] == ["survived", "survived", "crashed"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_crash_than_the_target_does_not_end_it() -> None:
    reports, nothing = trials(f"{NTH}; [ $n = 1 ] && exit 3; exit 0", 2, target=SEGV)
    assert [report.outcome.value for report in reports] == ["other", "survived", "survived"]
    assert nothing is None


def test_what_cannot_be_tested_is_no_crash_and_no_survival() -> None:
    reports, nothing = trials("exit 125", 50)
    assert {report.outcome for report in reports} == {TrialOutcome.INFRASTRUCTURE}
    assert isinstance(nothing, Untestable)
    assert "the command says that it cannot test" in nothing.reason


@pytest.mark.parametrize(
    ("command", "wasted", "last"),
    [
        ("exit 3", "0 could not be run, 10 were other crashes", "exit status 3"),
        (f"{NTH}; [ $((n % 2)) = 0 ] && exit 3; exit 125",
         "5 could not be run, 5 were other crashes", "exit status 3"),
    ],
)  # fmt: skip
def test_an_image_whose_trials_teach_nothing_cannot_be_tested(
    command: str, wasted: str, last: str
) -> None:
    reports, nothing = trials(command, 50, target=SEGV)
    assert len(reports) == 10
    assert isinstance(nothing, Untestable)
    assert nothing.reason == (
        f"10 of 10 trials taught nothing ({wasted} than the one that counts); the last: {last}"
    )


def test_a_fifth_of_the_trials_may_teach_nothing() -> None:
    reports, nothing = trials(f"{NTH}; [ $((n % 5)) != 0 ] || exit 3", 40, target=SEGV)
    assert [report.outcome.value for report in reports].count("other") == 9
    assert nothing is None


def test_three_in_a_row_that_cannot_be_tested_are_too_many_only_at_the_start() -> None:
    in_a_row = "[ $n -ge 20 ] && [ $n -lt 23 ] && exit 125"
    _, nothing = trials(f"{NTH}; {in_a_row}; exit 0", 30)
    assert nothing is None


def test_what_earlier_runs_wasted_is_not_held_against_the_image() -> None:
    for run in range(8):
        reports, nothing = trials(f"{NTH}; [ $((n % 3)) = 0 ] || exit 125", 1, already=3 * run)
        assert len(reports) == 3
        assert nothing is None


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("no-such-program-at-all", "cannot find the command"),
        ("/dev/null", "cannot execute the command"),
    ],
)
def test_a_command_that_is_not_there_is_nothing_that_an_image_is_blamed_for(
    command: str, reason: str
) -> None:
    with pytest.raises(InfrastructureError, match=f"{reason}.*mend --run-command, then go on"):
        trials(command, 50)


def test_without_a_limit_a_trial_may_take_as_long_as_it_likes() -> None:
    [report], _ = trials("sleep 0.3; exit 3", time_limit=None)
    assert report.outcome is TrialOutcome.CRASHED


def test_two_testers_do_not_repeat_each_other_unless_asked_to() -> None:
    assert ProcessTester("true").seed != ProcessTester("true").seed
    assert ProcessTester("true", seed="1").seed == "1"


def test_words_for_the_environment_are_the_command_s(tmp_path: Path) -> None:
    tester = ProcessTester('echo "$WORD" > seen', environment=("WORD=two words",))
    tester.run(IMAGE, 1, None, lambda _: None)
    assert (tmp_path / "seen").read_text() == "two words\n"
    assert tester.identity != ProcessTester('echo "$WORD" > seen').identity


def test_reports_come_in_the_order_in_which_trials_were_launched() -> None:
    """The crash comes first here and the survival waits for it: fed as they end, it would lead."""
    [first], _ = trials("exit 0")
    survivor = "until [ -e crashed ]; do sleep 0.01; done; exit 0"
    command = f'if [ "$REPRO_SEED" = {first.seed} ]; then {survivor}; fi; touch crashed; exit 1'
    reports, _ = trials(command, 2, jobs=2)
    assert [report.outcome.value for report in reports] == ["survived", "crashed"]


def test_each_trial_has_a_seed_of_its_own_and_a_later_run_goes_on_from_there() -> None:
    first, _ = trials("exit 0", 3)
    later, _ = trials("exit 0", 2, already=1)
    assert len({report.seed for report in first}) == 3
    assert [report.seed for report in later] == [report.seed for report in first[1:]]


def test_the_command_runs_in_the_build_s_folder_with_its_words(tmp_path: Path) -> None:
    built = tmp_path / "built"
    built.mkdir()
    image = Image("x", artefact=str(built), environment=("WORD=two words",))
    trials('echo "$PWD|$CULPRIT_ARTEFACT|$WORD|$REPRO_SEED" > seen', image=image)
    folder, artefact, word, seed = (built / "seen").read_text().strip().split("|")
    assert (folder, artefact, word) == (str(built), str(built), "two words")
    assert re.fullmatch("[0-9a-f]{16}", seed)


def test_the_end_of_what_it_printed_is_kept() -> None:
    [report], _ = trials("head -c 300000 /dev/zero | tr '\\0' x; echo; echo last words; exit 1")
    assert report.detail == "last words"


def test_what_a_trial_leaves_running_is_killed() -> None:
    trials("sleep 600 & echo $! > pid; exit 0")
    assert_gone(int(Path("pid").read_text()))


def test_an_exception_kills_the_trials_that_are_running() -> None:
    def interrupted(_: TrialReport) -> None:
        raise KeyboardInterrupt

    command = "echo >> n; [ $(wc -l < n) = 1 ] && exit 0; echo $$ > pid; sleep 600"
    with pytest.raises(KeyboardInterrupt):
        ProcessTester(command, 1.0, jobs=2).run(IMAGE, 5, None, interrupted)
    if Path("pid").exists():  # else it was killed before it could say so
        assert_gone(int(Path("pid").read_text()))


def assert_gone(pid: int) -> None:
    """Dead, or dead and not yet reaped by init."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        time.sleep(0.05)
    os.kill(pid, 9)
    pytest.fail(f"process {pid} is still there")


def test_another_command_is_another_identity() -> None:
    assert ProcessTester("a", 1.0).identity != ProcessTester("b", 1.0).identity
    assert ProcessTester("a", 1.0).identity == ProcessTester("a", 1.0, jobs=8).identity
