"""Split a console into records: one line of text, who printed it, and where it lies.

The prefix is that of ``kernel/printk/printk.c`` (``info_print_prefix``, ``print_caller``) as a
serial console shows it, each part optional: ``** N printk messages dropped **``, a syslog daemon's
stamp, ``<N>``, ``[    1.234567]``, and the caller ``[  T123]`` or ``[   C0]``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# A header further than this behind its line's start is no header: it bounds every look back.
LOOK_BACK = 512

_DROPPED = rb"(?:\*\* \d+ (?:printk )?messages dropped \*\* ?)?"
_STAMP = (
    rb"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ (?:[\w.]+ )?kernel: "  # RFC 3164
    rb"|\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d\S* (?:\S+ kernel: )?)?"  # RFC 3339, Go's log
)
_LEVEL = rb"(?P<level><\d{1,3}>)?"
_TIME = rb"(?P<time>\[ {0,4}\d{1,7}\.\d{3,6}\])?"
_CALLER = rb"(?: ?\[ {0,5}(?P<caller>[TC]\d{1,7})\])?"

PREFIX = re.compile(_DROPPED + _STAMP + _LEVEL + _TIME + _CALLER + rb" ?")
# A kernel stamp inside a line: the text in front of it lost its newline. The pattern starts with a
# literal, which makes searching for it fast; the level that may be in front is looked for after.
_STAMPED = re.compile(rb"\[ {0,4}\d{1,7}\.\d{6}\]")
_LEVEL_BEFORE = re.compile(rb"<\d{1,3}>$")


class Record(NamedTuple):
    """One record: byte offsets, the text behind the prefix, and the marks the prefix carried."""

    start: int
    end: int  # past the newline
    text: bytes
    stamped: bool  # carried a kernel time or level: the kernel printed it
    caller: bytes | None


_LINE = re.compile(PREFIX.pattern + rb"(?P<text>[^\n]*)\n?")


def record_at(data: bytes, start: int, stop: int) -> Record:
    """Read the record between ``start`` and ``stop`` (a line, or what is glued into one)."""
    match = PREFIX.match(data, start, stop)
    assert match is not None
    level, time, caller = match.group("level", "time", "caller")
    return Record(
        start,
        stop,
        data[match.end() : stop].rstrip(b"\r\n"),
        time is not None or level is not None or caller is not None,
        caller,
    )


def stamps(data: bytes, start: int, stop: int) -> list[int]:
    """Where records start inside one line: at its start, and at every stamp behind that."""
    found = [start]
    if data.find(b"[", start + 1, stop) < 0:
        return found
    prefix = PREFIX.match(data, start, stop)
    behind = start if prefix is None else prefix.end()
    inside = _STAMPED.finditer(data, max(behind, start + 1), stop)
    found.extend(_before_level(data, behind, match.start()) for match in inside)
    return found


def _before_level(data: bytes, start: int, stamp: int) -> int:
    """The start of the level in front of a stamp, or the stamp's own."""
    level = _LEVEL_BEFORE.search(data, max(start, stamp - 5), stamp)
    return stamp if level is None else level.start()


def records(data: bytes, start: int, stop: int) -> Iterator[Record]:
    """All records between two offsets, lines cut again where a stamp stands inside them."""
    while start < stop:
        match = _LINE.match(data, start, stop)
        assert match is not None
        level, time, caller, text = match.group("level", "time", "caller", "text")
        end = match.end()
        inner = _STAMPED.search(text)
        if inner is not None:
            cut = _before_level(text, 0, inner.start())
            if match.start("text") + cut > start:
                end = match.start("text") + cut
                text = text[:cut]
        if text.endswith(b"\r"):
            text = text.rstrip(b"\r")
        stamped = time is not None or level is not None or caller is not None
        yield Record(start, end, text, stamped, caller)
        start = end
