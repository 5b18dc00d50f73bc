"""What a repository says of a range, and what it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.commits.builder import merged_chains
from pytest_flaky_repro.culprit.commits.history import Repository
from pytest_flaky_repro.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """main: a - b - merge - d, and topic: b - t1 - t2, merged."""
    git(tmp_path, "init", "-q", "-b", "main")
    for name in ("a", "b"):
        commit(tmp_path, name)
    git(tmp_path, "checkout", "-q", "-b", "topic")
    for name in ("t1", "t2"):
        commit(tmp_path, name)
    git(tmp_path, "checkout", "-q", "main")
    commit(tmp_path, "c")
    git(tmp_path, "merge", "-q", "--no-ff", "-m", "merge", "topic")
    commit(tmp_path, "d")
    return tmp_path


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, name: str) -> None:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", name)


def subjects(folder: Path, good: str, bad: str) -> list[str]:
    return [commit.subject for commit in Repository(folder).range(good, bad).commits]


def test_the_chain_is_the_first_parents_oldest_first(folder: Path) -> None:
    assert subjects(folder, ":/^a", "main") == ["b", "c", "merge", "d"]


def test_prefix_0_is_the_commit_below_the_chain(folder: Path) -> None:
    chain = Repository(folder).range(":/^a", "main")
    assert chain.at(0) == git(folder, "rev-parse", ":/^a")
    assert chain.at(4) == git(folder, "rev-parse", "main")


def test_a_good_commit_on_a_merged_branch_leaves_what_it_does_not_have(folder: Path) -> None:
    chain = Repository(folder).range("topic", "main")
    assert [commit.subject for commit in chain.commits] == ["c", "merge", "d"]
    assert chain.base == git(folder, "rev-parse", ":/^b")


def test_a_merge_s_branch_ends_with_the_merge(folder: Path) -> None:
    repository = Repository(folder)
    merge = next(c for c in repository.range(":/^a", "main").commits if c.is_merge)
    [chain] = merged_chains(repository, merge)
    assert [commit.subject for commit in chain.commits] == ["t1", "t2", "merge"]
    assert chain.base == git(folder, "rev-parse", ":/^b")


def test_each_branch_of_an_octopus_is_a_chain(folder: Path) -> None:
    for name in ("one", "two"):
        git(folder, "checkout", "-q", "-b", name, "main")
        commit(folder, f"on {name}")
    git(folder, "checkout", "-q", "main")
    commit(folder, "e")
    git(folder, "merge", "-q", "-m", "octopus", "one", "two")
    repository = Repository(folder)
    octopus = repository.range(":/^a", "main").commits[-1]
    found = [[c.subject for c in chain.commits] for chain in merged_chains(repository, octopus)]
    assert found == [["on one", "octopus"], ["on two", "octopus"]]


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("nonsense", "main", "GOOD nonsense: .* knows no such commit"),
        (":/^a", "nonsense", "BAD nonsense: .* knows no such commit"),
        ("--all", "main", "GOOD --all: .* knows no such commit"),
        ("main", "HEAD", "the same commit, [0-9a-f]{12}: there is nothing between"),
        ("main", ":/^a", "it is the other way round"),
        ("topic", ":/^c", "Both come from [0-9a-f]{12}: see whether that one is good"),
    ],
)
def test_wrong_ranges_are_refused(folder: Path, good: str, bad: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Repository(folder).range(good, bad)


def test_histories_without_a_common_commit_are_refused(folder: Path) -> None:
    git(folder, "checkout", "-q", "--orphan", "other")
    git(folder, "commit", "-q", "-m", "elsewhere")
    with pytest.raises(UsageError, match="no commit in common"):
        Repository(folder).range("main", "other")


def test_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a git repository"):
        Repository(tmp_path)


def test_a_shallow_clone_says_how_to_get_the_rest(folder: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(folder, "clone", "-q", "--depth", "1", f"file://{folder}", str(shallow))
    first = git(folder, "rev-parse", ":/^a")
    with pytest.raises(UsageError, match="git fetch --unshallow"):
        Repository(shallow).range(first, "main")


def test_a_git_that_runs_us_does_not_send_us_elsewhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert len(Repository(folder).range(":/^a", "main").commits) == 4


def test_changes_that_are_not_committed_are_noticed(folder: Path) -> None:
    repository = Repository(folder)
    assert not repository.is_dirty()
    (folder / "a").write_text("changed")
    assert repository.is_dirty()
