"""Sort headers into reports: what belongs together, where each one stops, what is uncertain.

A report may print several headers: ``list_del corruption`` announces a ``kernel BUG``, which traps
with ``invalid opcode``, which may end in a panic. And two CPUs may report at once, line by line.
Where the console prints callers (``CONFIG_PRINTK_CALLER``) lines are told apart by them; where it
does not, the lines behind a header that came up inside another report may be either's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .formats import Ends

if TYPE_CHECKING:
    from .scan import Hit, Scan

WINDOW = 1 << 17  # bytes of one report that are read
NEAR = 1 << 14  # a panic this close behind an unfinished report is its consequence
PANIC = b"Kernel panic - not syncing: "


@dataclass
class Case:
    """A header and the later headers that belong to the same report."""

    hit: Hit
    stop: int = 0
    answered: bool = False
    mixed: bool = False  # another CPU's report was still being printed when this one began
    parts: list[Hit] = field(default_factory=list)


def sort_hits(scan: Scan, text: bytes) -> list[Case]:
    """Group the headers of a scan; ``text`` is what the scan holds, as bytes."""
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
        following = next((other for other in cases[index + 1 :] if _cuts(case, other)), None)
        end = scan.end if following is None else following.hit.start
        case.stop = min(end, case.hit.start + WINDOW)
        case.mixed = any(
            _still_printing(earlier, case, text, scan.base) for earlier in cases[:index]
        )
    return cases


def _cuts(case: Case, other: Case) -> bool:
    """Whether the lines of one report stop where the other one starts."""
    if other.hit.row.user and not case.hit.row.user:
        return False
    caller = case.hit.record.caller
    return caller is None or other.hit.record.caller in (None, caller)


def _still_printing(earlier: Case, case: Case, text: bytes, base: int) -> bool:
    """Whether an earlier report without callers has not come to its end marker yet."""
    if earlier.hit.record.caller is not None or earlier.hit.row.user:
        return False
    if earlier.hit.row.ends not in (Ends.TRACE, Ends.RULE):
        return False  # older kernels do not mark the end of the others
    distance = case.hit.start - earlier.hit.start
    between = text[earlier.hit.end - base : case.hit.start - base]
    return distance < NEAR and not complete(earlier, between)


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
            if distance < NEAR and not complete(case, between):
                return case  # the report itself panics
    return None


def _printed_by_its_own(hit: Hit, scan: Scan, text: bytes) -> bool:
    """Whether kernel text comes from the kernel and user text from a process."""
    if hit.row.user:
        return not hit.record.stamped
    if hit.record.stamped or not (scan.stamped or hit.row.vague):
        return True
    start = hit.start - scan.base
    body = text[start : start + 4096]
    return _KERNEL_MARKS.search(body) is not None


# What only the kernel prints: dump_stack_print_info(), show_regs(), show_stack_log_lvl().
_KERNEL_MARKS = re.compile(
    rb"CPU: \d+ (?:UID: \d+ )?PID: \d+ Comm: |RIP: \d{4}:|^ ?Call [Tt]race:\s*$"
    rb"|unreferenced object 0x",
    re.MULTILINE,
)
_PANIC_MARKS = (b"---[ end Kernel panic", b"Kernel Offset: ", b"Rebooting in ")
_END_MARKS: dict[Ends, tuple[bytes, ...]] = {
    Ends.TRACE: (b"---[ end trace", *_PANIC_MARKS),
    Ends.RULE: (b"=" * 20, *_PANIC_MARKS),
    Ends.STACK: (b"</TASK>", b"---[ end trace", *_PANIC_MARKS),
    Ends.PANIC: _PANIC_MARKS,
    Ends.IDLE: _PANIC_MARKS,
}


def end_mark(ends: Ends, text: bytes, start: int = 0, stop: int | None = None) -> int | None:
    """Where the first end marker of a format stands in a stretch of text; None without one."""
    if ends is Ends.LINE:
        return start
    limit = len(text) if stop is None else stop
    found = None
    for mark in _END_MARKS[ends]:
        position = text.find(mark, start, limit)
        if position >= 0:
            found = limit = position
    return found


def complete(case: Case, window: bytes) -> bool:
    """Whether a report's end marker stands in what was printed behind its header."""
    return end_mark(case.hit.row.ends, window) is not None
