"""Building commits: in a work tree of our own, each once, and never another commit's result."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_flaky_repro.culprit.building import Image, Skipped
from pytest_flaky_repro.culprit.candidates import Universe
from pytest_flaky_repro.culprit.commits.builder import CommitBuilder
from pytest_flaky_repro.culprit.commits.builds import CommitBuilds, Recipe, content_digest
from pytest_flaky_repro.culprit.commits.history import Repository
from pytest_flaky_repro.culprit.commits.worktree import WorkTree
from pytest_flaky_repro.errors import InfrastructureError, UsageError


class History:
    """Three commits of one file, ``source``: one, two, three."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "repository"
        self.folder.mkdir()
        self.work = folder / "work"
        self.git("init", "-q", "-b", "main")
        self.names = [self.commit(text) for text in ("one", "two", "three")]

    def git(self, *words: str) -> str:
        who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
        command = ["git", "-C", str(self.folder), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, text: str) -> str:
        (self.folder / "source").write_text(text)
        self.git("add", "source")
        self.git("commit", "-q", "-m", text)
        return self.git("rev-parse", "HEAD")

    def tree(self) -> WorkTree:
        return WorkTree(Repository(self.folder), self.work / "tree")

    def builds(self, command: str, *keep: str, clean: bool = False) -> CommitBuilds:
        return CommitBuilds(self.tree(), Recipe(command, keep, clean), self.work / "builds")


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def kept(result: Path | Skipped) -> Path:
    assert isinstance(result, Path), result
    return result


def test_what_is_kept_is_the_commit_s_own(history: History) -> None:
    builds = history.builds("cp source program", "program")
    found = [(kept(builds.get(name)) / "program").read_text() for name in history.names]
    assert found == ["one", "two", "three"]


def test_a_commit_is_built_once(history: History) -> None:
    builds = history.builds(f"echo >> {history.work}/times; cp source program", "program")
    for name in (*history.names, *history.names):
        builds.get(name)
    assert len((history.work / "times").read_text().splitlines()) == 3


def test_a_commit_that_does_not_build_is_skipped_with_the_reason(history: History) -> None:
    builds = history.builds(
        "grep -q two source && { echo 'x.c:1: error: no'; exit 1; }; cp source program", "program"
    )
    skipped = builds.get(history.names[1])
    assert isinstance(skipped, Skipped)
    assert skipped.reason.startswith("does not build: exit 1: x.c:1: error: no")
    assert builds.get(history.names[1]) == skipped  # from what was noted


def test_an_older_commit_s_result_is_never_taken_for_another_s(history: History) -> None:
    builds = history.builds("grep -q two source || cp source program", "program")
    kept(builds.get(history.names[0]))
    skipped = builds.get(history.names[1])
    assert isinstance(skipped, Skipped)
    assert "the build left no program" in skipped.reason


def test_objects_are_gone_on_from_unless_builds_start_clean(history: History) -> None:
    for clean, expected in ((False, "one"), (True, "two")):
        builds = CommitBuilds(
            history.tree(),
            Recipe("[ -e object ] || cp source object; cp object program", ("program",), clean),
            history.work / f"builds-{clean}",
        )
        builds.get(history.names[0])
        assert (kept(builds.get(history.names[1])) / "program").read_text() == expected


def test_without_a_list_the_whole_tree_is_kept(history: History) -> None:
    found = kept(history.builds("mkdir out; cp source out/program").get(history.names[1]))
    assert sorted(str(path.relative_to(found)) for path in found.rglob("*")) == [
        "out",
        "out/program",
        "source",
    ]


def test_the_user_s_tree_stays_as_it_is_dirty_or_not(history: History) -> None:
    (history.folder / "source").write_text("unfinished")
    (history.folder / "untracked").write_text("mine")
    before = history.git("status", "--porcelain"), history.git("rev-parse", "HEAD")
    found = kept(history.builds("cp source program", "program").get(history.names[0]))
    assert (found / "program").read_text() == "one"
    assert (history.git("status", "--porcelain"), history.git("rev-parse", "HEAD")) == before
    assert (history.folder / "source").read_text() == "unfinished"


def test_the_user_s_hooks_do_not_run(history: History) -> None:
    hook = history.folder / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {history.work}/hooked\n")
    hook.chmod(0o755)
    history.work.mkdir()
    kept(history.builds("cp source program", "program").get(history.names[0]))
    assert not (history.work / "hooked").exists()


