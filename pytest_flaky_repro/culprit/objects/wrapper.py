"""The compiler wrapper's environment, and its log. The wrapper itself is ``cc.sh``."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.objects import SCRIPT
from pytest_flaky_repro.errors import UsageError


@dataclass(frozen=True)
class Variant:
    """How an object is compiled: a compiler (words for a shell) and flags behind all others."""

    compiler: str
    flags: str = ""

    def __post_init__(self) -> None:
        _quoted(self.compiler)
        _quoted(self.flags)

    @property
    def words(self) -> str:
        """Compiler and flags, each word quoted, so that ``eval`` expands nothing in them."""
        return _quoted(self.compiler)

    @property
    def flag_words(self) -> str:
        return _quoted(self.flags)

    def __str__(self) -> str:
        return f"{self.compiler} {self.flags}".strip()


def _quoted(text: str) -> str:
    try:
        return shlex.join(shlex.split(text))
    except ValueError as error:
        raise UsageError(f"{text!r}: expected words as a shell reads them: {error}") from None


@dataclass(frozen=True)
class Files:
    """What the wrapper reads and writes, in one folder."""

    folder: Path

    @property
    def script(self) -> Path:
        return self.folder / "cc"

    @property
    def bad_objects(self) -> Path:
        """A tree of empty files: the objects that are to be compiled bad."""
        return self.folder / "bad-objects"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    @property
    def errors(self) -> Path:
        """A tree of files: what the compiler said of bad objects that it does not compile."""
        return self.folder / "errors"

    @property
    def capture(self) -> Path:
        """The environment of vmlinux's link, as shell commands."""
        return self.folder / "link-environment"

    def install(self) -> None:
        """Puts the wrapper at its place: a path without blanks, the same in every version."""
        self.bad_objects.mkdir(parents=True, exist_ok=True)
        if not self.script.exists() or self.script.read_bytes() != SCRIPT.read_bytes():
            part = self.script.with_suffix(".part")
            shutil.copyfile(SCRIPT, part)
            part.chmod(0o755)
            part.replace(self.script)  # a shell may be reading the old one

    def want_bad(self, objects: Iterable[str]) -> None:
        """Exactly these are compiled bad from now on."""
        shutil.rmtree(self.bad_objects, ignore_errors=True)
        self.bad_objects.mkdir(parents=True)
        for name in objects:
            marker = self.bad_objects / name
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()


def environment(files: Files, good: Variant, bad: Variant) -> Mapping[str, str]:
    """What ``cc.sh`` looks at; its head says what each means."""
    return {
        "FLAKY_REPRO_CC_GOOD": good.words,
        "FLAKY_REPRO_CC_GOOD_FLAGS": good.flag_words,
        "FLAKY_REPRO_CC_BAD": bad.words,
        "FLAKY_REPRO_CC_BAD_FLAGS": bad.flag_words,
        "FLAKY_REPRO_CC_BAD_OBJECTS": str(files.bad_objects),
        "FLAKY_REPRO_CC_LOG": str(files.log),
        "FLAKY_REPRO_CC_ERRORS": str(files.errors),
        "FLAKY_REPRO_CC_CAPTURE": str(files.capture),
    }


@dataclass(frozen=True)
class Compilation:
    """One line of the wrapper's log: ``wanted`` and ``got`` are "good" or "bad"."""

    wanted: str
    got: str
    name: str
    source: str


def read_log(path: Path) -> Iterator[Compilation]:
    """The compilations of candidates, oldest first; a line torn by a kill is passed over."""
    if not path.exists():
        return
    for line in path.read_text(errors="replace").splitlines():
        fields = line.split("\t")
        if len(fields) == 4 and fields[2].endswith(".o"):
            yield Compilation(*fields)
