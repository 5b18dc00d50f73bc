"""Running make in an object tree of our own, through the compiler wrapper."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.build_command import run_tied
from pytest_flaky_repro.culprit.build_end import BuildEnd
from pytest_flaky_repro.culprit.objects import failures, wrapper
from pytest_flaky_repro.culprit.objects.wrapper import Variant
from pytest_flaky_repro.errors import UsageError

# No clock, user, host or counter inside: the same objects give the same kernel
# (Documentation/kbuild/reproducible-builds.rst).
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "2024-01-01",
    "KBUILD_BUILD_USER": "flaky-repro",
    "KBUILD_BUILD_HOST": "localhost",
    "KBUILD_BUILD_VERSION": "1",
}
# Another make's, or the user's own build's: they would lead ours elsewhere.
_FOREIGN = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "KBUILD_OUTPUT", "O", "CC")
_TOOLS = {"make": "make", "ld": "binutils", "objcopy": "binutils", "objdump": "binutils"}
ANOTHER_DISK = ", or name a folder on another disk with --work"


@dataclass(frozen=True)
class Kbuild:
    """A source tree, an object tree (O=) that is ours, and how to compile.

    ``words`` are further words of make's command line, such as ``ARCH=x86_64``.
    """

    source: Path
    tree: Path
    files: wrapper.Files
    good: Variant
    bad: Variant
    words: tuple[str, ...] = ()
    jobs: int = 1

    @property
    def environment(self) -> Mapping[str, str]:
        own = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        return {**own, **REPRODUCIBLE, **wrapper.environment(self.files, self.good, self.bad)}

    @property
    def log(self) -> Path:
        """What make printed, all of it."""
        return self.files.folder / "make.log"

    def make(self, *targets: str, keep_going: bool = False) -> BuildEnd:
        """Runs make; nothing is raised when it fails, unless the machine is to blame."""
        command = ["make", "-C", str(self.source), f"O={self.tree}", f"CC={self.files.script}"]
        command += [*self.words, f"-j{self.jobs}", *(["-k"] if keep_going else []), *targets]
        return run(command, self.log, self.environment)

    def must(self, target: str, purpose: str) -> str:
        """Runs make; raises what is to be done about it when it fails."""
        made = self.make(target)
        if made.status != 0:
            raise failures.explain(made.output, purpose, str(self.log))
        return made.output

    def target(self) -> str:
        """What to make for the image: nothing else (modules) that takes time."""
        return self.image().name

    def image(self) -> Path:
        """The kernel image that the default build makes, as make names it."""
        made = self.make("-s", "--no-print-directory", "image_name")
        lines = made.output.split()
        if made.status != 0 or not lines:
            raise failures.explain(made.output, "ask make for image_name", str(self.log))
        return self.tree / lines[-1]


def run(
    command: Sequence[str], log: Path, environment: Mapping[str, str], cwd: Path | None = None
) -> BuildEnd:
    """Runs a build step, its output appended to ``log``.

    It dies with us, and is told to stop when we are (make then deletes what is half made). Raises
    InfrastructureError when the disk is full, or when something of it was killed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        start = file.tell()
        status = run_tied(["nice", *command], cwd, environment, file.fileno())
    with log.open("rb") as file:
        file.seek(start)
        end = BuildEnd(status, file.read().decode("utf-8", "replace"))
    end.refuse_obstacles(command[0], cwd or log.parent, log, ANOTHER_DISK)
    return end


def check_tools(good: Variant, bad: Variant) -> None:
    """Raises UsageError naming what a kernel build cannot do without and is not there."""
    missing = [package for tool, package in _TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise UsageError(
            f"building a kernel needs: apt-get install {' '.join(dict.fromkeys(missing))}"
        )
    for option, variant in (("--good-cc", good), ("--bad-cc", bad)):
        program = variant.words.split()[0] if variant.words else ""
        if not shutil.which(program):
            raise UsageError(f"{option} {variant.compiler!r}: expected a compiler, none was found")


def check_folders(source: Path, config: Path, work: Path) -> None:
    """Raises UsageError for a source, a config or a work folder that kbuild could not use."""
    if not (source / "Makefile").is_file():
        raise UsageError(f"--source {source}: expected a kernel's source tree, it has no Makefile")
    if not config.is_file():
        raise UsageError(
            f"--build {config.parent}: expected the folder of a configured build (make O=), "
            "it has no .config"
        )
    dirty = [name for name in (".config", "include/config") if (source / name).exists()]
    if dirty:
        raise UsageError(
            f"--source {source}: it was built in (it has {dirty[0]}), and kbuild refuses to build "
            "such a tree elsewhere. Copy its .config to a folder of its own for --build, then run "
            "'make mrproper' there; or name a clean copy ('git worktree add ../clean')"
        )
    for option, path in (("--source", source), ("--work", work)):
        if any(character in str(path.resolve()) for character in " :\t\n'\""):
            raise UsageError(f"{option} {path}: kbuild wants a path without blanks, colons, quotes")
