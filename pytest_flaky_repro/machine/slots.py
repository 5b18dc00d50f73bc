"""Machine-wide slots: no more guests at once than the machine's cores and memory carry.

A slot is a set of locked files in one folder that all users' processes on the machine share: one
file a core, one file a piece of memory. A lock belongs to an open file description (flock(2)),
and QEMU inherits it: when QEMU ends, however it ends and whoever started it, its slot is free.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.machine.stop import StopSignal

FOLDER_VARIABLE = "PYTEST_REPRO_SLOTS"
PIECE_MIB = 256
OVERHEAD_MIB = 64  # QEMU's own memory and its translation buffers, beside the guest's
MEMORY_SHARE = 0.8
LOOK_EVERY_S = 0.05


@dataclass(frozen=True)
class Capacity:
    """What there is to share: cores, and pieces of memory."""

    cores: int
    pieces: int


@dataclass(frozen=True)
class Slot:
    """Descriptors that hold the locks; QEMU inherits them."""

    descriptors: tuple[int, ...]


def machine_capacity() -> Capacity:
    """The cores this process may run on, and most of the machine's memory."""
    memory_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
    return Capacity(
        cores=len(os.sched_getaffinity(0)),
        pieces=max(1, int(memory_mib * MEMORY_SHARE) // PIECE_MIB),
    )


class Slots:
    """The slots of this machine (or of one folder, for tests)."""

    def __init__(self, folder: Path | None = None, capacity: Capacity | None = None) -> None:
        chosen = os.environ.get(FOLDER_VARIABLE)
        shared = Path(tempfile.gettempdir()) / "pytest-flaky-repro-slots"
        self._folder = folder or (Path(chosen) if chosen else shared)
        self.capacity = capacity or machine_capacity()

    def guests_at_once(self, smp: int, memory_mib: int) -> int:
        """How many such guests fit at once, at least 1."""
        cores, pieces = self._need(smp, memory_mib)
        return max(1, min(self.capacity.cores // cores, self.capacity.pieces // pieces))

    @contextmanager
    def acquire(self, smp: int, memory_mib: int, stop: StopSignal) -> Iterator[Slot | None]:
        """Waits for a slot; None when ``stop`` was set meanwhile.

        Whoever waits at the head of the line holds the gate, so a guest that needs two cores is
        not overtaken for ever by guests that need one.
        """
        self._make_folder()
        slot = None
        with self._file("gate") as gate:
            while not stop.is_set():
                if _try_lock(gate):
                    slot = self._take(*self._need(smp, memory_mib))
                    if slot is not None:
                        break
                # flock(2) cannot wait for any one of several files, so look again soon
                stop.wait(LOOK_EVERY_S)
        try:
            yield slot
        finally:
            _close(slot.descriptors if slot is not None else ())

    def occupancy(self) -> Capacity:
        """Cores and pieces in use right now, by any process."""
        self._make_folder()
        return Capacity(
            cores=sum(self._is_taken(f"core-{i}") for i in range(self.capacity.cores)),
            pieces=sum(self._is_taken(f"memory-{i}") for i in range(self.capacity.pieces)),
        )

    def _need(self, smp: int, memory_mib: int) -> tuple[int, int]:
        """Cores and pieces for one guest; one that is larger than the machine takes all of it."""
        pieces = -(-(memory_mib + OVERHEAD_MIB) // PIECE_MIB)
        return min(smp, self.capacity.cores), min(pieces, self.capacity.pieces)

    def _take(self, cores: int, pieces: int) -> Slot | None:
        taken: list[int] = []
        try:
            enough = self._lock_some("core", self.capacity.cores, cores, taken)
            enough = enough and self._lock_some("memory", self.capacity.pieces, pieces, taken)
        except BaseException:
            _close(taken)
            raise
        if enough:
            return Slot(tuple(taken))
        _close(taken)
        return None

    def _lock_some(self, kind: str, there_are: int, wanted: int, taken: list[int]) -> bool:
        for i in range(there_are):
            if wanted == 0:
                break
            descriptor = self._open(f"{kind}-{i}")
            if _try_lock(descriptor):
                taken.append(descriptor)
                wanted -= 1
            else:
                os.close(descriptor)
        return wanted == 0

    def _is_taken(self, name: str) -> bool:
        with self._file(name) as descriptor:
            return not _try_lock(descriptor)

    @contextmanager
    def _file(self, name: str) -> Iterator[int]:
        descriptor = self._open(name)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o777, parents=True, exist_ok=True)
            if self._folder.stat().st_uid == os.getuid():
                self._folder.chmod(0o1777)  # other users' runs share the same cores
        except OSError as error:
            msg = (
                f"the folder for machine-wide slots cannot be made: {error}. "
                f"Name another one with the environment variable {FOLDER_VARIABLE}."
            )
            raise InfrastructureError(msg) from error

    def _open(self, name: str) -> int:
        """Opens a lock file; it stays there for ever, since removing a locked file breaks locks."""
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        path = self._folder / name
        try:
            try:
                descriptor = os.open(path, flags)
            except FileNotFoundError:  # O_CREAT on another user's file is refused in /tmp
                descriptor = os.open(path, flags | os.O_CREAT, 0o666)
                os.fchmod(descriptor, 0o666)
        except OSError as error:
            msg = (
                f"the slot file {path} cannot be opened: {error}. "
                f"Name another folder with the environment variable {FOLDER_VARIABLE}."
            )
            raise InfrastructureError(msg) from error
        return descriptor


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
