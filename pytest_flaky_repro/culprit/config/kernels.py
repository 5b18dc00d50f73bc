"""Kernels by their configuration: built in one object tree, kept by what they were built from."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.build_command import run_build
from pytest_flaky_repro.culprit.building import Skipped
from pytest_flaky_repro.culprit.config.settling import Settled, SourceTree, build_environment
from pytest_flaky_repro.culprit.disk import write_whole
from pytest_flaky_repro.errors import InfrastructureError

_FAILED = "failed"


@dataclass(frozen=True)
class KernelStore:
    """Builds kernels and keeps them: ``folder/kernels/DIGEST/{bzImage,config,build.log}``.

    All are built in one object tree, ``folder/objects``: kbuild compiles again what the changed
    options touch and nothing else. ``source`` is the tree's fingerprint: a kernel of another
    source, or another make, is another kernel.
    """

    tree: SourceTree
    folder: Path
    image: str  # what make builds, from the object tree: arch/x86/boot/bzImage
    target: str  # and how make is asked for it: bzImage
    jobs: int
    source: str

    @property
    def recipe(self) -> str:
        """A digest of everything but the configuration that a kernel depends on."""
        tree = self.tree
        facts = [self.source, tree.arch, *tree.words, self.target, self.image]
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()

    @property
    def objects(self) -> Path:
        return self.folder / "objects"

    def kernel(self, settled: Settled) -> Path | Skipped:
        """The kernel of a configuration, built unless it is there."""
        key = hashlib.sha256(f"{self.recipe} {settled.digest}".encode()).hexdigest()
        home = self.folder / "kernels" / key[:20]
        image, failed = home / Path(self.image).name, home / _FAILED
        if image.exists():
            return image
        if failed.exists():
            return Skipped(failed.read_text())
        return self._build(settled, home, image, failed)

    def forget_failures(self) -> None:
        """What did not build is tried again: its reason may have been mended."""
        for failed in self.folder.glob(f"kernels/*/{_FAILED}"):
            failed.unlink()

    def _build(self, settled: Settled, home: Path, image: Path, failed: Path) -> Path | Skipped:
        built = self.objects / self.image
        try:
            home.mkdir(parents=True, exist_ok=True)
            self.objects.mkdir(parents=True, exist_ok=True)
            built.unlink(missing_ok=True)  # an older kernel is never taken for this one
            write_whole(self.objects / ".config", settled.text)
            write_whole(home / "config", settled.text)
            command = self.tree.make(self.objects, f"-j{self.jobs}", self.target)
            log = home / "build.log"
            end = run_build(["nice", *command], self.objects, build_environment(), log)
            if end.status != 0:
                write_whole(failed, f"does not build: {end.reason} ({log})")
                return Skipped(failed.read_text())
            return self._keep(built, image, log)
        except OSError as error:
            raise InfrastructureError(
                f"a kernel cannot be built in {self.folder}: {error.strerror}. Free some space or "
                "name another folder with --build-folder, then go on with --resume"
            ) from error

    def _keep(self, built: Path, image: Path, log: Path) -> Path:
        if not built.exists():
            raise InfrastructureError(
                f"make {self.target} succeeded, and there is no {built} ({log}). Name what it "
                "builds with --image and --target"
            )
        part = image.with_name(f"{image.name}.part")
        shutil.copyfile(built, part)
        part.replace(image)
        return image


def fingerprint(source: Path) -> str:
    """Changes when a file of the tree does: a digest of names, sizes and times."""
    digest = hashlib.sha256()
    for name, size, time_ns in _files(source, ""):
        digest.update(f"{name}\0{size}\0{time_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path, name: str) -> Iterator[tuple[str, int, int]]:
    """Every file below a folder, sorted; without git's own, which changes when git looks."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if entry.name != ".git":
                yield from _files(Path(entry.path), path)
        elif entry.name != ".git":
            status = entry.stat(follow_symlinks=False)
            yield path, status.st_size, status.st_mtime_ns
