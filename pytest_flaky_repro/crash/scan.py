"""Find where reports start, in one pass over a console that may still be growing.

A literal prefilter looks only at lines that could be a header; each such line is then matched
against the rows of the format table that ask for the literal. Work is linear in the console's
length: a line is looked at once, look back is bounded, and after ``MAX_HITS`` headers the scan
stops, for a flood of headers says nothing that its first ones have not said.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cache

from .formats import TABLE, Format
from .formats.boot import BOOT, FIRMWARE, HARMLESS
from .kinds import DEFAULT_CLASSES, CrashClass
from .records import LOOK_BACK, Record, record_at, stamps

MAX_HITS = 96
MAX_LINE = 1 << 16  # a line longer than this is cut: no console line is

ROWS = (*TABLE, BOOT)
# Few needles for many rows: each header of a row holds at least one of these.
NEEDLES = (
    b"BUG: ",
    b"WARNING: ",
    b"INFO: ",
    b"[#",
    b"Kernel panic - not syncing: ",
    b"kernel BUG at ",
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
    b"kernel NULL pointer dereference",
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
        while rows and rows[-1][1].kind not in classes:
            rows.pop()
        if rows:
            union = b"|".join(_NAMED.sub(b"(?:", row.header.pattern) for _, row in rows)
            table[needle] = Needle(tuple(rows), re.compile(b"(?:" + union + b")"))
    return table


_NAMED = re.compile(rb"\(\?P<\w+>")
_EARLY = 1 << 16
_BANNER = re.compile(rb"^(?:<\d+>)?(?:\[ *0\.0+\])?(?:\[ *T0\])? *Linux version \d", re.MULTILINE)
_LATER = re.compile(rb"(?:<\d+>)?\[ {0,4}(?!0\.0{3})\d{1,7}\.\d{6}\]")
_STAMP = re.compile(rb"(?:<\d+>)?\[ {0,4}\d{1,7}\.\d{6}\]")


@dataclass(frozen=True)
class Hit:
    """One header: the row it matched, the match, and where the record lies in the console."""

    row: Format
    match: re.Match[bytes]
    record: Record
    start: int  # absolute byte offsets
    end: int


@dataclass
class Scan:
    """Incremental scan. ``text`` holds the console from absolute offset ``base`` on."""

    classes: frozenset[CrashClass] = DEFAULT_CLASSES
    limit: int | None = None  # bytes kept past the first header; None: all
    text: bytearray = field(default_factory=bytearray)
    base: int = 0
    hits: list[Hit] = field(default_factory=list)
    stamped: bool = False  # a kernel stamp was seen: this kernel prints them
    booted: bool = False  # a boot banner was seen, or traces of a machine that ran before
    _scanned: int = 0  # absolute: everything before it has been searched
    _other: bool = False  # a line was printed that is not the emulator's own

    @property
    def end(self) -> int:
        """Absolute offset past the last byte held."""
        return self.base + len(self.text)

    @property
    def full(self) -> bool:
        """Whether nothing further can change the answer."""
        if len(self.hits) >= MAX_HITS:
            return True
        return bool(
            self.limit is not None and self.hits and self.end - self.hits[0].start >= self.limit
        )

    def feed(self, chunk: bytes) -> int:
        """Take more of the console; returns how many new headers were found."""
        if self.full and self.limit is not None:
            return 0
        before = len(self.hits)
        for offset in range(0, len(chunk), 1 << 20):
            self.text += chunk[offset : offset + (1 << 20)]
            self._advance(final=False)
        return len(self.hits) - before

    def finish(self) -> None:
        """The console is complete: its last line counts even without a newline."""
        self._advance(final=True)

    def _advance(self, *, final: bool) -> None:
        start = self._scanned - self.base
        stop = len(self.text)
        if not final:
            newline = self.text.rfind(b"\n", start)
            stop = newline + 1 if newline >= 0 else start
            rest = len(self.text) - stop
            stop += rest - rest % MAX_LINE if rest >= MAX_LINE else 0
        if self.limit is not None and self.hits:
            stop = min(stop, self.hits[0].start + self.limit - self.base)
        if stop <= start:
            return
        if len(self.hits) < MAX_HITS:
            self._search(bytes(memoryview(self.text)[start:stop]), self._scanned)
        self._scanned = self.base + stop
        if not self.hits:
            self._trim(stop)

    def _trim(self, scanned: int) -> None:
        """Forget what was searched in vain."""
        del self.text[:scanned]
        self.base += scanned

    def _search(self, block: bytes, base: int) -> None:
        self._watch_stamps(block)
        self._watch_boot(block, base)
        end = 0
        starts: list[int] = []
        calls: dict[int, list[Needle]] = {}
        for position, needle in self._candidates(block):
            if position >= end:
                self._settle(block, base, starts, end, calls)
                if len(self.hits) >= MAX_HITS:
                    return
                start = block.rfind(b"\n", 0, position) + 1
                end = (block.find(b"\n", position) + 1) or len(block)
                starts = stamps(block, start, end)
                calls = {}
            index = bisect_right(starts, position) - 1
            if position - starts[index] <= LOOK_BACK:
                calls.setdefault(index, []).append(needle)
        self._settle(block, base, starts, end, calls)

    def _settle(
        self, block: bytes, base: int, starts: list[int], end: int, calls: dict[int, list[Needle]]
    ) -> None:
        """Match the records of one line against the rows that needles call for."""
        for index, called in calls.items():
            stop = starts[index + 1] if index + 1 < len(starts) else end
            record = record_at(block, starts[index], stop)
            found = _first_row(record.text, called)
            if found is None:
                continue
            row, match = found
            if row is BOOT:
                again, self.booted = self.booted, True
                if not again:
                    continue
            if row.kind in self.classes and len(self.hits) < MAX_HITS:
                self.hits.append(Hit(row, match, record, base + record.start, base + record.end))

    def _candidates(self, block: bytes) -> list[tuple[int, Needle]]:
        """Every place where a needle stands, in order of position."""
        found: list[tuple[int, Needle]] = []
        for literal, needle in needles(self.classes).items():
            position = block.find(literal)
            while position >= 0:
                found.append((position, needle))
                position = block.find(literal, position + len(literal))
        found.sort(key=_position)
        return found

    def _watch_boot(self, block: bytes, base: int) -> None:
        """Whether a machine was running before: firmware or a first kernel line starts a console.

        Only the first lines can tell; a long console without a banner was running all along.
        """
        if self.booted:
            return
        if base >= _EARLY:
            self.booted = True
            return
        early = block[: _EARLY - base]
        banner = _BANNER.search(early)
        early = early if banner is None else early[: banner.start()]
        start = 0
        while start >= 0:
            if _LATER.match(early, start):
                self.booted = True
                return
            newline = early.find(b"\n[", start)
            start = newline + 1 if newline >= 0 else -1
        firmware = FIRMWARE.search(early)
        if firmware is not None:
            self.booted = self._other or _says_more(early[: firmware.start()])
        self._other = self._other or firmware is not None or _says_more(early)

    def _watch_stamps(self, block: bytes) -> None:
        if self.stamped:
            return
        position = 0
        while position >= 0:
            if _STAMP.match(block, position):
                self.stamped = True
                return
            newline = block.find(b"\n[", position)
            position = newline + 1 if newline >= 0 else -1


def _position(candidate: tuple[int, Needle]) -> int:
    return candidate[0]


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


def _says_more(text: bytes) -> bool:
    """Whether anything but the emulator's own words was printed."""
    lines = (line.strip() for line in text.splitlines())
    return any(line and not HARMLESS.match(line) for line in lines)
