"""What one row of the format table says, and how text becomes part of a title."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.crash.frames import plain
from pytest_flaky_repro.crash.skips import COMMON, Skip

if TYPE_CHECKING:
    from pytest_flaky_repro.crash.kinds import CrashClass


class Where(enum.Enum):
    """Where the function of a title is looked for; sources are tried in the order given."""

    HEADER = "header"  # the group ``func`` of the header or of a detail line
    COUNTER = "counter"  # the program counter in kernel mode
    STACK = "stack"  # the first stack
    LOCKS = "locks"  # where lockdep says the locks are taken
    BECAME = "became"  # the stack of a lock that became interrupt-safe
    ENTRY = "entry"  # the callback that a dispatcher entered (see dispatch.py)
    USER = "user"  # a user-space stack


class Ends(enum.Enum):
    """What shows that a report of this format has been printed to its last line."""

    TRACE = "trace"  # ---[ end trace ]---
    RULE = "rule"  # a closing line of '='
    STACK = "stack"  # the end of the call trace, </TASK>
    LINE = "line"  # the header is all there is
    PANIC = "panic"  # Kernel Offset, Rebooting, ---[ end Kernel panic
    IDLE = "idle"  # nothing marks it


@dataclass(frozen=True)
class Format:
    """One row: how a report starts, what titles it, where the function is, and a real sample.

    ``header`` is matched against the text of a record behind its printk prefix. ``details`` are
    searched for in the lines that follow; their named groups join those of the header. ``title``
    is filled from these groups and from ``frame``; ``bare`` serves when a detail or the frame that
    ``title`` asks for is missing (none given: the frame becomes "corrupted").
    """

    kind: CrashClass
    needles: tuple[bytes, ...]  # every header holds one of these: the prefilter searches for them
    header: re.Pattern[bytes]
    title: str
    sample: bytes
    expect: str  # the title of the sample
    where: tuple[Where, ...] = ()
    details: tuple[re.Pattern[bytes], ...] = ()
    bare: tuple[str, ...] = ()  # tried in order; the first whose groups are all there
    skip: Skip = COMMON
    alternates: tuple[str, ...] = ()
    ends: Ends = Ends.TRACE
    needs: bool = False  # without its details it is no report at all
    then: re.Pattern[bytes] | None = None  # later headers that are the rest of this report
    follows: bool = False  # a consequence of an earlier report, which it then belongs to
    generic: bool = False  # the title alone does not tell one bug from another
    vague: bool = False  # anybody may print such a line: only a kernel stamp tells
    torn: bool = False  # such a header is always a torn one
    user: bool = False  # printed by a process: kernel stamps in front are not expected


def header(pattern: str) -> re.Pattern[bytes]:
    """Compile a header pattern; anchored by the caller, who uses ``match``."""
    return re.compile(pattern.encode("ascii"))


_HEX = re.compile(
    r"\b0x[0-9a-f]+\b|\b(?:[0-9a-f]{8}|[0-9a-f]{16})\b|\b(?=\d*[a-f])[0-9a-f]{8,16}\b"
    r"|\(____ptrval____\)"
)
_SUFFIX = re.compile(r"(?<=\w)\.(?:isra|constprop|part|cold)(?:\.\d+)?\b")
_OFFSET = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+")
_CPU = re.compile(r"\b(CPU|cpu)#?:? ?\d+")
_NUMBER = re.compile(r"(?<![\w.])(?<![A-Za-z]-)-?\d+(?:\.\d+)?(?!\w)")
_SPACE = re.compile(r"\s+")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
TITLE_LENGTH = 120


def masked(text: bytes) -> str:
    """Free text of a header made stable: addresses, offsets, CPUs and numbers masked.

    >>> masked(b"Unable to mount root fs on unknown-block(0,0)")
    'Unable to mount root fs on unknown-block(NUM,NUM)'
    """
    word = text.decode("utf-8", "replace")
    word = _SUFFIX.sub("", _OFFSET.sub("", word))
    word = _HEX.sub("ADDR", word)
    word = _CPU.sub(r"\1", word)
    word = _NUMBER.sub("NUM", word)
    word = _UNPRINTABLE.sub("?", word)
    return _SPACE.sub(" ", word).strip()[:TITLE_LENGTH].rstrip()


# Groups that hold a function, and groups that hold a word from a known set, are not masked.
def spoken(name: str, text: bytes) -> str:
    """The value of one named group as a title shows it."""
    if name.startswith("func"):
        return plain(text)
    if name.startswith("word"):
        return text.decode("ascii", "replace")
    if name.startswith("Word"):
        return text.decode("ascii", "replace").capitalize()
    return masked(text)
