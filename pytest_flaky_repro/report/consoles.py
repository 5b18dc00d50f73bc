"""Console excerpts: where a crash was reported, as text that can do nothing but be read."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro import crash
from pytest_flaky_repro.stats.statement import printable

READ_MOST = 1 << 20  # of either end of a console
LINES_BEFORE, LINES, WIDTH = 6, 46, 300


@dataclass(frozen=True)
class Line:
    """One line; ``marked``: it belongs to the crash's report."""

    text: str
    marked: bool


@dataclass(frozen=True)
class Excerpt:
    """Some lines of a console, and what of it is not shown."""

    lines: tuple[Line, ...]
    size: int  # bytes, of the whole console
    cut: str  # what was left out, in words; empty if nothing was
    found: bool  # whether a crash report was found in it


def visible(text: str) -> str:
    """Text in which all that could act on what stands beside it is spelled out.

    Beyond :func:`printable`: marks that would be stacked on their neighbours, and invisible ones.
    """
    return "".join(
        f"\\u{ord(c):04x}" if unicodedata.category(c) in {"Mn", "Me", "Cf"} else c
        for c in printable(text)
    )


def excerpt(path: Path, title: str) -> Excerpt | str:
    """The part of a console that shows ``title``; what went wrong if the file cannot be read."""
    try:
        console, skipped, size = _read(path)
    except OSError as error:
        return f"the console {path.name} cannot be read here: {error.strerror}"
    reports = crash.read_console(console)
    report = next((r for r in reports if r.title == title), crash.primary(reports))
    start = report.start if report is not None else len(console)
    end = report.end if report is not None else len(console)
    begin = _lines_back(console, start, LINES_BEFORE if report is not None else LINES)
    stop = _lines_on(console, begin, LINES)
    lines, position, longest = [], begin, 0
    for raw in console[begin:stop].split(b"\n"):
        text = raw.decode("utf-8", "replace").rstrip("\r")
        longest = max(longest, len(text))
        marked = report is not None and start <= position < end and bool(text.strip())
        lines.append(Line(visible(text[:WIDTH]), marked))
        position += len(raw) + 1
    while lines and not lines[-1].text.strip():
        lines.pop()
    cut = []
    if begin or stop < len(console) or skipped:
        cut.append(f"{stop - begin:,} of {size:,} bytes are shown")
    if longest > WIDTH:
        cut.append(f"lines are cut after {WIDTH} characters")
    return Excerpt(tuple(lines), size, "; ".join(cut), report is not None)


def _read(path: Path) -> tuple[bytes, int, int]:
    """A console (of a large one: both its ends), how much was left out, and its size."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        size = os.fstat(descriptor).st_size
        if size <= 2 * READ_MOST:
            return file.read(2 * READ_MOST), 0, size
        head = file.read(READ_MOST)
        file.seek(-READ_MOST, os.SEEK_END)
        return head + b"\n" + file.read(READ_MOST), size - 2 * READ_MOST, size


def _lines_back(text: bytes, position: int, lines: int) -> int:
    """Where the line begins that is so many lines before ``position``, at most 16 kB away."""
    lowest = max(0, position - 16384)
    for _ in range(lines + 1):
        newline = text.rfind(b"\n", lowest, max(lowest, position))
        if newline < 0:
            return lowest
        position = newline
    return position + 1


def _lines_on(text: bytes, position: int, lines: int) -> int:
    """Where the last of so many lines from ``position`` on ends, at most 64 kB away."""
    highest = min(len(text), position + 65536)
    for _ in range(lines):
        newline = text.find(b"\n", position, highest)
        if newline < 0:
            return highest
        position = newline + 1
    return position
