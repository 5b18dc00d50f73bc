"""The machine that QEMU makes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.sharing import Frozen
from pytest_flaky_repro.machine.slots import Slot, Slots
from pytest_flaky_repro.machine.spec import Accel, Deadlines, Emulator, GuestSpec
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder, run_trial


class QemuMachine:
    """Cold boots: every trial is a new guest of the same spec."""

    def __init__(
        self,
        emulator: Emulator,
        spec: GuestSpec,
        slots: Slots | None = None,
        limits: Deadlines | None = None,
    ) -> None:
        self._emulator, self._spec = emulator, spec
        self._slots = slots or Slots()
        self._limits = limits or Deadlines()

    @property
    def accel(self) -> Accel:
        return self._spec.accel

    @property
    def smp(self) -> int:
        return self._spec.smp

    @property
    def at_once(self) -> int:
        return self._slots.guests_at_once(self._spec.smp, self._spec.memory_mib)

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        return self._slots.acquire(self._spec.smp, self._spec.memory_mib, stop)

    @property
    def memory_mib(self) -> int:
        return self._spec.memory_mib

    @property
    def slots(self) -> Slots:
        return self._slots

    def boot(
        self,
        slot: Slot,
        stop: StopSignal,
        pause: Path | None = None,
        *,
        ram: int | None = None,
        restore: Frozen | None = None,
        cleans_up: bool = False,
    ) -> Guest:
        """A new guest; it holds the slot until its QEMU ends. ``pause``: see :mod:`.pause`.

        For the other three see :class:`Guest`.
        """
        return Guest(
            self._emulator,
            self._spec,
            stop=stop,
            limits=self._limits,
            keep_open=slot.descriptors,
            pause=pause,
            ram=ram,
            restore=restore,
            cleans_up=cleans_up,
        )

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        guest = self.boot(slot, stop)
        try:
            return run_trial(guest, order, self._spec.smp, started)
        finally:
            guest.kill()
