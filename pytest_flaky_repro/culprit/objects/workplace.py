"""The folder in which one search for object files lives: tree, store, kernels."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.holding import LOCK, held
from pytest_flaky_repro.culprit.objects import kbuild as building
from pytest_flaky_repro.culprit.objects.builder import ObjectsBuilder
from pytest_flaky_repro.culprit.objects.configuring import refuse_lto
from pytest_flaky_repro.culprit.objects.full_builds import GOOD, OUTSIDE, FullBuilds
from pytest_flaky_repro.culprit.objects.kbuild import Kbuild
from pytest_flaky_repro.culprit.objects.linking import Linker
from pytest_flaky_repro.culprit.objects.pairs import Objects
from pytest_flaky_repro.culprit.objects.store import ObjectStore, digest_of
from pytest_flaky_repro.culprit.objects.wrapper import Files, Variant
from pytest_flaky_repro.errors import UsageError


@dataclass(frozen=True)
class Inputs:
    """What both full builds are made from; other inputs have a folder of their own."""

    source: Path
    build: Path
    good: Variant
    bad: Variant
    words: tuple[str, ...] = ()

    @property
    def config(self) -> Path:
        return self.build / ".config"

    def check(self, work: Path) -> None:
        """Raises UsageError for what cannot become two kernel builds."""
        if (self.good.words, self.good.flag_words) == (self.bad.words, self.bad.flag_words):
            raise UsageError(
                f"the good and the bad variant are the same ({self.good}): give other flags with "
                "--bad-flags, or another compiler with --bad-cc"
            )
        if "-flto" in f"{self.good} {self.bad}":
            raise UsageError(
                "-flto in the flags: with link-time optimisation the linker compiles all objects "
                "together, so none has flags of its own"
            )
        building.check_folders(self.source, self.config, work)
        refuse_lto(self.config.read_text(), self.config)
        building.check_tools(self.good, self.bad)

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that are others when the builds would be."""
        return _digest([str(self.source.resolve()), self.recipe])[:16]

    @property
    def recipe(self) -> str:
        """A digest of all that makes the builds, apart from the sources."""
        return _digest(
            [
                digest_of(self.config),
                *(t for v in (self.good, self.bad) for t in (v.words, v.flag_words, _version(v))),
                *self.words,
            ]
        )


def _digest(facts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _version(variant: Variant) -> str:
    done = subprocess.run(
        [*shlex.split(variant.compiler), "--version"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    return done.stdout


@dataclass(frozen=True)
class Workplace:
    """A search's own folder. One process at a time: see :meth:`locked`."""

    folder: Path
    inputs: Inputs
    jobs: int = 0

    @property
    def kbuild(self) -> Kbuild:
        return Kbuild(
            self.inputs.source.resolve(),
            self.folder / "tree",
            Files(self.folder),
            self.inputs.good,
            self.inputs.bad,
            self.inputs.words,
            self.jobs or len(os.sched_getaffinity(0)),
        )

    @property
    def store(self) -> ObjectStore:
        return ObjectStore(self.folder / "store")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises UsageError when another search works here, or when other builds lie here."""
        with held(self.folder, "--work"):
            self._check_inputs()
            yield

    def _check_inputs(self) -> None:
        stamp = self.folder / "inputs.json"
        if not stamp.exists():
            return
        before = json.loads(stamp.read_text())
        if before != self._inputs:
            changed = [name for name, value in self._inputs.items() if before.get(name) != value]
            raise UsageError(
                f"--work {self.folder}: what lies there was built from something else (another "
                f"{', '.join(changed) or 'input'}). Name another folder, or delete this one"
            )

    @property
    def _inputs(self) -> dict[str, str]:
        inputs = self.inputs
        return {
            "source": str(inputs.source.resolve()),
            "good variant": str(inputs.good),
            "bad variant": str(inputs.bad),
            "word for make": " ".join(inputs.words),
            "configuration or compiler version": inputs.key,
        }

    def forget(self) -> None:
        """Deletes all that was built here."""
        for path in self.folder.iterdir():
            if path.name == LOCK:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def objects(
        self,
        say: Callable[[str], None],
        only: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
    ) -> Objects:
        """Both full builds, as far as they are not there yet."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "inputs.json").write_text(json.dumps(self._inputs, indent=1))
        builds = FullBuilds(self.kbuild, self.store, self.folder, say)
        return builds.objects(self.inputs.config, only, exclude)

    def builder(self, found: Objects) -> ObjectsBuilder:
        """Builds kernels with any of the objects bad. UsageError when none differs."""
        if not found.pairs:
            raise UsageError(
                f"no object differs: {len(found.same)} are the same with {self.inputs.good} and "
                f"with {self.inputs.bad}, and {len(found.excluded)} cannot be had bad. "
                f"{_why_none(found)}"
            )
        linker = Linker(self.kbuild, found.members, self.folder)
        pairs = sorted(found.pairs, key=lambda pair: pair.name)
        rest = _digest([self.inputs.recipe, digest_of(self.folder / GOOD)])
        return ObjectsBuilder(self.kbuild.tree, self.store, pairs, linker, self.folder, rest)


def _why_none(found: Objects) -> str:
    """What most objects that cannot be had bad have to say of it: the compiler's own words."""
    reasons = Counter(why for why in found.excluded.values() if why not in OUTSIDE.values())
    for why, times in reasons.most_common(1):
        if times > len(found.same):
            return f"{times} times: {why}"
    return "Do the flags reach the code generator?"
