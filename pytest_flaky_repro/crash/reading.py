"""Turn headers and the lines behind them into reports with stable titles."""

from __future__ import annotations

from dataclasses import dataclass
from string import Formatter
from typing import TYPE_CHECKING

from .cases import WINDOW, Case, end_mark, sort_hits
from .dispatch import bystander, entered
from .formats import Ends, Format, Where, spoken
from .frames import ASKED_CPU, Frame, Trace, TraceReader, canonical, first_meaning
from .kinds import CrashClass
from .lockdep import became_at, locks_at
from .records import Record, records
from .userstack import user_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .scan import Scan
    from .skips import Skip

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


@dataclass
class Body:
    """What was read of a report: its lines as far as they were needed, and what they say."""

    lines: list[Record]
    words: dict[str, str]
    trace: Trace
    found: bool  # all details


def _body(case: Case, text: bytes, base: int) -> Body:
    """Read a report's lines until its title is certain, or its first stack has ended."""
    row = case.hit.row
    words = {k: spoken(k, v) for k, v in case.hit.match.groupdict().items() if v is not None}
    missing = list(row.details)
    lines: list[Record] = []
    reader = TraceReader(bare=row.kind in _BARE)
    reader.take(case.hit.record.text)
    stalled = Where.ENTRY in row.where
    for record in _lines(case, text, base) if row.where or missing else ():
        lines.append(record)
        for pattern in missing:
            match = pattern.match(record.text)
            if match is not None:
                missing.remove(pattern)
                for name, value in match.groupdict().items():
                    if value is not None:
                        words.setdefault(name, spoken(name, value))
                break
        if not row.user:
            ended = reader.take(record.text)
            if ended and not (stalled and bystander(reader.latest)):
                break
            if not stalled and not missing and reader.names(row.skip):
                break
    return Body(lines, words, reader.trace, not missing)


def _lines(case: Case, text: bytes, base: int) -> Iterator[Record]:
    """The lines behind a header; those of other callers left out where callers are printed.

    A detector asks other CPUs for their stacks: what these print from then on is the report's, too.
    """
    caller = case.hit.record.caller
    asked = {caller, None}
    kernel = case.hit.record.stamped and not case.hit.row.user
    taken = 0
    for record in records(text, case.hit.end - base, case.stop - base):
        if caller is not None:
            if ASKED_CPU.match(record.text):
                asked.add(record.caller)
            if record.caller not in asked:
                continue
        if kernel and not record.stamped:
            continue
        yield record
        taken += 1
        if taken >= LINES:
            return


def _report(case: Case, text: bytes, base: int) -> Report | None:
    row = case.hit.row
    body = _body(case, text, base)
    if row.needs and not body.found:
        return None
    seen = _frame((Where.HEADER,) if case.mixed else row.where, row.skip, body)
    frame = None if seen is None else canonical(seen)
    title, whole = _title(row, body, frame)
    alternates = set()
    if whole:
        names = {frame or CORRUPTED, seen or CORRUPTED}
        forms = (row.title, *row.alternates)
        alternates = {_fill(form, body.words, name) for form in forms for name in names}
    frameless = "{frame}" in row.title and frame is None
    return Report(
        title,
        frozenset(alternates - {title}),
        row.kind,
        case.hit.start,
        _end(case, text, base),
        corrupted=frameless or row.torn or not body.found,
        generic=row.generic or (frameless and bool(row.where)),
    )


def _end(case: Case, text: bytes, base: int) -> int:
    """Where the report ends: behind the line of its end marker, else where the next one starts."""
    if case.hit.row.ends is Ends.LINE:
        return case.hit.end
    mark = end_mark(case.hit.row.ends, text, case.hit.end - base, case.stop - base)
    end = case.stop
    if mark is not None:
        newline = text.find(b"\n", mark, case.stop - base)
        end = case.stop if newline < 0 else base + newline + 1
    return max([end, *(part.end for part in case.parts)])


def _frame(sources: Sequence[Where], skip: Skip, body: Body) -> str | None:
    """The function of the title: the first source that has one that means something."""
    for where in sources:
        name = first_meaning(_frames_at(where, skip, body), skip)
        if name is not None:
            return name
    return None


def _frames_at(where: Where, skip: Skip, body: Body) -> Sequence[Frame]:
    words, trace, lines = body.words, body.trace, body.lines
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


def _title(row: Format, body: Body, frame: str | None) -> tuple[str, bool]:
    """Fill the title, and whether it is the row's full one."""
    words = body.words
    wants_frame = "{frame}" in row.title
    named = frame is not None or not wants_frame or "func" in words or not row.bare
    if named and body.found:
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
