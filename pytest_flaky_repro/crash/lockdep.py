"""Where lockdep says that locks are taken (``kernel/locking/lockdep.c``).

``print_lock()`` ends each lock with ``at: function+offset``; the first two of a report are the
lock that is being taken and the one already held. ``print_irq_lock_scenario()`` and its kin show
the stack at which a lock came to be used in an interrupt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .frames import Frame, frame_of, plain

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Record

_AT = re.compile(rb".*[)}\]], at:? *(?:\[<\w+>\] *)?(?P<name>[A-Za-z_][^\s+]*)\+0x")
_CHAIN = re.compile(
    rb"the existing dependency chain|stack backtrace:|-> #\d+|other info that might"
    rb"|which lock already"
)
_BECAME = re.compile(rb"\.\.\. which became \S+-safe at:")


def locks_at(lines: Iterable[Record]) -> list[Frame]:
    """The functions that the first locks of a report were taken in."""
    found: list[Frame] = []
    for record in lines:
        if _CHAIN.match(record.text) and found:
            break
        match = _AT.match(record.text)
        if match is not None:
            found.append(Frame(plain(match["name"])))
    return found


def became_at(lines: Iterable[Record]) -> list[Frame]:
    """The stack at which the safe lock of a lock order report became safe."""
    found: list[Frame] = []
    inside = False
    for record in lines:
        if not inside:
            inside = _BECAME.match(record.text) is not None
            continue
        frame = frame_of(record.text)
        if frame is None:
            break
        found.append(frame)
    return found
