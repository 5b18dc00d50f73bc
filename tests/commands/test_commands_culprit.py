"""``flaky-repro culprit set``: the shipped example, real guests, interruptions, wrong use."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "culprit_set"
SET = ("culprit", "set", "--candidates", "passes.txt", "--seed", "1")
TRY = (*SET, "--run-command", "./try.sh")
REPRODUCER = """\
#include <stdlib.h>
#include <string.h>

/* Crashes in half of its trials, with CACHE=off only. */
int main(void)
{
    const char *cache = getenv("CACHE"), *seed = getenv("REPRO_SEED");
    return cache != NULL && strcmp(cache, "off") == 0 && seed[0] < '8' ? 3 : 0;
}
"""


@pytest.fixture(autouse=True)
def example(tmp_path: Path) -> None:
    """The example's files, in the folder where the command runs."""
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)


def test_the_example_finds_its_pass(command: Callable[..., Any]) -> None:
    ran = command(*TRY)
    assert ran.status == 0
    assert "culprit: stack-slots\n" in ran.out
    assert "P(culprit) = 9" in ran.out
    assert "only stack-slots: " in ran.out
    assert "all but stack-slots: 0 of " in ran.out
    assert "the crash that counted: exit status 3\n" in ran.out
    assert "  testing all bad, " in ran.err  # a log gets a line now and then
    assert "\r" not in ran.err


def test_a_build_command_s_output_is_what_is_run(command: Callable[..., Any]) -> None:
    words = ("--build-command", "./build.sh", "--run-command", '"$CULPRIT_ARTEFACT"')
    ran = command(*SET, *words, "--json")
    assert ran.status == 0
    report = json.loads(ran.out)
    (found,) = report["culprits"]
    assert found["names"] == ["stack-slots"]
    assert found["probability"] >= 0.99
    assert {each["claim"] for each in found["confirmations"]} == {"sufficient", "complete"}
    assert len({each["image"] for each in found["confirmations"]}) == 2
    assert report["spent"]["builds"] >= 4
    assert Path(report["evidence"]).is_file()


def test_guests_with_other_environments_need_no_build(
    command: Callable[..., Any], tmp_path: Path, bare_kernel: Path
) -> None:
    (tmp_path / "cached.c").write_text(REPRODUCER)
    (tmp_path / "env.txt").write_text("LOCKS=fine\nCACHE=off\nDEPTH=9\n")
    guests = ("--kernel", bare_kernel, "--reproducer", "cached.c", "--accel", "tcg")
    words = ("--candidates", "env.txt", "--vary", "env", "--confidence", "0.9", "--seed", "1")
    ran = command("culprit", "set", *words, *guests)
    assert ran.status == 0, ran.err
    assert "culprit: CACHE=off\n" in ran.out
    assert "the crash that counted: exit status 3\n" in ran.out


