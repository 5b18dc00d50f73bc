"""``flaky-repro factors``: a reproducer whose crash depends on one thing, found on real guests."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., "subprocess.Popen[bytes]"]
KEYS = {"confidence", "why", "rounds", "evidence", "factors", "cells", "effects"}
REPRODUCER = """\
#include <stdlib.h>

/* Crashes with MODE=bad only: its exit status is no survival then. */
int main(void)
{
    const char *mode = getenv("MODE");
    return mode != NULL && mode[0] == 'b' ? 3 : 0;
}
"""
MODES = ("--env", "MODE=good,bad")


@pytest.fixture
def words(tmp_path: Path, bare_kernel: Path) -> tuple[str, ...]:
    """What every run needs."""
    (tmp_path / "moody.c").write_text(REPRODUCER)
    kernel = f"bare={bare_kernel}"
    return ("factors", "--reproducer", "moody.c", "--kernel", kernel, "--accel", "tcg")


def counts(report: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Trials and crashes of each combination."""
    return {" ".join(cell["cell"]): (cell["trials"], cell["crashes"]) for cell in report["cells"]}


def records(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for path in sorted(folder.rglob("trials-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_each_combination_gets_each_round_and_evidence_is_kept(
    command: Callable[..., Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    ran = command(*words, *MODES, "--rounds", "2", "--json", "--evidence", "kept")
    assert (ran.status, ran.err) == (0, "")
    report = json.loads(ran.out)
    assert report.keys() == KEYS
    assert counts(report) == {"good": (2, 0), "bad": (2, 2)}
    (effect,) = report["effects"]
    assert (effect["factor"], effect["baseline"], effect["level"]) == ("MODE", "good", "bad")
    assert (effect["pairs"], effect["difference"]) == (2, "not shown")  # two are too few
    assert (report["rounds"], report["why"]) == (2, "2 rounds were asked for")
    (plan,) = [r for r in records(tmp_path / "kept") if r["type"] == "plan"]
    assert plan["info"]["command"].startswith("flaky-repro factors --reproducer ")
    trials = [r for r in records(tmp_path / "kept") if r["type"] == "trial"]
    assert sorted(trial["arm"] for trial in trials) == ["bad", "bad", "good", "good"]


def test_resume_goes_on_until_the_effect_has_shown(
    command: Callable[..., Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    assert command(*words, *MODES, "--confidence", "0.6", "--rounds", "1").status == 0
    ran = command(*words, *MODES, "--confidence", "0.6", "--rounds", "20", "--resume")
    assert ran.status == 0
    assert "MODE bad against good: more crashes (100% against 0% of " in ran.out
    assert "Ended: every effect has shown." in ran.out
    assert "with probability at most 40% (60% for the whole table)" in ran.out
    plans = [r for r in records(tmp_path / ".repro") if r["type"] == "plan"]
    assert [len(plan["continues"]) for plan in plans] == [0, 1]
    tickets = [r["ticket"] for r in records(tmp_path / ".repro") if r["type"] == "launch"]
    assert tickets == sorted(set(tickets))
    shown = ran.out.splitlines()
    assert shown[0].split() == ["trials", "crashes", "combination"]
    assert shown[1].split()[1:] == ["0", "MODE=good"]
    assert shown[-1] == "The trials are on record in .repro."


def test_kernels_command_lines_and_expected_crashes_are_factors_too(
    command: Callable[..., Any], words: tuple[str, ...], bare_kernel: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again"
    again.symlink_to(bare_kernel)
    more = ("--kernel", "again", "--append", "quiet", "--rounds", "1", "--json")
    ran = command(*words, *more, "--crash", "exit status 3")
    assert ran.status == 0
    assert counts(json.loads(ran.out)) == dict.fromkeys(
        ["bare (plain)", "bare quiet", "again (plain)", "again quiet"], (1, 0)
    )


def test_resume_of_another_question_is_refused(
    command: Callable[..., Any], words: tuple[str, ...]
) -> None:
    assert command(*words, *MODES, "--rounds", "1").status == 0
    ran = command(*words, "--env", "MODE=good,worse", "--rounds", "1", "--resume")
    assert ran.status == 2
    assert "flaky-repro factors: --resume: " in ran.err
    assert "holds evidence of another plan" in ran.err
    assert "factors: was {'MODE': ['good', 'bad']}" in ran.err


def test_a_kernel_that_teaches_nothing_gives_no_table(
    command: Callable[..., Any], words: tuple[str, ...], no_console_kernel: Path
) -> None:
    line = [f"bare={no_console_kernel}" if word.startswith("bare=") else word for word in words]
    ran = command(*line, *MODES, "--rounds", "2", "--json")
    assert (ran.status, ran.out) == (2, "")
    assert "nothing was learned" in ran.err
    assert "flaky-repro doctor" in ran.err


def test_ctrl_c_keeps_what_was_measured(
    start: Start, words: tuple[str, ...], tmp_path: Path
) -> None:
    process = start(*words, *MODES, "--rounds", "1000")
    while not any(r["type"] == "trial" for r in whole_records(tmp_path / ".repro")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err == b"flaky-repro factors: interrupted; go on with --resume\n"


def whole_records(folder: Path) -> list[dict[str, Any]]:
    """Of a file that is still being written."""
    return [
        json.loads(line)
        for path in folder.rglob("trials-*.jsonl")
        for line in path.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        ((), "nothing to compare: give two kernels, or --smp 1,2, --env NAME=A,B, --append ARGS"),
        (("--smp", "1,x"), "--smp 1,x: expected numbers of CPUs, such as 1,2"),
        (("--smp", "0,1"), "--smp 0,1: expected numbers of CPUs, such as 1,2"),
        (("--smp", "1"), "--smp 1: expected two or more values to compare"),
        (("--smp", "1,01"), "--smp 1,01: expected two or more values to compare"),
        (("--env", "MODE"), "--env MODE: expected NAME=A,B"),
        (("--env", "=a,b"), "--env =a,b: expected NAME=A,B"),
        (("--env", "MODE=a"), "--env MODE=a: expected two or more values to compare"),
        (("--env", "MODE=a,a"), "--env MODE=a,a: expected two or more values to compare"),
        (("--env", "A=1,2", "--env", "A=3,4"), "--env A=3,4: there is another factor called A"),
        (("--smp", "1,2", "--env", "smp=a,b"), "there is another factor called smp"),
        (("--append", "x", "--env", "append=a,b"), "there is another factor called append"),
        (("--append", " "), "--append '': expected words"),
        (("--append", "a", "--append", "a"), "--append: expected two or more values"),
        ((*MODES, "--rounds", "0"), "--rounds 0: expected a whole number from 1 up"),
        ((*MODES, "--rounds", "many"), "--rounds many: expected a whole number from 1 up"),
        ((*MODES, "--confidence", "7"), "--confidence: expected a number from 0.5"),
        ((*MODES, "--crash", "("), "--crash: expected a regular expression"),
        ((*MODES, "--accel", "xen"), "--accel: 'xen' is not one of auto, kvm, tcg"),
        ((*MODES, "--trial-time", "0"), "--trial-time: expected a positive number of seconds"),
        ((*MODES, "--memory", "x"), "--memory: expected a whole number from 1 up, got 'x'"),
        ((*MODES, "--jobs", "0"), "--jobs: expected a whole number from 1 up, got '0'"),
        ((*MODES, "--qemu", "/nowhere"), "--qemu /nowhere: no such program"),
        ((*MODES, "--kernel", "nowhere"), "nowhere: no such file. Give the path of a bzImage"),
        ((*MODES, "--kernel", "="), "--kernel '=': expected PATH or NAME=PATH"),
        ((*MODES, "--kernel", "bare=x"), "--kernel: 2 kernels are called 'bare'"),
        ((*MODES, "--reproducer", "nowhere.c"), "nowhere.c: No such file or directory"),
        ((*MODES, "--reproducer", "broken.c"), "broken.c: does not compile"),
        ((*MODES, "--evidence", "/proc/x"), "another folder with --evidence"),
    ],
)
def test_bad_input_is_named_before_anything_boots(
    command: Callable[..., Any],
    words: tuple[str, ...],
    tmp_path: Path,
    more: tuple[str, ...],
    seen: str,
) -> None:
    (tmp_path / "broken.c").write_text("int main(void) {\n")
    ran = command(*words, *more)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("flaky-repro factors: ")
    assert seen in ran.message
    assert "--repro-" not in ran.err
    assert not (tmp_path / ".repro").exists()


def test_a_reproducer_and_a_kernel_are_needed(
    command: Callable[..., Any], words: tuple[str, ...]
) -> None:
    ran = command("factors", *MODES)
    assert ran.status == 2
    assert "required: --reproducer" in ran.message
    ran = command(*words[:3], *MODES)
    assert ran.status == 2
    assert "--kernel PATH is needed: one to test on, two or more to compare" in ran.err
