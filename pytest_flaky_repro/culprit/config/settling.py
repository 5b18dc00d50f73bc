"""What a configuration really is: the kernel's own ``make olddefconfig`` says."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.config import dotconfig
from pytest_flaky_repro.errors import InfrastructureError, UsageError

# The same configuration gives the same bytes: no clock, user, host or build counter inside
# (Documentation/kbuild/reproducible-builds.rst).
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "2024-01-01",
    "KBUILD_BUILD_USER": "flaky-repro",
    "KBUILD_BUILD_HOST": "localhost",
    "KBUILD_BUILD_VERSION": "1",
}
# Left by a make that runs us; they would reach the kernel's own make.
_OF_ANOTHER_MAKE = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES", "KCONFIG_CONFIG")
_REFUSED = re.compile(r"warning: symbol value '(?P<value>.*)' invalid for (?P<name>\w+)")
_ROUNDS = 3


@dataclass(frozen=True)
class Settled:
    """A configuration that ``make olddefconfig`` leaves as it is.

    ``refused`` are values that Kconfig called invalid, ``moving`` the options that still changed
    when it was run on its own result (then there is no such configuration).
    """

    text: str
    refused: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, str]:
        return dotconfig.parse(self.text)

    @property
    def digest(self) -> str:
        """Of the values, so that a title or a comment does not make another kernel of it."""
        return hashlib.sha256(dotconfig.render(self.values).encode()).hexdigest()


@dataclass(frozen=True)
class SourceTree:
    """A kernel's source, only read, and how its make is called: ``words`` such as ``CC=gcc-12``."""

    path: Path
    arch: str
    words: tuple[str, ...]

    def make(self, objects: Path, *targets: str) -> list[str]:
        """The command that makes ``targets`` in the object tree ``objects``."""
        where = ["-C", str(self.path), f"O={objects}", f"ARCH={self.arch}"]
        return ["make", *where, *self.words, *targets]

    def settle(self, values: Mapping[str, str], objects: Path) -> Settled:
        """What becomes of ``values``, worked out in a folder of our own until nothing changes."""
        settled = self.draft(values, objects)
        text = settled.text
        for _ in range(_ROUNDS):
            before = text
            self._olddefconfig(objects)
            text = (objects / ".config").read_text(errors="surrogateescape")
            if text == before:
                return Settled(text, settled.refused)
        return Settled(text, settled.refused, _differences(before, text))

    def draft(self, values: Mapping[str, str], objects: Path) -> Settled:
        """What becomes of ``values`` the first time; hardly ever is it not the last."""
        config = objects / ".config"
        try:
            objects.mkdir(parents=True, exist_ok=True)
            config.write_text(dotconfig.render(values), errors="surrogateescape")
        except OSError as error:
            raise InfrastructureError(
                f"no configuration can be written to {objects}: {error.strerror}. "
                "Free some space or name another folder with --build-folder, then go on with "
                "--resume"
            ) from error
        said = self._olddefconfig(objects)
        refused = tuple(f"{m['name']}={m['value']}" for m in _REFUSED.finditer(said))
        return Settled(config.read_text(errors="surrogateescape"), refused)

    def _olddefconfig(self, objects: Path) -> str:
        """Runs it; returns what it said."""
        command = self.make(objects, "-s", "olddefconfig")
        try:
            done = subprocess.run(
                command,
                env=build_environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            raise InfrastructureError(
                f"make cannot be run: {error.strerror}. Install it: apt-get install make"
            ) from error
        if done.returncode != 0:
            raise _failed(self.path, command, done.stdout)
        return done.stdout


def build_environment() -> dict[str, str]:
    """Ours, with what makes builds repeatable, without what another make left there."""
    ours = {name: text for name, text in os.environ.items() if name not in _OF_ANOTHER_MAKE}
    return {**REPRODUCIBLE, **ours, "LC_ALL": "C"}


def _differences(before: str, after: str) -> tuple[str, ...]:
    one, two = dotconfig.parse(before), dotconfig.parse(after)
    return tuple(sorted(n for n in one.keys() | two.keys() if one.get(n) != two.get(n)))


def _failed(source: Path, command: Sequence[str], said: str) -> UsageError | InfrastructureError:
    tail = "\n".join(said.strip().splitlines()[-15:])
    if "No space left on device" in said:
        return InfrastructureError(f"the disk is full: {' '.join(command)}\n{tail}")
    if "not clean" in said:
        return UsageError(
            f"--source {source}: it has been built in, so make refuses to build elsewhere from it. "
            f"It is yours and stays as it is; give a clean copy: git -C {source} worktree add "
            "../clean HEAD, or cp -r and make mrproper in the copy"
        )
    return UsageError(f"make olddefconfig failed: {' '.join(command)}\n{tail}")
