"""Watch a console that is still growing, and say when a report on it is complete."""

from __future__ import annotations

from .cases import end_mark
from .kinds import DEFAULT_CLASSES, CrashClass
from .reading import Report, reports_of
from .scan import Scan

SETTLE_S = 0.5  # after the end marker: register dumps and a panic may follow
IDLE_S = 3.0  # without an end marker: silence ends a report
CAP_S = 10.0  # whatever happens
CAP_BYTES = 1 << 20
_LONGEST_MARK = 32


class Collector:
    """Feed console chunks with the monotonic time of their arrival, in seconds.

    What :meth:`finish` returns depends on the bytes alone, not on how they were cut into chunks;
    only :meth:`end_at` depends on the times.
    """

    def __init__(self, classes: frozenset[CrashClass] | None = None) -> None:
        self._scan = Scan(DEFAULT_CLASSES if classes is None else classes, limit=CAP_BYTES)
        self._first: float | None = None
        self._last = 0.0
        self._complete: float | None = None
        self._marked = 0  # absolute offset up to which end markers were searched for

    def feed(self, chunk: bytes, now: float) -> None:
        """Take the next bytes of the console, which arrived at ``now``."""
        if not chunk:
            return
        fresh = self._scan.feed(chunk)
        if not self.seen:
            return
        if self._first is None:
            self._first = now
        self._last = now
        if fresh:
            self._complete = None
        if self._complete is None and self._ended():
            self._complete = now

    def _ended(self) -> bool:
        """Whether the end marker of the last report has been printed."""
        scan = self._scan
        last = scan.hits[-1] if scan.hits else scan.unexplained
        if last is None:
            return False
        start = max(self._marked - _LONGEST_MARK, last.end) - scan.base
        tail = bytes(memoryview(scan.text)[max(start, 0) :])
        self._marked = scan.end
        return end_mark(last.row.ends, tail) is not None

    @property
    def seen(self) -> bool:
        """Whether a report has begun: its header, or a call trace that none announced."""
        return self._scan.first is not None

    def end_at(self) -> float | None:
        """The monotonic time at which the VM may be ended; None while nothing was seen."""
        if self._first is None:
            return None
        if self._scan.full:
            return self._last
        settled = self._last + IDLE_S if self._complete is None else self._complete + SETTLE_S
        return min(settled, self._first + CAP_S)

    def finish(self) -> tuple[Report, ...]:
        """The console is over: all reports on it."""
        self._scan.finish()
        return reports_of(self._scan)
