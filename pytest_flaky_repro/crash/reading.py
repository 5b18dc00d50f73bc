"""Turn headers and the lines behind them into reports with stable titles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

from .cases import END_MARKS, WINDOW, Case, sort_hits
from .dispatch import bystander, entered
from .formats import Ends, Format, Where, spoken
from .frames import Frame, Trace, TraceReader, canonical, first_meaning
from .kinds import CrashClass
from .lockdep import became_at, locks_at
from .records import Record, records
from .userstack import user_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .scan import Scan

LINES = 1200
CORRUPTED = "corrupted"
_BARE = frozenset({CrashClass.KMSAN, CrashClass.KCSAN, CrashClass.KFENCE})


@dataclass(frozen=True)
class Report:
    """One report on a console. ``start`` and ``end`` are byte offsets into the console.

    ``corrupted``: lines are missing or mixed with another report's, and the title names only what
    is certain. ``generic``: the title alone does not tell one bug from another.
    """

    title: str
    alternates: frozenset[str]
    kind: CrashClass
    start: int
    end: int
    corrupted: bool
    generic: bool


def reports_of(scan: Scan) -> tuple[Report, ...]:
    """All reports that a finished scan has found, in the order of their headers."""
    text = bytes(scan.text)
    cases = sort_hits(scan, text)
    if scan.unexplained is not None and not any(case.hit.row.kind.kernel for case in cases):
        hit = scan.unexplained
        cases.append(Case(hit, min(scan.end, hit.start + WINDOW)))
    built = (_report(case, text, scan.base) for case in cases)
    return tuple(report for report in built if report is not None)


def _body(case: Case, text: bytes, base: int) -> tuple[list[Record], Trace]:
    """The lines of one report up to where its first stack ends, and that stack.

    The lines of other callers are left out where callers are printed.
    """
    lines: list[Record] = []
    row = case.hit.row
    caller = case.hit.record.caller
    stamped = case.hit.record.stamped
    reader = TraceReader(bare=row.kind in _BARE)
    reader.take(case.hit.record.text)
    stalled = Where.ENTRY in row.where
    for record in records(text, case.hit.end - base, case.stop - base):
        if caller is not None and record.caller is not None and record.caller != caller:
            continue
        if stamped and not record.stamped and not row.user:
            continue
        lines.append(record)
        if len(lines) >= LINES:
            break
        ended = reader.take(record.text)
        if ended and not row.user and not (stalled and bystander(reader.latest)):
            break
    return lines, reader.trace


def _report(case: Case, text: bytes, base: int) -> Report | None:
    row = case.hit.row
    lines, trace = _body(case, text, base)
    words = {k: spoken(k, v) for k, v in case.hit.match.groupdict().items() if v is not None}
    found = _details(row, lines, words)
    if row.details and row.needs and not found:
        return None
    where = (Where.HEADER,) if case.mixed else row.where
    seen = _frame(where, row.skip, words, trace, lines)
    frame = None if seen is None else canonical(seen)
    title, whole = _title(row, words, frame, found=found)
    alternates = set()
    if whole:
        names = {frame or CORRUPTED, seen or CORRUPTED}
        alternates = {_fill(form, words, n) for form in (row.title, *row.alternates) for n in names}
    frameless = "{frame}" in row.title and frame is None
    return Report(
        title,
        frozenset(alternates - {title}),
        row.kind,
        case.hit.start,
        _end(case, text, base),
        corrupted=frameless or row.torn or (bool(row.details) and not found),
        generic=row.generic or (frameless and bool(row.where)),
    )


def _end(case: Case, text: bytes, base: int) -> int:
    """Where the report ends: behind the line of its end marker, else where the next one starts."""
    if case.hit.row.ends is Ends.LINE:
        return case.hit.end
    mark = END_MARKS[case.hit.row.ends].search(text, case.hit.end - base, case.stop - base)
    end = case.stop
    if mark is not None:
        newline = text.find(b"\n", mark.end(), case.stop - base)
        end = case.stop if newline < 0 else base + newline + 1
    return max([end, *(part.end for part in case.parts)])


def _details(row: Format, lines: Sequence[Record], words: dict[str, str]) -> bool:
    """Search the lines behind the header for the row's details; True if all were found."""
    found = True
    for pattern in row.details:
        match = next((m for m in (pattern.match(r.text) for r in lines) if m is not None), None)
        if match is None:
            found = False
            continue
        for name, value in match.groupdict().items():
            if value is not None:
                words.setdefault(name, spoken(name, value))
    return found


def _frame(
    sources: Sequence[Where],
    skip: re.Pattern[str],
    words: dict[str, str],
    trace: Trace,
    lines: Sequence[Record],
) -> str | None:
    """The function of the title: the first source that has one that means something."""
    for where in sources:
        name = first_meaning(_frames_at(where, words, trace, lines, skip), skip)
        if name is not None:
            return name
    return None


def _frames_at(
    where: Where,
    words: dict[str, str],
    trace: Trace,
    lines: Sequence[Record],
    skip: re.Pattern[str],
) -> Sequence[Frame]:
    sources: dict[Where, Callable[[], Sequence[Frame]]] = {
        Where.HEADER: lambda: [Frame(words["func"])] if "func" in words else [],
        Where.COUNTER: lambda: trace.counters[:1],
        Where.STACK: lambda: trace.first,
        Where.LOCKS: lambda: locks_at(lines),
        Where.BECAME: lambda: became_at(lines),
        Where.ENTRY: lambda: entered(trace, skip),
        Where.USER: lambda: user_frames(lines),
    }
    return sources[where]()


def _title(
    row: Format, words: dict[str, str], frame: str | None, *, found: bool
) -> tuple[str, bool]:
    """Fill the title, and whether it is the row's full one."""
    wants_frame = "{frame}" in row.title
    named = frame is not None or not wants_frame or "func" in words or not row.bare
    if named and (found or not row.details):
        return _fill(row.title, words, frame or CORRUPTED), True
    known = {**words, "frame": frame or CORRUPTED}
    fitting = (form for form in row.bare if _groups(form) <= known.keys())
    return _fill(next(fitting, row.title), words, frame or CORRUPTED), False


def _groups(form: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(form) if name}


def _fill(form: str, words: dict[str, str], frame: str) -> str:
    return form.format_map(_Missing(words, frame=frame))


class _Missing(dict[str, str]):
    """Groups that took no part in a match read as nothing."""

    def __missing__(self, key: str) -> str:
        return ""
