"""What a guest printed, kept within a bound."""

from __future__ import annotations

import time

from pytest_flaky_repro.crash import Collector


class ConsoleLog:
    """The first and the last ``keep`` bytes of a stream; what lies between is counted, not kept.

    A guest may print without end: memory stays bounded and the reader never stops reading, since
    a serial port nobody drains stalls the guest and changes the race under test.
    """

    def __init__(self, keep: int = 1 << 20) -> None:
        self._keep = keep
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def append(self, chunk: bytes) -> None:
        self.total += len(chunk)
        room = self._keep - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        if chunk:
            self._tail += chunk
            if len(self._tail) > 2 * self._keep:
                del self._tail[: -self._keep]

    def content(self) -> bytes:
        """Everything kept, with a line in place of what was left out."""
        tail = bytes(self._tail[-self._keep :])
        left_out = self.total - len(self._head) - len(tail)
        if not left_out:
            return bytes(self._head) + tail
        note = f"\n[flaky-repro: {left_out} bytes of console left out here]\n".encode()
        return bytes(self._head) + note + tail


class TrialConsole:
    """The part of the console that belongs to one trial: what follows its mark.

    Frames and console are two ports, so the order in which their bytes arrive says little; the
    mark that the agent prints through printk right before START is in the console's own order.
    """

    def __init__(self, mark: bytes, collector: Collector | None, end: bytes = b"") -> None:
        self._mark, self._end = mark, end
        self._last = b""
        self.ended = not end  # whether the mark behind the run was seen; True if none is expected
        self._window = b""
        self._log: ConsoleLog | None = None
        self._closed = False
        self.collector = collector

    def close(self) -> None:
        """What comes from here on is not the trial's: it was asked for by its observer."""
        self._closed = True

    def feed(self, chunk: bytes) -> None:
        if self._closed:
            return
        if self._log is None:
            self._window += chunk
            before, mark, chunk = self._window.partition(self._mark)
            if not mark:
                self._window = before[-len(self._mark) :]
                return
            self._log = ConsoleLog()
        if chunk:
            self._log.append(chunk)
            if not self.ended:
                seen = self._last + chunk
                self.ended, self._last = self._end in seen, seen[-len(self._end) :]
            if self.collector is not None:
                self.collector.feed(chunk, time.monotonic())

    def end_at(self) -> float | None:
        """When a crash report will be complete (monotonic clock); None while there is none."""
        return self.collector.end_at() if self.collector is not None else None

    def content(self) -> bytes | None:
        """The trial's console; None when its mark never came."""
        return self._log.content() if self._log is not None else None
