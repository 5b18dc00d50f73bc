"""What was built at each commit, kept by the commit's name."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_flaky_repro.culprit.build_command import run_build
from pytest_flaky_repro.culprit.building import Skipped
from pytest_flaky_repro.culprit.commits.history import git_environment
from pytest_flaky_repro.culprit.commits.worktree import WorkTree
from pytest_flaky_repro.culprit.disk import why, write_whole
from pytest_flaky_repro.errors import InfrastructureError, UsageError

_FAILED = "failed"


@dataclass(frozen=True)
class Recipe:
    """How a commit is built. ``keep`` are the files and folders that are needed afterwards.

    With an empty ``keep`` each build starts from a clean tree and all of it is kept; otherwise
    builds go on from one another's objects, unless ``clean``.
    """

    command: str
    keep: tuple[str, ...]
    clean: bool
    files: Mapping[str, str] = field(default_factory=dict)  # that the command names, by digest

    def __post_init__(self) -> None:
        for path in self.keep:
            if Path(path).is_absolute() or ".." in Path(path).parts:
                raise UsageError(
                    f"{path}: expected a path inside of the work tree, such as build/prog"
                )

    @property
    def digest(self) -> str:
        """Builds of another recipe are other builds."""
        facts = json.dumps([self.command, self.keep, self.starts_clean, self.files])
        return hashlib.sha256(facts.encode()).hexdigest()

    @property
    def starts_clean(self) -> bool:
        return self.clean or not self.keep


class CommitBuilds:
    """Builds commits one after another in one work tree, each at most once."""

    def __init__(self, tree: WorkTree, recipe: Recipe, folder: Path) -> None:
        self._tree = tree
        self.recipe = recipe
        self._folder = folder / recipe.digest[:12]

    def forget_failures(self) -> None:
        """What did not build is tried again: its reason may have been mended."""
        for failed in self._folder.glob(f"*.{_FAILED}"):
            failed.unlink()

    def get(self, commit: str) -> Path | Skipped:
        """The folder with what is kept of a commit's build; or why there is none."""
        kept = self._folder / commit
        failed = self._folder / f"{commit}.{_FAILED}"
        if kept.is_dir():
            return kept
        reason = _read(failed)
        if reason:  # an empty one was torn: a full disk, a kill
            return Skipped(reason)
        try:
            return self._build(commit, kept, failed)
        except OSError as error:
            raise InfrastructureError(
                f"{commit[:12]} cannot be built in {self._folder}: {why(error)}. Free some "
                "space or name another folder with --build-folder, then go on with --resume"
            ) from error

    def _build(self, commit: str, kept: Path, failed: Path) -> Path | Skipped:
        recipe, tree = self.recipe, self._tree
        self._folder.mkdir(parents=True, exist_ok=True)
        log = self._folder / f"{commit}.log"
        tree.check_out(commit, log, clean=recipe.starts_clean)
        for path in recipe.keep:
            _remove(tree.folder / path)  # an older commit's is never taken for this one's
        environment = {**git_environment(), "CULPRIT_COMMIT": commit}
        argv = ["/bin/sh", "-c", recipe.command]
        end = run_build(argv, tree.folder, environment, log)
        missing = [path for path in recipe.keep if not (tree.folder / path).exists()]
        if end.status == 0 and not missing:
            return _keep(tree.folder, recipe.keep, kept)
        said = f"does not build: {end.reason}" if end.status else f"the build left no {missing[0]}"
        write_whole(failed, f"{said} ({log})")
        return Skipped(failed.read_text())


def _read(failed: Path) -> str:
    return failed.read_text() if failed.exists() else ""


def _keep(tree: Path, paths: Sequence[str], kept: Path) -> Path:
    """Copies the paths, or the whole tree, and shows them under their name when all are there."""
    part = kept.with_name(f"{kept.name}.part")
    _remove(part)
    for path in paths or sorted(entry.name for entry in tree.iterdir() if entry.name != ".git"):
        source, target = tree / path, part / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir() and not source.is_symlink():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=bool(paths))
    part.replace(kept)
    return kept


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def content_digest(folder: Path) -> str:
    """Of names, contents and what may be executed: equal builds are one, with one evidence."""
    digest = hashlib.sha256()
    for path in _files(folder):
        name = str(path.relative_to(folder)).encode("utf-8", "surrogateescape")
        if path.is_symlink():
            content = str(path.readlink()).encode("utf-8", "surrogateescape")
            mode = 0
        else:
            content, mode = path.read_bytes(), path.stat().st_mode & 0o111
        facts = hashlib.sha256(content).hexdigest()
        digest.update(b"%s\0%o\0%s\n" % (name, mode, facts.encode()))
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            yield path
