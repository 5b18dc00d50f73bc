"""Where in the source a report's frames are, from a vmlinux: binutils' nm and addr2line.

A frame is printed as ``function+0x1a/0x40`` (lib/kallsyms, ``%pB``): offset and size. In a call
trace it is the return address, one byte behind the call; in ``RIP:`` it is the address itself.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import UsageError

_FRAME = re.compile(
    rb"(?P<rip>RIP: (?:[0-9a-f]{4}:)?)?(?P<name>[A-Za-z_][\w.]*)"
    rb"\+0x(?P<at>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)"
)


@dataclass(frozen=True)
class Place:
    """A frame as printed and where it is: the innermost first, those it was inlined into after."""

    frame: str
    places: tuple[str, ...]


class Symbols:
    """The functions of one vmlinux."""

    def __init__(self, vmlinux: Path) -> None:
        self._vmlinux = vmlinux
        self._functions: dict[tuple[str, int], list[int]] = {}
        for line in _run(["nm", "--print-size", str(vmlinux)], vmlinux).splitlines():
            words = line.split()
            if len(words) == 4 and words[2] in "tTwW":
                self._functions.setdefault((words[3], int(words[1], 16)), []).append(
                    int(words[0], 16)
                )
        if not self._functions:
            raise UsageError(f"--vmlinux {vmlinux}: it has no symbols. Use the unstripped vmlinux.")

    def places(self, text: bytes) -> list[Place]:
        """Every frame of the text that is in this vmlinux for certain, in the text's order."""
        frames: dict[str, int] = {}
        for match in _FRAME.finditer(text):
            offset = int(match["at"], 16)
            address = self._start(match["name"].decode(), int(match["size"], 16))
            if address is not None:
                shown = match[0].removeprefix(match["rip"] or b"").decode()
                behind_the_call = 0 if match["rip"] or offset == 0 else 1
                frames.setdefault(shown, address + offset - behind_the_call)
        return [Place(frame, where) for frame, where in self._look_up(frames)]

    def _start(self, name: str, size: int) -> int | None:
        """Where the function starts; None when two of one name and size leave a doubt.

        kallsyms counts the padding behind a function to its size, the symbol table does not.
        """
        found = {
            address
            for (known, known_size), addresses in self._functions.items()
            if known == name and 0 <= size - known_size < 64
            for address in addresses
        }
        return found.pop() if len(found) == 1 else None

    def _look_up(self, frames: dict[str, int]) -> Iterable[tuple[str, tuple[str, ...]]]:
        for frame, address in frames.items():
            command = ["addr2line", "--exe", str(self._vmlinux), "--functions", "--inlines"]
            lines = _run([*command, hex(address)], self._vmlinux).splitlines()
            pairs = zip(lines[::2], lines[1::2], strict=False)
            yield frame, tuple(f"{function} at {place}" for function, place in pairs)


def _run(command: list[str], vmlinux: Path) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise UsageError(
            f"--vmlinux needs {command[0]}, which was not found: apt-get install binutils"
        ) from error
    if done.returncode:
        raise UsageError(f"--vmlinux {vmlinux}: {done.stderr.strip()}")
    return done.stdout
