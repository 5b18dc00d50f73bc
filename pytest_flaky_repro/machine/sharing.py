"""What guests need that run more than one trial, or one of many from the same boot."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pytest_flaky_repro.crash import Collector, CrashClass
from pytest_flaky_repro.guest.protocol import Frame
from pytest_flaky_repro.machine.conversation import Ready

REPORTED = "the kernel reported something (whether or not it counts as a crash here)"


@dataclass(frozen=True)
class Seat:
    """A trial's place in a boot that it shares with others; the first place is 1."""

    boot: str
    place: int
    last: int


class Frozen:
    """A guest that has said READY, stopped: memory and devices' state in files of no disk.

    Any number of guests can be restored from it at once: each copies what it writes.
    """

    def __init__(self, memory_mib: int) -> None:
        self.memory = os.memfd_create("guest-memory", os.MFD_CLOEXEC)
        os.ftruncate(self.memory, memory_mib << 20)
        self.state = os.memfd_create("guest-state", os.MFD_CLOEXEC)
        self.ready = Ready(-1, -1, "", "", has_kmsg=False, messages_seen=False)
        self.boot_nonce = ""
        self.console = b""

    @contextmanager
    def open_state(self) -> Iterator[int]:
        """The state's file opened anew: an offset of its own, since each reader moves it."""
        descriptor = os.open(f"/proc/self/fd/{self.state}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Gives the memory back; guests that were restored keep theirs."""
        os.close(self.memory)
        os.close(self.state)


class Alarm:
    """Notices what makes a kernel unfit for another trial: a report of any class, a new taint.

    Lockdep and WARN_ONCE speak once a boot, and an oops leaves locks held: what comes after would
    be a trial of another kernel.
    """

    def __init__(self) -> None:
        self._collector = Collector(frozenset(CrashClass))
        self._taint: str | None = None
        self._why = ""

    @property
    def kernel_reported(self) -> bool:
        return self._collector.seen

    def feed(self, chunk: bytes) -> None:
        """Console bytes, whichever run they belong to."""
        self._collector.feed(chunk, 0.0)

    def started(self, start: Frame) -> None:
        self._taint = start.fields.get("taint")

    def ended(self, end: Frame) -> None:
        taint = end.fields.get("taint")
        if taint != self._taint:
            self._why = f"the run changed the kernel's taint flags from {self._taint} to {taint}"

    def why(self) -> str:
        """Why no further trial may run here; nothing while one may."""
        return REPORTED if self.kernel_reported else self._why
