"""Any command as a builder, and builders that need none: boot words, environment variables."""

from __future__ import annotations

import enum
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_flaky_repro.culprit.build_command import run_build
from pytest_flaky_repro.culprit.build_end import BuildEnd
from pytest_flaky_repro.culprit.building import Image, Shape, Skipped
from pytest_flaky_repro.culprit.candidates import Candidate, Subset
from pytest_flaky_repro.culprit.command_files import scripts_of
from pytest_flaky_repro.culprit.disk import writing
from pytest_flaky_repro.errors import UsageError

VARIABLES = ("CULPRIT_BAD", "CULPRIT_GOOD")  # CULPRIT_BAD_COUNT, too
CANNOT_BUILD = 125  # as git bisect run has it; other failures are skips, too


class SubsetFiles:
    """Which candidates are bad and which are good, as files for commands, one name a line."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def folder(self, subset: Subset) -> Path:
        """A folder of the subset's own."""
        digest = hashlib.sha256("\n".join(subset.names).encode()).hexdigest()[:16]
        return self.home / digest

    def write(self, subset: Subset) -> dict[str, str]:
        """The files, and the environment that names them."""
        folder = self.folder(subset)
        folder.mkdir(parents=True, exist_ok=True)
        good = [each.name for each in subset.universe if each.name not in subset]
        files = {"CULPRIT_BAD": list(subset.names), "CULPRIT_GOOD": good}
        for variable, names in files.items():
            (folder / variable.lower()).write_text("".join(f"{name}\n" for name in names))
        paths = {variable: str(folder / variable.lower()) for variable in files}
        return {**paths, "CULPRIT_BAD_COUNT": str(len(subset))}


class TrialsIn(enum.Enum):
    """What trials see of the subset, beside what was built."""

    GUESTS = "guests"  # nothing: equal builds are one image
    COMMANDS = "commands"  # ``$CULPRIT_BAD`` is set, and does not matter
    KNOWING = "knowing"  # they look at it: equal builds of two subsets are two images


class CommandBuilder:
    """Builds with a shell command, in the folder it was given in.

    It finds the bad candidates' names in the file ``$CULPRIT_BAD``, the others' in
    ``$CULPRIT_GOOD``. What it built it leaves at ``$CULPRIT_OUTPUT``, or prints the path of as its
    last line; either is copied, so it may build in one place again and again. Exit status 0 is
    built; any other is a subset that cannot be built.

    What an earlier run built counts only with ``reuse``. A script that the command names is part
    of it.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        command: str,
        folder: Path,
        shape: Shape,
        *,
        reuse: bool = False,
        trials: TrialsIn = TrialsIn.GUESTS,
    ) -> None:
        self.candidates, self.shape = candidates, shape
        self.files: Mapping[str, str] = scripts_of(command, Path.cwd())
        self._command, self._is_clean, self._trials = command, reuse, trials
        self._files = SubsetFiles(folder / "subsets" / self.identity[:12])  # no other command's

    @property
    def identity(self) -> str:
        facts = json.dumps(["command", self._command, self.files, self._trials.value])
        return hashlib.sha256(facts.encode()).hexdigest()

    def build(self, subset: Subset) -> Image | Skipped:
        with writing(self._files.home):
            return self._build(subset)

    def _build(self, subset: Subset) -> Image | Skipped:
        if not self._is_clean:  # not before there is something to build: a typo deletes nothing
            shutil.rmtree(self._files.home, ignore_errors=True)
            self._is_clean = True
        folder = self._files.folder(subset)
        output, kept = folder / "output", folder / "built"
        environment = self._files.write(subset)
        if not kept.is_file():
            output.unlink(missing_ok=True)
            end = self._run(folder, {**environment, "CULPRIT_OUTPUT": str(output)})
            if end.status != 0:
                return Skipped(f"{end.reason} (log: {folder / 'build.log'})")
            built = output if output.is_file() else self._printed(end, subset)
            shutil.copyfile(built, folder / "copying")
            shutil.copymode(built, folder / "copying")
            (folder / "copying").replace(kept)
        return self._image(kept, subset, environment)

    def _run(self, folder: Path, environment: Mapping[str, str]) -> BuildEnd:
        script = 'cd "$0" && exec /bin/sh -c "$1"'
        argv = ["/bin/sh", "-c", script, str(Path.cwd()), self._command]
        return run_build(argv, folder, {**os.environ, **environment}, folder / "build.log")

    def _image(self, kept: Path, subset: Subset, environment: Mapping[str, str]) -> Image:
        names = "\n".join(subset.names).encode() if self._trials is TrialsIn.KNOWING else b""
        digest = hashlib.sha256(kept.read_bytes() + names).hexdigest()
        words = tuple(f"{name}={value}" for name, value in environment.items())
        seen = () if self._trials is TrialsIn.GUESTS else words
        return Image(digest, kernel=kept, environment=seen, artefact=str(kept))

    def _printed(self, end: BuildEnd, subset: Subset) -> Path:
        lines = [line.strip() for line in end.output.splitlines() if line.strip()]
        path = Path.cwd() / lines[-1] if lines else None
        if path is None or not path.is_file():
            raise UsageError(
                f"--build-command ended well for {subset}, but there is no file at "
                "$CULPRIT_OUTPUT, and the last line it printed is no file's path"
                + (f": {lines[-1][:200]!r}" if lines else " (it printed nothing)")
            )
        return path


class Variation(enum.Enum):
    """What a subset changes when nothing is built."""

    FILE = "file"  # what $CULPRIT_BAD holds
    APPEND = "append"  # words of the kernel's command line
    ENVIRONMENT = "env"  # variables, NAME=VALUE


class VariedBuilder:
    """The same kernel, or the same command, with other words. A build costs nothing."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        variation: Variation,
        folder: Path,
        shape: Shape,
        kernel: Path | None = None,
    ) -> None:
        self.candidates, self.shape = candidates, shape
        self._variation, self._kernel = variation, kernel
        self._files = SubsetFiles(folder / "subsets")
        bad = [each.name for each in candidates if "=" not in each.name]
        if variation is Variation.ENVIRONMENT and bad:
            raise UsageError(f"candidate {bad[0]!r}: expected NAME=VALUE, for --vary env")

    @property
    def identity(self) -> str:
        digest = hashlib.sha256(self._kernel.read_bytes()).hexdigest() if self._kernel else ""
        return hashlib.sha256(json.dumps([self._variation.value, digest]).encode()).hexdigest()

    def build(self, subset: Subset) -> Image | Skipped:
        with writing(self._files.home):
            return self._image(subset)

    def _image(self, subset: Subset) -> Image:
        digest = hashlib.sha256("\n".join([self.identity, *subset.names]).encode()).hexdigest()
        if self._variation is Variation.APPEND:
            return Image(digest, self._kernel, append=" ".join(subset.names))
        if self._variation is Variation.ENVIRONMENT:
            return Image(digest, self._kernel, environment=subset.names)
        words = tuple(f"{name}={value}" for name, value in self._files.write(subset).items())
        return Image(digest, self._kernel, environment=words)
