"""From objects to a kernel image: by make, or by repeating only the link that make did.

make walks every directory to find out that nothing is to be compiled; the link itself takes a
small part of that. Which commands it consists of depends on the kernel's version, so they are not
known here but repeated from what make left behind (``.cmd`` files) with the environment that the
compiler wrapper has seen; and they are believed only once they have given the very same image as
make did, twice.
"""

from __future__ import annotations

import contextlib
import enum
import json
import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.build_end import first_error
from pytest_flaky_repro.culprit.objects import kbuild as building
from pytest_flaky_repro.culprit.objects.kbuild import Kbuild
from pytest_flaky_repro.culprit.objects.store import digest_of
from pytest_flaky_repro.culprit.objects.wrapper import read_log
from pytest_flaky_repro.errors import UsageError

PROOFS = 2  # images that both ways have to agree on
_LEFT_BY_MAKE = "MAKEFLAGS MFLAGS MAKELEVEL MAKE_TERMOUT MAKE_TERMERR"
_SAVED = re.compile(r"^(?:saved)?cmd_(?P<target>\S+) := (?P<command>.*)$", re.MULTILINE)


class LinkFailed(Exception):
    """These objects do not make a kernel; the text is the linker's."""


class Replay(enum.Enum):
    """What is known of repeating the link without make."""

    UNTRIED = "untried"
    TRUSTED = "trusted"
    REFUSED = "refused"


@dataclass
class Linker:
    """Makes images of whatever lies in the object tree.

    ``members`` are the objects of vmlinux's archives: only these may have changed for a link to be
    repeated. The first link is always make's: nobody knows what an earlier run left half done.
    """

    kbuild: Kbuild
    members: Collection[str]
    folder: Path

    def __post_init__(self) -> None:
        self.image = self.kbuild.image()
        self._made_once = False
        self._proofs = 0
        self._state = self.folder / "replay.json"
        self.replay, self.reason = Replay.UNTRIED, ""
        if self._state.exists():
            record = json.loads(self._state.read_text())
            self.replay, self.reason = Replay(record["replay"]), record["reason"]
        elif not self._script():
            self._judge(Replay.REFUSED, "its parts are not known for this kernel and architecture")

    def look_at_sources(self) -> None:
        """Makes what is there. Raises SourceChanged if that compiles anything.

        To be asked before any object is swapped: afterwards objects look newer than their sources.
        """
        with contextlib.suppress(LinkFailed):  # the last mixture may have been one of those
            self._by_make()

    def link(self, changed: Collection[str]) -> Path:
        """Links after these objects have changed; returns the image in the tree."""
        if self.replay is Replay.REFUSED or not self._made_once or not self._can(changed):
            return self._by_make()
        if self.replay is Replay.TRUSTED:
            self._by_replay()
            return self.image
        if not changed:  # would prove nothing
            return self._by_make()
        return self._both_ways()

    def _can(self, changed: Collection[str]) -> bool:
        return all(name in self.members for name in changed)

    def _both_ways(self) -> Path:
        try:
            self._by_replay()
            replayed = digest_of(self.image)
        except LinkFailed as error:
            replayed = f"nothing: {error}"
        made = self._by_make()
        if digest_of(made) != replayed:
            self._judge(Replay.REFUSED, "the repeated link gave another image than make")
        else:
            self._proofs += 1
            if self._proofs >= PROOFS:
                self._judge(Replay.TRUSTED, "")
        return made

    def _judge(self, replay: Replay, reason: str) -> None:
        self.replay, self.reason = replay, reason
        self._state.write_text(json.dumps({"replay": replay.value, "reason": reason}))

    def _by_make(self) -> Path:
        before = sum(1 for _ in read_log(self.kbuild.files.log))
        made = self.kbuild.make(self.image.name)
        compiled = [c.name for c in read_log(self.kbuild.files.log)][before:]
        if compiled:
            raise SourceChanged(
                f"{compiled[0]} was compiled again: its source, or one of its headers, is not what "
                "it was when both full builds were made. Start again with --rebuild"
            )
        if made.status != 0:
            raise LinkFailed(first_error(made.output))
        self._made_once = True
        return self.image

    def _by_replay(self) -> None:
        made = building.run(
            ["sh", "-e", "-c", self._script()],
            self.kbuild.log,
            self.kbuild.environment,
            self.kbuild.tree,
        )
        if made.status != 0:
            raise LinkFailed(first_error(made.output))

    def _script(self) -> str:
        """The link's commands, for a shell in the object tree; empty if they are not known."""
        tree, capture = self.kbuild.tree, self.kbuild.files.capture
        vmlinux, whole = (
            saved_command(tree / ".vmlinux.cmd"),
            saved_command(tree / ".vmlinux.o.cmd"),
        )
        boot = self.image.relative_to(tree).parent
        if not (vmlinux and whole and capture.exists()) or boot != Path("arch/x86/boot"):
            return ""
        libraries = re.search(r"--start-group (.*?)--end-group", whole)
        steps = [
            f". {shlex.quote(str(capture))}",
            f"unset {_LEFT_BY_MAKE}",
            f"cd {shlex.quote(str(tree))}",
        ]
        steps += [  # unlike the other archives, these have symbol indexes
            saved_command((tree / name).with_name(f".{Path(name).name}.cmd")) or ":"
            for name in (libraries[1] if libraries else "").split()
        ]
        if "CONFIG_X86_KERNEL_IBT=y" in (tree / ".config").read_text():
            steps.append(whole)  # then vmlinux is linked from vmlinux.o (scripts/link-vmlinux.sh)
        build = f'"${{MAKE:-make}}" -f "$srctree/scripts/Makefile.build" obj={boot}'
        steps += [vmlinux, f"{build} {shlex.quote(str(self.image.relative_to(tree)))}"]
        return "\n".join(steps)


class SourceChanged(UsageError):
    """The tree is not the one that the full builds were made from."""


def saved_command(path: Path) -> str:
    """The command in one of kbuild's ``.cmd`` files, for a shell; empty if there is none."""
    match = _SAVED.search(path.read_text()) if path.exists() else None
    return match["command"].replace("$$", "$").replace("$(pound)", "#").strip() if match else ""
