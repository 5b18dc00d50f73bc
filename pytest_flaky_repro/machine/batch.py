"""Trials one after another in one boot, each begun anew by the agent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.sharing import Seat
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder, boot_guest, run_in


@dataclass(frozen=True)
class _Booted:
    """A guest that waits for its next trial, and how its boot went."""

    guest: Guest
    facts: TrialFacts


class BatchMachine:
    """Keeps the guest of a boot running between that boot's trials.

    A guest belongs to the thread that started it, so all trials of a boot are that thread's; it
    holds its slot for as long as it lives, since QEMU inherits the slot's locks.
    """

    def __init__(self, cold: QemuMachine) -> None:
        self._cold = cold
        self._here = threading.local()

    @property
    def accel(self) -> Accel:
        return self._cold.accel

    @property
    def at_once(self) -> int:
        return self._cold.at_once

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        return self._cold.slot(stop)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        if order.seat is None:
            return self._cold.run(order, slot, stop, started)
        booted = self._booted(order.seat, slot, stop)
        if booted.facts.detail:
            return booted.facts
        stays = order.seat.place < order.seat.last
        facts = run_in(booted.guest, order, booted.facts, started, stays=stays)
        if facts.spent:
            self.let_go()
        return facts

    def retire(self, boot: str) -> None:
        """Its thread lets the guest go: before it asks for the next slot, or at its own end."""

    def let_go(self) -> None:
        booted: _Booted | None = getattr(self._here, "booted", None)
        self._here.booted = None
        if booted is not None:
            booted.guest.kill()

    def _booted(self, seat: Seat, slot: Slot, stop: StopSignal) -> _Booted:
        """The calling thread's guest of that boot, new if there is none."""
        kept: _Booted | None = getattr(self._here, "booted", None)
        if kept is not None and kept.facts.boot == seat.boot:
            return replace(kept, facts=replace(kept.facts, boot_s=0.0))
        self.let_go()
        guest = self._cold.boot(slot, stop, cleans_up=True)
        try:
            booted = _Booted(guest, boot_guest(guest, seat.boot, self._cold.smp))
        except BaseException:
            guest.kill()
            raise
        if not booted.facts.detail:
            self._here.booted = booted
        return booted
