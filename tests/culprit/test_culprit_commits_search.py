"""``flaky-repro culprit commits``: real histories, real builds, trials as processes."""

from __future__ import annotations

import argparse
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.commands.culprit import commits
from pytest_flaky_repro.commands.culprit.shared import add_shared
from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.search import find_culprit
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable

EXAMPLE = Path(__file__).parents[2] / "examples" / "culprit_commits" / "make_history.py"
PROGRAM = [sys.executable, "-m", "pytest_flaky_repro", "culprit", "commits"]


@dataclass(frozen=True)
class Case:
    """A repository in which one commit brought a flaky crash."""

    folder: Path
    names: dict[int, str]
    count: int

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.folder), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def command(self, good: int, bad: int | None = None, *words: str) -> list[str]:
        ends = [self.names[good], self.names[bad or self.count]]
        building = ["--build-command", f"echo $CULPRIT_COMMIT >> {self.folder}.built; make -s"]
        running = ["--keep", "program", "--run-command", "./program", "--seed", "tests"]
        where = ["--repository", str(self.folder), "--evidence", str(self.folder) + ".evidence"]
        return [*PROGRAM, *ends, *building, *running, *where, *words]

    def built(self) -> list[str]:
        return Path(f"{self.folder}.built").read_text().split()


def run(command: Sequence[str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def answer(command: Sequence[str]) -> dict[str, Any]:
    status, out, err = run([*command, "--json"])
    assert status == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


Make = Callable[..., Case]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    example = runpy.run_path(str(EXAMPLE))

    def made(commits: int, culprit: int, rate: float, **more: Any) -> Case:
        given = {"branches": False, "broken": 0.0, **more}
        history = example["build"](commits, culprit, rate, **given)
        names = example["write"](history, tmp_path / "repository")
        return Case(tmp_path / "repository", names, history.count)

    return made


def culprits(found: dict[str, Any]) -> list[str]:
    return [name for one in found["culprits"] for name in one["names"]]


def test_the_commit_is_found_and_both_ends_confirmed(make: Make) -> None:
    case = make(60, 23, 0.5)
    found = answer(case.command(1, None, "--confidence", "0.999"))
    assert culprits(found) == [case.names[23][:12]]
    kept = found["sections"]["the commit and its parent"]["kept"]
    assert {one["commit"] for one in kept} == {case.names[22][:12], case.names[23][:12]}
    assert all((Path(one["kept"]) / "program").is_file() for one in kept)
    told = answer(case.command(1, None, "--confidence", "0.999", "--resume"))
    assert told["sections"]["the commit and its parent"]["kept"] == kept
    assert found["sections"]["the commit"]["subject"] == "cache: free entries earlier"


def test_the_user_s_repository_stays_as_it_was(make: Make) -> None:
    case = make(30, 12, 0.9)
    (case.folder / "main.c").write_text("unfinished")
    before = case.git("status", "--porcelain"), case.git("worktree", "list"), case.git("branch")
    status, _, err = run(case.command(1))
    assert status == 0
    assert "changes that are not committed: they play no part" in err
    assert before == (
        case.git("status", "--porcelain"),
        case.git("worktree", "list"),
        case.git("branch"),
    )


def test_a_commit_of_a_merged_branch_is_found_below_its_merge(make: Make) -> None:
    case = make(120, 60, 0.9, branches=True)
    found = answer(case.command(1, None, "--confidence", "0.999"))
    assert culprits(found) == [case.names[60][:12]]
    [merge] = found["before"]
    merged = case.git("rev-list", "--merges", "--ancestry-path", f"{case.names[60]}..main")
    assert culprits(merge) == [merged.split()[-1][:12]]


def test_what_does_not_build_beside_the_culprit_is_not_told_apart(make: Make) -> None:
    case = make(30, 12, 0.9)
    broken = f"case $CULPRIT_COMMIT in {case.names[10]}|{case.names[11]}) exit 1;; esac; make -s"
    command = case.command(1)
    command[command.index("--build-command") + 1] = broken
    status, out, _ = run([*command, "--json"])
    found = json.loads(out)
    assert status == 3
    leaders = {leader["name"] for leader in found["credible"]}
    assert leaders == {case.names[number][:12] for number in (10, 11, 12)}


def test_a_good_commit_that_crashes_too_clears_the_candidates(make: Make) -> None:
    case = make(30, 5, 0.9)
    status, out, _ = run(case.command(9))
    assert status == 1
    assert "not in these candidates" in out


def test_a_search_that_was_killed_goes_on_where_it_was(make: Make) -> None:
    case = make(200, 77, 0.3, broken=0.1)
    command = case.command(1, None, "--json")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        until(lambda: Path(f"{case.folder}.built").exists() and len(case.built()) >= 5, first)
        os.kill(first.pid, signal.SIGKILL)
    before = case.built()
    found = answer([*command, "--resume"])
    assert culprits(found) == [case.names[77][:12]]
    again = set(before[:-1]) & set(case.built()[len(before) :])
    assert not again, "what had been built and kept is not built again"


def until(condition: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    while not condition():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)


def test_two_searches_of_one_repository_keep_out_of_each_other_s_way(make: Make) -> None:
    """The second one would build what the first one checked out, and take its tree away."""
    case = make(30, 12, 0.9)
    command = case.command(1, None, "--json")
    waiting = f"{case.folder}.waiting"
    slow = list(command)
    slow[slow.index("--build-command") + 1] = f"echo > {waiting}; sleep 0.3; make -s"
    with subprocess.Popen(slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        until(Path(waiting).exists, first)
        status, out, err = run(command)
        assert (status, out) == (2, "")
        assert "another search is at work here; wait for it, or name another folder" in err
        elsewhere = [f"--build-folder={case.folder}.elsewhere", f"--evidence={case.folder}.more"]
        assert culprits(answer([*command, *elsewhere])) == [case.names[12][:12]]
        found, _ = first.communicate()
    assert first.returncode == 0
    assert culprits(json.loads(found)) == [case.names[12][:12]]


@dataclass(frozen=True)
class Boots:
    """Boots of up to sixteen trials: those of the guilty commits crash."""

    guilty: frozenset[str]
    identity: str = "boots"
    boot_size: int = 16

    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None:
        del target, already
        if Path(image.artefact).name in self.guilty:
            on_trial(TrialReport(TrialOutcome.CRASHED, 1.0, title="boom"))
            return None
        for _ in range(survivals):
            on_trial(TrialReport(TrialOutcome.SURVIVED, 1.0))
        return None


def test_trials_that_share_boots_are_counted_in_boots(make: Make, tmp_path: Path) -> None:
    case = make(8, 5, 0.9)
    parser = argparse.ArgumentParser()
    commits.add(parser)
    add_shared(parser)
    options = parser.parse_args(case.command(1)[len(PROGRAM) :])
    tester = Boots(frozenset(name for number, name in case.names.items() if number >= 5))
    with ExitStack() as stack:
        backend = commits.backend(options, stack)
        result = find_culprit(backend.builder, tester, folder=tmp_path / "evidence")
        assert backend.afterwards is not None
        *_, ends = backend.afterwards(result)
    assert result.names == (case.names[5][:12],)
    assert all(" boots crashed; kept: " in line for line in ends.lines)


@pytest.mark.slow
@pytest.mark.parametrize("branches", [False, True])
def test_one_in_a_thousand_commits_at_a_rate_of_one_in_ten(make: Make, branches: bool) -> None:
    case = make(1000, 618, 0.1, branches=branches, broken=0.1)
    found = answer(case.command(1))
    assert culprits(found) == [case.names[618][:12]]
    assert found["probability"] >= 0.99


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--kernel", "bzImage"], "expected either --kernel PATH"),
        (["--keep", "/etc/passwd"], "expected a path inside of the work tree"),
    ],
)
def test_wrong_use_is_said_before_anything_is_built(
    make: Make, words: list[str], said: str
) -> None:
    case = make(5, 3, 0.9)
    status, out, err = run(case.command(1, None, *words))
    assert (status, out) == (2, "")
    assert said in err
    assert not Path(f"{case.folder}.built").exists()
