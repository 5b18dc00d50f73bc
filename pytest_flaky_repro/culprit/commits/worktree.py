"""A work tree of our own: the user's stays as it is, whatever state it is in."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_flaky_repro.culprit.build_command import run_build
from pytest_flaky_repro.culprit.commits.history import GitError, Repository, git_environment
from pytest_flaky_repro.errors import InfrastructureError

# No hooks: they are for people's work trees. A lock left by a git that was killed is nobody's:
# whoever works in this tree holds the folder's own lock.
_CHECK_OUT = """
set -e
cd "$1"
rm -f "$(git rev-parse --git-path index.lock)"
git -c core.hooksPath=/dev/null -c advice.detachedHead=false checkout --quiet --force --detach "$2"
if [ "$3" = clean ]; then git clean -ffdxq; fi
"""


class WorkTree:
    """One more work tree of a repository (git-worktree(1)), in a folder of ours."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        self._repository = repository
        self.folder = folder

    def prepare(self, commit: str) -> None:
        """Makes it, without files, unless an earlier run left it in order."""
        if self._is_ours():
            return
        try:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InfrastructureError(
                f"no work tree can be made at {self.folder}: {error.strerror}. "
                "Name another folder with --build-folder"
            ) from error
        self._repository.git("worktree", "prune")
        hooks = ("-c", "core.hooksPath=/dev/null")
        words = ("worktree", "add", "--quiet", "--detach", "--no-checkout", str(self.folder))
        self._repository.git(*hooks, *words, commit)

    def check_out(self, commit: str, log: Path, *, clean: bool) -> None:
        """Puts a commit's files there; ``clean`` also removes all that git does not know."""
        self.prepare(commit)
        how = "clean" if clean else "keep"
        argv = ["/bin/sh", "-c", _CHECK_OUT, "sh", str(self.folder), commit, how]
        end = run_build(argv, self.folder, git_environment(), log)
        if end.status != 0:
            raise InfrastructureError(
                f"{commit[:12]} cannot be checked out in {self.folder}: {end.reason}"
            )

    def remove(self) -> None:
        """Takes it away again, from the repository's list, too."""
        if not self.folder.exists():
            return
        self._repository.git("worktree", "remove", "--force", "--force", str(self.folder))

    def _is_ours(self) -> bool:
        """Whether it is a work tree of this very repository."""
        if not (self.folder / ".git").is_file():
            return False
        words = ("rev-parse", "--path-format=absolute", "--git-common-dir")
        try:
            there = self._repository.git("-C", str(self.folder.absolute()), *words)
        except GitError:
            return False
        return there == self._repository.git(*words)
