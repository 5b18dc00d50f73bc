"""How a build ended: the line that says why, and whether that says anything of what was built."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.disk import NOTHING, SPARE, is_full
from pytest_flaky_repro.errors import InfrastructureError

_TELLING = re.compile(r"\berror:|^ERROR\b|\bundefined (?:reference|symbol)\b", re.IGNORECASE)
_OF_MAKE = re.compile(r"^make(?:\[\d+\])?: ")
# strerror(ENOSPC) and strerror(EDQUOT), as every tool prints them
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")
# What GCC, its linker, clang, make and shells print of a child that somebody else ended. The word
# alone proves nothing: mm/oom_kill.c has it in its source, and compilers show sources.
_ENDED = re.compile(
    r"Killed signal terminated program|Killed \(program |terminated with signal (?:9|15) \["
    r"|unable to execute command: (?:Killed|Terminated)"
    r"|^make(?:\[\d+\])?: \*\*\* .*\] (?:Killed|Terminated|Error 137|Error 143)\b"
    r"|^(?:\S+: line \d+:\s+\d+ )?(?:Killed|Terminated)(?:\s|$)|: Killed$",
    re.MULTILINE,
)


class Obstacle(enum.Enum):
    """What ends builds without being a property of what is built."""

    FULL = "the disk is full"
    KILLED = "the compiler, or what it ran, was killed"


@dataclass(frozen=True)
class BuildEnd:
    """``status`` is as subprocess has it, ``output`` what was printed, or at least its end."""

    status: int
    output: str

    @property
    def reason(self) -> str:
        """Why it failed, in a line."""
        ended = f"exit {self.status}" if self.status >= 0 else f"signal {-self.status}"
        return f"{ended}: {first_error(self.output)[:300]}"

    def refuse_obstacles(self, command: str, folder: Path, log: Path, elsewhere: str = "") -> None:
        """Raises InfrastructureError when this says nothing of what ``command`` builds.

        ``elsewhere`` is how another disk can be named.
        """
        obstacle = self._obstacle((folder, log.parent))
        if obstacle is not None:
            said = line_of(obstacle, self.output)
            raise InfrastructureError(
                f"{obstacle.value}: {command} failed in {folder}: {said} ({log}). "
                f"{mend(obstacle, elsewhere)}"
            )

    def _obstacle(self, written: Iterable[Path]) -> Obstacle | None:
        spare = SPARE if self.status else NOTHING
        if any(is_full(place, spare) for place in written):
            return Obstacle.FULL
        if self.status == 0:
            return None
        return obstacle_in(self.output) or (Obstacle.KILLED if self.status < 0 else None)


def obstacle_in(output: str) -> Obstacle | None:
    """What a failed tool's output says of the machine, not of what was built."""
    if _NO_SPACE.search(output):
        return Obstacle.FULL
    return Obstacle.KILLED if _ENDED.search(output) else None


def line_of(obstacle: Obstacle, output: str) -> str:
    """The line of a failed tool's output that shows the obstacle."""
    pattern = _NO_SPACE if obstacle is Obstacle.FULL else _ENDED
    lines = [line.strip() for line in output.splitlines()]
    return next((line for line in lines if pattern.search(line)), first_error(output))[:300]


def mend(obstacle: Obstacle, elsewhere: str = "") -> str:
    """What to do about it."""
    if obstacle is Obstacle.FULL:
        return f"Free some space{elsewhere}, then go on with --resume"
    return "When memory was short, build with fewer jobs; then go on with --resume"


def first_error(output: str) -> str:
    """The line that says most: the first one with an error in it, or the last one.

    A tool's own line before make's, which only says that it failed.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line)]
    of_tools = [line for line in lines if not _OF_MAKE.match(line)]
    return (telling or of_tools[-1:] or lines[:1] or ["(it said nothing)"])[0]
