"""Pick the lines that could be a header, and match them against the rows of the format table.

Almost no line of a console is a header. ``bytes.find`` looks for a few dozen needles, at about a
gigabyte a second each; lines that hold one are matched against one pattern that joins the headers
of all rows which ask for that needle; and only what passes is matched row by row.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from .formats import TABLE, Ends, Format
from .formats.boot import BOOT
from .records import LOOK_BACK, PREFIX, Record, record_at, stamps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .kinds import CrashClass

ROWS = (*TABLE, BOOT)
# Few needles for many rows: each header of a row holds at least one of these.
NEEDLES = (
    b"BUG: ",
    b"WARNING: ",
    b"INFO: ",
    b"[#",
    b"Kernel panic - not syncing: ",
    b"ernel BUG at ",
    b"unregister_netdevice: ",
    b"rust_kernel: ",
    b"ainted): ",
    b"ainted: ",
    b"VFS: Close: ",
    b"general protection fault",
    b"nable to handle ",
    b"UBSAN: ",
    b"list_",
    b"refcount_t: ",
    b"usercopy: ",
    b"hard LOCKUP",
    b"Unhandled fault: ",
    b"Alignment trap: ",
    b"PANIC: double fault",
    b"unreferenced object 0x",
    b"VFS: Busy inodes after unmount",
    b"ernel NULL pointer dereference",
    b"Unhandled prefetch abort: ",
    b"Linux version ",
    b"segfault at ",
    b"traps: ",
    b"panic: ",
    b"fatal error: ",
    b"Sanitizer: ",
    b": runtime error: ",
    b"panicked at ",
    b" detected ***",
    b"(): ",
    b"' failed.",
    b"SYZFAIL: ",
    b"libFuzzer: ",
    b"FATAL:",
    b"heck failed: ",
    b"CHECK failed: ",
    b"# Fatal error in ",
    b"Exception in thread ",
    b"Java Exception: ",
    b"received signal SIG",
    b"Traceback (most recent call last):",
)


@dataclass(frozen=True)
class Needle:
    """The rows that one needle calls for, by rank, and a pattern that any of them must match."""

    rows: tuple[tuple[int, Format], ...]
    any: re.Pattern[bytes]


@cache
def needles(classes: frozenset[CrashClass]) -> dict[bytes, Needle]:
    """The prefilter for some classes. Rows of other classes stay in: they may match first."""
    table: dict[bytes, Needle] = {}
    for needle in NEEDLES:
        rows = [(rank, row) for rank, row in enumerate(ROWS) if needle in row.needles]
        while rows and rows[-1][1].kind not in classes and rows[-1][1].ends is Ends.LINE:
            rows.pop()
        if rows:
            union = b"|".join(_NAMED.sub(b"(?:", row.header.pattern) for _, row in rows)
            table[needle] = Needle(tuple(rows), re.compile(b"(?:" + union + b")"))
    return table


_NAMED = re.compile(rb"\(\?P<\w+>")

_SEGMENT = re.compile(rb"[^\n\[]*")


def candidates(block: bytes, classes: frozenset[CrashClass]) -> list[tuple[int, Needle]]:
    """Where needles stand in lines that may be headers, in order of position."""
    found: list[tuple[int, Needle]] = []
    for literal, needle in needles(classes).items():
        position = block.find(literal)
        while position >= 0:
            if _may_be(block, position, needle):
                found.append((position, needle))
            # Nothing new comes of a needle again before the line or its record ends.
            stretch = _SEGMENT.match(block, position + len(literal))
            behind = position + len(literal) if stretch is None else stretch.end()
            position = block.find(literal, behind)
    found.sort(key=_position)
    return found


def _may_be(block: bytes, position: int, needle: Needle) -> bool:
    """Whether a line's text matches, or is behind a stamp in the line, which is looked at later."""
    start = block.rfind(b"\n", 0, position) + 1
    prefix = PREFIX.match(block, start)
    behind = start if prefix is None else prefix.end()
    if block.find(b"[", behind, position) >= 0:
        return True
    if position - start > LOOK_BACK:
        return False
    end = block.find(b"\n", position)
    end = len(block) if end < 0 else end
    if block[end - 1] == _CARRIAGE_RETURN:
        end -= 1
    return needle.any.match(block, behind, end) is not None


_CARRIAGE_RETURN = 13


def _position(candidate: tuple[int, Needle]) -> int:
    return candidate[0]


@dataclass
class Line:
    """One line of a block, and the needles found in each of its records."""

    block: bytes
    start: int
    end: int
    starts: list[int] = field(default_factory=list)  # of its records
    calls: dict[int, list[Needle]] = field(default_factory=dict)

    @classmethod
    def around(cls, block: bytes, position: int) -> Line:
        """The line that holds a position."""
        start = block.rfind(b"\n", 0, position) + 1
        end = (block.find(b"\n", position) + 1) or len(block)
        return cls(block, start, end, stamps(block, start, end))

    def call(self, position: int, needle: Needle) -> None:
        """A needle stands at a position of this line."""
        index = bisect_right(self.starts, position) - 1
        if position - self.starts[index] <= LOOK_BACK:
            self.calls.setdefault(index, []).append(needle)

    def headers(self) -> Iterator[tuple[Record, Format, re.Match[bytes]]]:
        """The records of this line that are headers."""
        for index, called in self.calls.items():
            stop = self.starts[index + 1] if index + 1 < len(self.starts) else self.end
            record = record_at(self.block, self.starts[index], stop)
            found = _first_row(record.text, called)
            if found is not None:
                yield record, *found


def _first_row(text: bytes, called: list[Needle]) -> tuple[Format, re.Match[bytes]] | None:
    """The first row of the table, among those called for, that matches a record."""
    best: tuple[int, Format, re.Match[bytes]] | None = None
    for needle in called:
        if needle.any.match(text) is None:
            continue
        for rank, row in needle.rows:
            if best is not None and rank >= best[0]:
                break
            match = row.header.match(text)
            if match is not None:
                best = (rank, row, match)
                break
    return None if best is None else best[1:]
