"""Turn headers and the lines behind them into reports with stable titles."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .dispatch import bystander, entered
from .formats import Ends, Format, Where, spoken
from .frames import Frame, Trace, TraceReader, canonical, first_meaning
from .kinds import CrashClass
from .lockdep import became_at, locks_at
from .records import Record, records
from .userstack import user_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .scan import Hit, Scan

WINDOW = 1 << 17  # bytes of one report that are read
NEAR = 1 << 14  # a panic this close behind an unfinished report is its consequence
LINES = 1200
PANIC = b"Kernel panic - not syncing: "
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


@dataclass
class Case:
    """A header and the later headers that belong to the same report."""

    hit: Hit
    stop: int = 0
    answered: bool = False
    mixed: bool = False  # another report began before this one was complete
    parts: list[Hit] = field(default_factory=list)


def reports_of(scan: Scan) -> tuple[Report, ...]:
    """All reports that a finished scan has found, in the order of their headers."""
    text = bytes(scan.text)
    cases = _cases(scan, text)
    built = (_report(case, text, scan.base) for case in cases)
    return tuple(report for report in built if report is not None)


def _cases(scan: Scan, text: bytes) -> list[Case]:
    cases: list[Case] = []
    for hit in scan.hits:
        if not _printed_by_its_own(hit, scan, text):
            continue
        owner = _owner(cases, hit, text, scan.base)
        if owner is not None:
            owner.parts.append(hit)
            continue
        cases.append(Case(hit))
    for index, case in enumerate(cases):
        caller = case.hit.record.caller
        later = (
            other
            for other in cases[index + 1 :]
            if caller is None or other.hit.record.caller in (None, caller)
        )
        following = next(later, None)
        end = scan.end if following is None else following.hit.start
        case.stop = min(end, case.hit.start + WINDOW)
        case.mixed = (
            following is not None
            and caller is None
            and not _complete(case, text[case.hit.start - scan.base : end - scan.base])
        )
    return cases


def _owner(cases: list[Case], hit: Hit, text: bytes, base: int) -> Case | None:
    """The earlier report that this header is a part or a consequence of."""
    caller = hit.record.caller
    for case in reversed([case for case in cases if not case.hit.row.user]):
        distance = hit.start - case.hit.start
        if distance > 4 * WINDOW:
            return None
        then = case.hit.row.then
        if then is not None and then.match(hit.record.text):
            if case.answered or case.hit.record.caller not in (None, caller):
                continue
            case.answered = hit.row.then is None
            return case
        if hit.row.follows:
            return case
        if PANIC in hit.row.needles and case.hit.record.caller in (None, caller):
            between = text[case.hit.start - base : hit.start - base]
            if distance < NEAR and not _complete(case, between):
                return case  # the report itself panics
    return None


def _printed_by_its_own(hit: Hit, scan: Scan, text: bytes) -> bool:
    """Whether kernel text comes from the kernel and user text from a process."""
    if hit.row.user:
        return not hit.record.stamped
    if hit.record.stamped or not (scan.stamped or hit.row.generic):
        return True
    start = hit.start - scan.base
    body = text[start : start + 4096]
    return any(mark in body for mark in _KERNEL_MARKS)


_KERNEL_MARKS = (b"Call Trace:", b"Call trace:", b" PID: ", b"RIP: ", b"unreferenced object 0x")
_PANIC_MARKS = (rb"---\[ end Kernel panic", rb"Kernel Offset: ", rb"Rebooting in ")
END_MARKS: dict[Ends, re.Pattern[bytes]] = {
    ends: re.compile(b"|".join((*marks, *_PANIC_MARKS)))
    for ends, marks in {
        Ends.TRACE: (rb"---\[ end trace",),
        Ends.RULE: (rb"={20,}",),
        Ends.STACK: (rb"</TASK>", rb"---\[ end trace"),
        Ends.PANIC: (),
        Ends.IDLE: (),
        Ends.LINE: (rb"",),
    }.items()
}


def _complete(case: Case, window: bytes) -> bool:
    return END_MARKS[case.hit.row.ends].search(window) is not None


def _body(case: Case, text: bytes, base: int) -> tuple[list[Record], Trace]:
    """The lines of one report up to where its first stack ends, and that stack.

    The lines of other callers are left out where callers are printed.
    """
    lines: list[Record] = []
    row = case.hit.row
    caller = case.hit.record.caller
    stamped = case.hit.record.stamped
    reader = TraceReader(bare=row.kind in _BARE)
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
    seen = _frame(row, words, trace, lines)
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
    row: Format, words: dict[str, str], trace: Trace, lines: Sequence[Record]
) -> str | None:
    """The function of the title: the first source that has one that means something."""
    for where in row.where:
        name = first_meaning(_frames_at(where, words, trace, lines, row.skip), row.skip)
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
    match where:
        case Where.HEADER:
            return [Frame(words["func"])] if "func" in words else []
        case Where.COUNTER:
            return trace.counters[:1]
        case Where.STACK:
            return trace.first
        case Where.LOCKS:
            return locks_at(lines)
        case Where.BECAME:
            return became_at(lines)
        case Where.ENTRY:
            return entered(trace, skip)
        case Where.USER:
            return user_frames(lines)


def _title(
    row: Format, words: dict[str, str], frame: str | None, *, found: bool
) -> tuple[str, bool]:
    """Fill the title, and whether it is the row's full one."""
    wants_frame = "{frame}" in row.title
    named = frame is not None or not wants_frame or "func" in words or row.bare is None
    if named and (found or not row.details):
        return _fill(row.title, words, frame or CORRUPTED), True
    for form in (row.bare or row.title).split("|"):
        try:
            return form.format(**words), False
        except KeyError:
            continue
    return _fill(row.title, words, frame or CORRUPTED), False


def _fill(form: str, words: dict[str, str], frame: str) -> str:
    return form.format_map(_Missing(words, frame=frame))


class _Missing(dict[str, str]):
    """Groups that took no part in a match read as nothing."""

    def __missing__(self, key: str) -> str:
        return ""
