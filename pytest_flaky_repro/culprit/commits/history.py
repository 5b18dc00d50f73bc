"""What a git repository says of a range of commits. Nothing of it is changed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError, UsageError

# Set by git for its hooks and for what `git bisect run` runs: they name another work tree.
_OF_ANOTHER_GIT = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY"),
    *("GIT_COMMON_DIR", "GIT_NAMESPACE"),
)
_SHORT = 12


@dataclass(frozen=True)
class Commit:
    """One commit. ``parents`` are full names, the first one the branch it was made on."""

    sha: str
    parents: tuple[str, ...]
    subject: str

    @property
    def name(self) -> str:
        """Short, and still the same name in a year."""
        return self.sha[:_SHORT]

    @property
    def is_merge(self) -> bool:
        return len(self.parents) > 1


@dataclass(frozen=True)
class Chain:
    """Commits of which each is the next one's first parent, oldest first, above ``base``."""

    base: str
    commits: tuple[Commit, ...]

    def at(self, prefix: int) -> str:
        """The commit that has the first ``prefix`` changes of the chain."""
        return self.commits[prefix - 1].sha if prefix else self.base

    def find(self, name: str) -> Commit:
        return next(commit for commit in self.commits if commit.name == name)


class Repository:
    """A git repository, asked through git itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        try:
            self.git("rev-parse", "--git-dir")
        except GitError as error:
            raise UsageError(
                f"--repository {folder}: expected a git repository: {error.said}"
            ) from error

    def git(self, *words: str) -> str:
        """What a git command prints. GitError when it fails."""
        try:
            done = subprocess.run(
                ["git", "-C", str(self.folder), *words],
                env=git_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise InfrastructureError(
                f"git cannot be run: {error.strerror}. Install it: apt-get install git"
            ) from error
        if done.returncode != 0:
            raise GitError(words, done.stderr.strip() or f"exit {done.returncode}")
        return done.stdout

    def range(self, good: str, bad: str) -> Chain:
        """The first-parent chain of ``bad`` down to what ``good`` has.

        UsageError when one is unknown, both are the same, or ``good`` is not in ``bad``'s history.
        """
        first, last = self._resolve(good, "GOOD"), self._resolve(bad, "BAD")
        if first == last:
            raise UsageError(
                f"GOOD {good} and BAD {bad} are the same commit, {first[:_SHORT]}: "
                "there is nothing between them"
            )
        if not self._is_ancestor(first, last):
            raise UsageError(self._not_an_ancestor(good, bad, first, last))
        chain = self.side(last, first)
        if chain is None:
            raise UsageError(f"there are no commits between GOOD {good} and BAD {bad}")
        return chain

    def side(self, tip: str, without: str) -> Chain | None:
        """The first-parent chain of ``tip`` down to what ``without`` has; None if it is empty."""
        words = ("--first-parent", "--reverse", "--format=%H%x00%P%x00%s")
        lines = self.git("log", *words, tip, f"^{without}", "--").splitlines()
        commits = tuple(_commit(line) for line in lines)
        if not commits:
            return None
        if not commits[0].parents:
            raise UsageError(
                f"the commit {commits[0].name} has no parent: there is nothing good below it"
            )
        return Chain(commits[0].parents[0], commits)

    def is_dirty(self) -> bool:
        """Whether the work tree has changes to files that git knows."""
        if self.git("rev-parse", "--is-bare-repository").strip() == "true":
            return False
        return bool(self.git("status", "--porcelain", "--untracked-files=no").strip())

    def _resolve(self, revision: str, role: str) -> str:
        try:
            words = ("rev-parse", "--verify", "--quiet", "--end-of-options")
            found = self.git(*words, revision).strip()  # in two steps: ":/fix^{commit}" is a text
            return self.git(*words, f"{found}^{{commit}}").strip()
        except GitError as error:
            raise UsageError(
                f"{role} {revision}: {self.folder} knows no such commit{self._if_shallow()}"
            ) from error

    def _if_shallow(self) -> str:
        shallow = self.git("rev-parse", "--is-shallow-repository").strip() == "true"
        return "; it is a shallow clone: git fetch --unshallow gets the rest" if shallow else ""

    def _is_ancestor(self, first: str, last: str) -> bool:
        try:
            self.git("merge-base", "--is-ancestor", first, last)
        except GitError as error:
            if error.said != "exit 1":
                raise
            return False
        return True

    def _not_an_ancestor(self, good: str, bad: str, first: str, last: str) -> str:
        said = f"GOOD {good} is not in the history of BAD {bad}"
        if self._is_ancestor(last, first):
            return f"{said}: it is the other way round; give the two in the other order"
        try:
            common = self.git("merge-base", first, last).split()[0]
        except GitError:
            return f"{said}, and they have no commit in common{self._if_shallow()}"
        return (
            f"{said}. Both come from {common[:_SHORT]}: see whether that one is good, and if so "
            "give it as GOOD"
        )


class GitError(InfrastructureError):
    """git refused; ``said`` is what it said."""

    def __init__(self, words: Sequence[str], said: str) -> None:
        super().__init__(f"git {' '.join(words)} failed: {said}")
        self.said = said


def git_environment() -> dict[str, str]:
    """Ours, without what would make git look elsewhere, and in plain English."""
    ours = {name: text for name, text in os.environ.items() if name not in _OF_ANOTHER_GIT}
    return {**ours, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}


def _commit(line: str) -> Commit:
    sha, parents, subject = line.split("\0", 2)
    return Commit(sha, tuple(parents.split()), subject)
