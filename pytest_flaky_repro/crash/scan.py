"""Find where reports start, in one pass over a console that may still be growing.

A prefilter picks the lines that could be a header; only they are matched against the format
table. Work is linear in the console's
length: a line is looked at once, look back is bounded, and after ``MAX_HITS`` headers the scan
stops, for a flood of headers says nothing that its first ones have not said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from .formats import Format
from .formats.boot import BOOT, FIRMWARE, HARMLESS
from .formats.unknown import EXPLAINED, UNKNOWN
from .kinds import DEFAULT_CLASSES, CrashClass
from .prefilter import MAX_HITS, Line, candidates
from .records import Record, record_at, stamps

MAX_LINE = 1 << 16  # a line longer than this is cut: no console line is

_EARLY = 1 << 16
_CONTEXT = 1024
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
    unexplained: Hit | None = None  # a call trace before any header
    stamped: bool = False  # a kernel stamp was seen: this kernel prints them
    booted: bool = False  # a boot banner was seen, or traces of a machine that ran before
    _scanned: int = 0  # absolute: everything before it has been searched
    _muted: int | None = None  # where the first header of a class that is switched off lies
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
        first = self.first
        return self.limit is not None and first is not None and self.end - first >= self.limit

    @property
    def first(self) -> int | None:
        """Where the first sign of a report is; None while there is none."""
        starts = [hit.start for hit in (*self.hits[:1], self.unexplained) if hit is not None]
        return min(starts, default=None)

    def _first_kernel(self) -> int | None:
        return next((hit.start for hit in self.hits if hit.row.kind.kernel), None)

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
        if self.limit is not None and self.first is not None:
            stop = min(stop, self.first + self.limit - self.base)
        if stop <= start:
            return
        if len(self.hits) < MAX_HITS:
            self._search(bytes(memoryview(self.text)[start:stop]), self._scanned)
        self._scanned = self.base + stop
        if not self.hits:
            self._trim(stop)

    def _trim(self, scanned: int) -> None:
        """Forget what was searched in vain, but for what may explain a call trace."""
        if scanned > _CONTEXT and self.unexplained is None:
            del self.text[: scanned - _CONTEXT]
            self.base += scanned - _CONTEXT

    def _search(self, block: bytes, base: int) -> None:
        self._watch_stamps(block)
        self._watch_boot(block, base)
        line = Line(block, 0, 0)
        for position, needle in candidates(block, self.classes):
            if position >= line.end:
                self._settle(line, base)
                if len(self.hits) >= MAX_HITS:
                    return
                line = Line.around(block, position)
            line.call(position, needle)
        self._settle(line, base)
        self._watch_traces(block, base)

    def _settle(self, line: Line, base: int) -> None:
        """Match the records of one line against the rows that needles call for."""
        for record, row, match in line.headers():
            if row is BOOT:
                again, self.booted = self.booted, True
                if not again:
                    continue
            if row.kind.kernel and row.kind not in self.classes and self._muted is None:
                self._muted = base + record.start
            if row.kind in self.classes and len(self.hits) < MAX_HITS:
                self.hits.append(Hit(row, match, record, base + record.start, base + record.end))

    def _watch_traces(self, block: bytes, base: int) -> None:
        """Look for a call trace that no header announced."""
        if self.unexplained or UNKNOWN.kind not in self.classes:
            return
        known = min(
            (at for at in (self._muted, self._first_kernel()) if at is not None), default=None
        )
        if known is not None and known < base:
            return
        for literal in UNKNOWN.needles:
            position = block.find(literal)
            while position >= 0 and self.unexplained is None:
                start = block.rfind(b"\n", 0, position) + 1
                start = stamps(block, start, position)[-1]
                end = (block.find(b"\n", position) + 1) or len(block)
                record = record_at(block, start, end)
                match = UNKNOWN.header.match(record.text)
                if known is not None and base + start > known:
                    return
                if match is not None and (record.stamped or not self.stamped):
                    absolute = base + start - self.base
                    if not EXPLAINED.search(self.text, max(0, absolute - _CONTEXT), absolute):
                        self.unexplained = Hit(UNKNOWN, match, record, base + start, base + end)
                position = block.find(literal, end)

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
        banner = early.find(b"Linux version ")
        early = early if banner < 0 else early[:banner]
        start = 0
        while start >= 0:
            if _LATER.match(early, start):
                self.booted = True
                return
            newline = early.find(b"\n[", start)
            start = newline + 1 if newline >= 0 else -1
        firmware = early.find(FIRMWARE)
        if firmware >= 0:
            self.booted = self._other or _says_more(early[:firmware])
        self._other = self._other or firmware >= 0 or _says_more(early)

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


def _says_more(text: bytes) -> bool:
    """Whether anything but the emulator's own words was printed."""
    lines = (line.strip() for line in text.splitlines())
    return any(line and not HARMLESS.match(line) for line in lines)