@pytest.mark.parametrize("how", ["batch", "snapshot"])
def test_trials_may_share_boots_which_are_counted_then(
    command: Callable[..., Any], tmp_path: Path, bare_kernel: Path, how: str
) -> None:
    """Four trials a boot, half of which crash: 15 of 16 boots do."""
    (tmp_path / "cached.c").write_text(REPRODUCER)
    (tmp_path / "env.txt").write_text("LOCKS=fine\nCACHE=off\nDEPTH=9\n")
    guests = ("--kernel", bare_kernel, "--reproducer", "cached.c", "--accel", "tcg")
    shared = ("--boot", how, "--batch", "4", "--json")
    words = ("--candidates", "env.txt", "--vary", "env", "--confidence", "0.9", "--seed", "1")
    ran = command("culprit", "set", *words, *guests, *shared)
    assert ran.status == 0, ran.err
    report = json.loads(ran.out)
    assert report["unit"] == "boots"
    (found,) = report["culprits"]
    assert found["names"] == ["CACHE=off"]
    rest = next(each for each in found["confirmations"] if each["claim"] == "complete")
    boots: dict[str, int] = {}
    for file in tmp_path.glob(".repro/*/trials-*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        if lines[0]["parameters"]["image"] == rest["image"]:
            ended = [line["boot"] for line in lines if line["type"] == "trial"]
            boots |= {boot: ended.count(boot) for boot in ended}
    assert list(boots.values()) == [4] * rest["survived"]  # a boot that survived took them all


def test_how_many_share_a_boot_matters_only_where_they_do(
    command: Callable[..., Any], tmp_path: Path, bare_kernel: Path
) -> None:
    (tmp_path / "cached.c").write_text(REPRODUCER)
    guests = ("--kernel", bare_kernel, "--reproducer", "cached.c", "--batch", "4")
    ran = command("culprit", "set", "--candidates", "passes.txt", "--vary", "append", *guests)
    assert ran.status == 2
    assert "--batch: it concerns trials that share a boot" in ran.message
    assert "add --boot batch (or snapshot)" in ran.message


def test_guests_that_never_start_are_explained(
    command: Callable[..., Any], tmp_path: Path, bare_kernel: Path
) -> None:
    (tmp_path / "cached.c").write_text(REPRODUCER)
    guests = ("--kernel", bare_kernel, "--reproducer", "cached.c", "--accel", "tcg")
    words = ("--candidates", "passes.txt", "--vary", "append")
    ran = command("culprit", "set", *words, *guests, "--memory", "8")
    assert ran.status == 2
    assert "all bad cannot be built or tested: " in ran.message
    assert "--memory: 8 MiB: the kernel and its initramfs take" in ran.message
    assert "All good fails, too, in the same way. " in ran.message


def test_all_good_that_crashes_too_is_exit_status_1(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "try.sh").write_text("#!/bin/sh\nexit 3\n")
    ran = command(*TRY)
    assert ran.status == 1
    assert "not in these candidates: it crashes with all of them good\n" in ran.out


def test_what_never_crashes_is_exit_status_1(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "try.sh").write_text("#!/bin/sh\nexit 0\n")
    ran = command(*TRY, "--min-rate", "0.2", "--confidence", "0.9")
    assert ran.status == 1
    assert "no crash: with all candidates bad it did not crash" in ran.out
    assert "all bad: 0 of 11 crashed; that " in ran.out


def test_a_spent_budget_is_exit_status_3_and_resume_goes_on(command: Callable[..., Any]) -> None:
    ran = command(*TRY, "--max-trials", "8")
    assert ran.status == 3
    assert "unresolved\n" in ran.out
    assert "the budget of 8 trials is spent (--max-trials)" in ran.out
    assert "to go on: the same command with --resume and a larger --max-trials\n" in ran.out
    ran = command(*TRY, "--resume")
    assert ran.status == 0
    assert "culprit: stack-slots\n" in ran.out


def test_a_script_that_changed_meanwhile_is_named(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    command(*TRY, "--max-trials", "8")
    (tmp_path / "try.sh").write_text("#!/bin/sh\nexit 3\n")
    ran = command(*TRY, "--resume")
    assert ran.status == 2
    assert "how it is run changed (by the content of ./try.sh)" in ran.message
    assert "Run without --resume" in ran.message


def test_an_edited_build_script_builds_anew(command: Callable[..., Any], tmp_path: Path) -> None:
    words = (*SET, "--build-command", "./build.sh", "--run-command", '"$CULPRIT_ARTEFACT"')
    assert command(*words).status == 0
    script = tmp_path / "build.sh"
    script.write_text(script.read_text().replace("stack-slots", "hoist"))
    assert "by the content of ./build.sh" in command(*words, "--resume").message
    ran = command(*words)
    assert "culprit: hoist\n" in ran.out


def test_a_second_search_does_not_delete_what_the_first_one_builds(
    command: Callable[..., Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    running = tmp_path / "running"
    words = (*SET, "--build-command", "./build.sh", "--run-command")
    first = start(*words, f'touch {running}; sleep 0.1; "$CULPRIT_ARTEFACT"')
    limit = time.monotonic() + 60
    while not running.exists():
        assert first.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    second = command(*words, '"$CULPRIT_ARTEFACT"')
    assert second.status == 2
    assert "another search is at work here" in second.message
    assert "name another folder with --evidence" in second.message
    first.communicate()
    assert first.returncode == 0


def test_a_build_script_that_another_one_calls_counts_without_resume(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "outer.sh").write_text("#!/bin/sh\nexec ./build.sh\n")
    (tmp_path / "outer.sh").chmod(0o755)
    words = (*SET, "--build-command", "./outer.sh", "--run-command", '"$CULPRIT_ARTEFACT"')
    assert command(*words).status == 0
    script = tmp_path / "build.sh"
    script.write_text(script.read_text().replace("stack-slots", "hoist"))
    assert "culprit: hoist\n" in command(*words).out


def test_a_command_that_was_missing_is_found_by_resume(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    late = (*SET, "--run-command", "./late")
    ran = command(*late)
    assert ran.status == 2
    assert "the shell cannot find the command" in ran.message
    assert "mend --run-command, then go on with --resume" in ran.message
    (tmp_path / "try.sh").rename(tmp_path / "late")
    assert command(*late, "--resume").status == 0


def test_a_command_that_cannot_test_is_remembered_and_says_so(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "try.sh").write_text("#!/bin/sh\nexit 125\n")
    for more in ((), ("--resume",)):
        ran = command(*TRY, *more)
        assert ran.status == 2
        assert "--resume remembers this: once it is mended, run without --resume" in ran.message


def test_two_runs_try_other_seeds(command: Callable[..., Any], tmp_path: Path) -> None:
    unseeded = [word for word in TRY if word not in ("--seed", "1")]
    for _ in range(2):
        command(*unseeded, "--max-trials", "4")
    heads = [json.loads(f.read_text().splitlines()[0]) for f in tmp_path.rglob("search-*.jsonl")]
    assert len({head["info"]["seed"] for head in heads}) == 2


def test_a_slow_trial_has_the_time_it_takes(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "try.sh").write_text("#!/bin/sh\nsleep 0.2\nexit 3\n")
    (tmp_path / "one").write_text("a\n")
    words = (*TRY, "--candidates", "one", "--min-rate", "0.5", "--confidence", "0.9")
    assert "not in these candidates" in command(*words).out
    assert "no crash" in command(*words, "--trial-time", "0.05").out


def test_what_env_says_is_in_the_command_s_environment(command: Callable[..., Any]) -> None:
    words = ("--run-command", '[ "$WORD" = two ] && ./try.sh', "--env", "WORD=two")
    assert "culprit: stack-slots\n" in command(*SET, *words).out


def test_a_trial_of_what_was_built_finds_the_names(command: Callable[..., Any]) -> None:
    """Every build is the same here: trials that look at the names share nothing."""
    build = ("--build-command", 'echo the same > "$CULPRIT_OUTPUT"')
    ran = command(*SET, *build, "--run-command", "./try.sh")
    assert "culprit: stack-slots\n" in ran.out


def test_after_resume_the_builds_are_still_named(command: Callable[..., Any]) -> None:
    words = (*SET, "--build-command", "./build.sh", "--run-command", '"$CULPRIT_ARTEFACT"')
    first = json.loads(command(*words, "--json").out)
    again = json.loads(command(*words, "--json", "--resume").out)
    (before,), (after,) = first["culprits"], again["culprits"]
    assert [c["image"] for c in after["confirmations"]] == [
        c["image"] for c in before["confirmations"]
    ]
    assert all(Path(c["kernel"]).is_file() for c in after["confirmations"])


def test_ctrl_c_says_how_to_go_on(start: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "try.sh").write_text("#!/bin/sh\nsleep 0.2\n")
    process = start(*TRY)
    while not any(b'"trial"' in f.read_bytes() for f in tmp_path.rglob("search-*.jsonl")):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert err.endswith(b"flaky-repro culprit: interrupted; go on with --resume\n")


def test_a_build_that_fails_for_all_bad_is_an_error(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "build.sh").write_text("#!/bin/sh\necho 'a.c:1: error: no such pass'\nexit 1\n")
    ran = command(*SET, "--build-command", "./build.sh", "--run-command", "true")
    assert ran.status == 2
    assert "all bad cannot be built or tested: exit 1: a.c:1: error: no such pass" in ran.message


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        ((), "expected --build-command CMD, or --run-command CMD, or --vary append|env with"),
        (("--vary", "env"), "expected --build-command CMD, or --run-command CMD"),
        (("--run-command", "x", "--kernel", "k"), "leave --kernel out"),
        (("--run-command", "x", "--vary", "append"), "--run-command has none"),
        (("--run-command", "x", "--vary", "env"), "candidate 'inline': expected NAME=VALUE"),
        (("--build-command", "x", "--vary", "env"), "leave --vary, --kernel out"),
        (("--vary", "append", "--kernel", "nowhere"), "--kernel nowhere: no such file"),
        (("--build-command", "true"), "--reproducer PATH is needed"),
        (("--build-command", "true", "--run-command", "x"), "no file at $CULPRIT_OUTPUT"),
        (("--run-command", "x", "--confidence", "2"), "--confidence 2: expected a number from 0.5"),
        (("--run-command", "x", "--noise", "1"), "--noise 1: expected a number from 0"),
        (("--run-command", "x", "--crash", "("), "--crash: expected a regular expression"),
        (("--run-command", "x", "--max-trials", "0"), "--max-trials 0: expected a whole number"),
        (("--run-command", "x", "--candidates", "none"), "none: No such file or directory"),
        (("--run-command", "x", "--candidates", "empty"), "expected one name a line, found none"),
        (("--run-command", "x", "--candidates", "twice"), "two candidates are called 'a'"),
        (("--run-command", "x", "--ordered", "--strategy", "hash"), "only prefixes can be built"),
        (("--run-command", "x", "--trial-time", "auto"), "--trial-time auto: expected a positive"),
        (("--run-command", "x", "--trial-time", "nan"), "--trial-time nan: expected a positive"),
        (("--run-command", "x", "--trial-time", "-1"), "--trial-time -1: expected a positive"),
        (("--run-command", "x", "--jobs", "0"), "--jobs 0: expected a whole number from 1 up"),
        (("--run-command", "x", "--jobs", "x"), "--jobs x: expected a whole number from 1 up"),
        (("--run-command", "x", "--candidates", "binary"), "expected text (UTF-8), one name a"),
        (("--run-command", "x", "--smp", "2"), "--smp is for trials in guests"),
        (("--run-command", "x", "--boot", "cold"), "--boot is for trials in guests"),
        (("--run-command", "x", "--reproducer", "r"), "--reproducer is for trials in guests"),
        (("--run-command", "x", "--initrd", "i"), "--initrd is for trials in guests"),
        (("--run-command", "x", "--env", "WORD"), "--env WORD: expected NAME=VALUE"),
    ],
)
def test_wrong_use_is_named(
    command: Callable[..., Any], tmp_path: Path, more: tuple[str, ...], seen: str
) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "twice").write_text("a\nb\na\n")
    (tmp_path / "binary").write_bytes(b"a\n\xff\xfe\n")
    ran = command(*SET, *more)
    assert (ran.status, ran.out) == (2, "")
    assert seen in ran.message
    assert "Traceback" not in ran.err


def test_what_a_cluster_cannot_do_is_said_before_anything_is_built(
    command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "race.c").write_text("int main(void) { return 0; }")
    guests = ("--reproducer", "race.c", "--dask", "tcp://127.0.0.1:9", "--boot", "batch")
    ran = command(*SET, "--build-command", "touch built", *guests)
    assert ran.status == 2
    assert "--boot: with --dask each trial boots a guest of its own" in ran.message
    assert not (tmp_path / "built").exists()


def test_each_kind_has_help_with_its_exit_statuses(command: Callable[..., Any]) -> None:
    for kind in ("objects", "config", "commits", "set"):
        ran = command("culprit", kind, "--help")
        assert ran.status == 0
        assert "exit status: 0 the culprit is found and confirmed" in ran.out
