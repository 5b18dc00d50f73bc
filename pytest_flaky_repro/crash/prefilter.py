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

MAX_HITS = 96
ROWS = (*TABLE, BOOT)
# Few needles for many rows: each header of a row holds at least one of these.
NEEDLES = (
    b"BUG: ",
    b"WARNING: ",
    b"INFO: ",
    b"[#",
    b"Kernel panic - not syncing: ",
    b"unregister_netdevice: ",
    b"general protection fault",
    b"nable to handle ",
    b"UBSAN: ",
    b"list_",
    b"refcount_t: ",
    b"usercopy: ",
    b"hard LOCKUP",
    b"Alignment trap: ",
    b"PANIC: double fault",
    b"unreferenced object 0x",
    b"Linux version ",
    b"segfault at ",
    b"traps: ",
    b"panic: ",
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
    b"received signal SIG",
    b"Traceback (most recent call last):",
    b"BUG ",
    b"VFS: ",
    b"Unhandled ",
    b"atal error",
    b"Exception",
)


@dataclass(frozen=True)
class Needle:
    """The rows that one needle calls for, by rank, and a pattern that any of them must match."""

    rows: tuple[tuple[int, Format], ...]
    any: re.Pattern[bytes]
    certain: bool  # none of its rows is switched off: what matches is a header


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
            certain = all(row.kind in classes for _, row in rows)
            table[needle] = Needle(tuple(rows), re.compile(b"(?:" + union + b")"), certain)
    return table


_NAMED = re.compile(rb"\(\?P<\w+>")

_SEGMENT = re.compile(rb"[^\n\[]*")


def candidates(block: bytes, classes: frozenset[CrashClass]) -> list[tuple[int, Needle]]:
    """Where needles stand in lines that may be headers, in order of position."""
    found: list[tuple[int, Needle]] = []
    for literal, needle in needles(classes).items():
        position = block.find(literal)
        sure = 0
        while position >= 0 and sure < MAX_HITS:
            matches = _matches(block, position, needle)
            if matches is not False:
                found.append((position, needle))
                sure += matches is True and needle.certain
            # Nothing new comes of a needle again before the line or its record ends.
            stretch = _SEGMENT.match(block, position + len(literal))
            behind = position + len(literal) if stretch is None else stretch.end()
            position = block.find(literal, behind)
    found.sort(key=_position)
    return found


def _matches(block: bytes, position: int, needle: Needle) -> bool | None:
    """Whether a line's text is a header; None if a stamp inside the line makes that unclear."""
    start = block.rfind(b"\n", 0, position) + 1
    prefix = PREFIX.match(block, start)
    behind = start if prefix is None else prefix.end()
    if block.find(b"[", behind, position) >= 0:
        return None
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