def test_the_work_tree_is_taken_off_the_repository_s_list(history: History) -> None:
    tree = history.tree()
    tree.prepare(history.names[0])
    assert len(history.git("worktree", "list").splitlines()) == 2
    tree.remove()
    tree.remove()  # nothing to do
    assert len(history.git("worktree", "list").splitlines()) == 1


def test_what_a_killed_run_left_is_mended(history: History) -> None:
    tree = history.tree()
    tree.prepare(history.names[0])
    lock = history.folder / ".git" / "worktrees" / "tree" / "index.lock"
    lock.write_text("")
    found = kept(history.builds("cp source program", "program").get(history.names[2]))
    assert (found / "program").read_text() == "three"
    (tree.folder / ".git").write_text("gitdir: /nowhere\n")
    found = kept(history.builds("cp source program", "program").get(history.names[1]))
    assert (found / "program").read_text() == "two"


def test_a_full_disk_is_not_the_commit_s_fault(history: History) -> None:
    builds = history.builds("cat source > /dev/full", "program")
    with pytest.raises(InfrastructureError, match="the disk is full"):
        builds.get(history.names[0])
    assert not list((history.work / "builds").rglob("*.failed"))


def test_a_disk_too_full_for_a_log_is_not_the_commit_s_fault(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could write why it failed: the log is empty."""
    builds = history.builds("exit 1", "program")
    kept(history.builds("cp source program", "program").get(history.names[0]))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(InfrastructureError, match="the disk is full"):
        builds.get(history.names[0])
    monkeypatch.undo()
    assert not list((history.work / "builds").rglob("*.failed"))


def test_a_failure_whose_reason_was_never_written_is_not_believed(history: History) -> None:
    builds = history.builds("grep -q two source && exit 1; cp source program", "program")
    assert isinstance(builds.get(history.names[1]), Skipped)
    (noted,) = (history.work / "builds").rglob("*.failed")
    empty = noted.with_name(f"{history.names[0]}.failed")
    empty.write_text("")
    kept(builds.get(history.names[0]))


def test_a_failure_can_be_forgotten(history: History) -> None:
    builds = history.builds(f"[ -e {history.work}/compiler ] && cp source program", "program")
    assert isinstance(builds.get(history.names[0]), Skipped)
    (history.work / "compiler").write_text("")
    assert isinstance(builds.get(history.names[0]), Skipped)
    builds.forget_failures()
    kept(builds.get(history.names[0]))


def test_another_recipe_is_another_build(history: History) -> None:
    one = kept(history.builds("cp source program", "program").get(history.names[0]))
    two = kept(history.builds("echo other > program", "program").get(history.names[0]))
    assert (one / "program").read_text() != (two / "program").read_text()


def test_a_build_command_that_cannot_run_is_not_the_commit_s_fault(history: History) -> None:
    with pytest.raises(InfrastructureError, match="build command cannot be run"):
        history.builds("no-such-compiler", "program").get(history.names[0])


@pytest.mark.parametrize("path", ["/usr/bin/env", "../program"])
def test_paths_outside_of_the_tree_are_refused(path: str) -> None:
    with pytest.raises(UsageError, match="inside of the work tree"):
        Recipe("true", (path,), clean=False)


def test_equal_builds_share_an_image(history: History) -> None:
    builder = CommitBuilder(
        Repository(history.folder).range(history.names[0], "main"),
        history.builds("echo the same > program; cp source other", "program"),
        (),
    )
    universe = Universe(builder.candidates)
    images = [
        builder.build(universe.subset([c.name for c in list(universe)[:j]])) for j in range(3)
    ]
    assert len({image.id for image in images if isinstance(image, Image)}) == 1
    assert len({image.artefact for image in images if isinstance(image, Image)}) == 3


def test_a_digest_sees_names_contents_links_and_what_can_be_run(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    seen = [content_digest(tmp_path)]
    file.chmod(0o755)
    seen.append(content_digest(tmp_path))
    file.write_text("y")
    seen.append(content_digest(tmp_path))
    file.rename(tmp_path / "other")
    seen.append(content_digest(tmp_path))
    (tmp_path / "link").symlink_to("other")
    seen.append(content_digest(tmp_path))
    assert len(set(seen)) == 5
