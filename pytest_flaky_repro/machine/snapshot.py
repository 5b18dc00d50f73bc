"""Trials in copies of one booted guest: boot to READY, freeze, and restore for every trial.

Guest memory is a file that restored guests map copy-on-write; with QEMU's migration capability
``x-ignore-shared`` (docs/devel/migration.rst in QEMU) only the state of the devices is written
and read, some 150 kB. A restored trial begins with fresh entropy, the right time, and a random
moment late; its kernel's layout and everything else drawn at boot it shares with the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from pytest_flaky_repro.crash import Phase
from pytest_flaky_repro.machine.conversation import GuestGone, Ready
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.sharing import Frozen, Seat
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Fault, TrialFacts, TrialOrder, boot_guest, run_in

FROM_HERE = b"\n[flaky-repro: restored; above is the console of the boot, below the trial's]\n"


@dataclass
class _Template:
    """A frozen guest, if it is already one, and who uses it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    frozen: Frozen | None = None
    users: int = 0
    retired: bool = False


class SnapshotMachine:
    """Boots once for all trials of a boot; they may run at once, in any threads.

    Nothing of it is on disk: whatever ends this process ends the templates.
    """

    def __init__(self, cold: QemuMachine) -> None:
        self._cold = cold
        self._templates: dict[str, _Template] = {}
        self._lock = threading.Lock()

    @property
    def accel(self) -> Accel:
        return self._cold.accel

    @property
    def at_once(self) -> int:
        return self._cold.slots.guests_at_once(self._cold.smp, self._memory_mib)

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        return self._cold.slots.acquire(self._cold.smp, self._memory_mib, stop)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        if order.seat is None:
            return self._cold.run(order, slot, stop, started)
        template = self._enter(order.seat.boot)
        try:
            with template.lock:  # whoever comes first boots it
                booted = self._boot_once(template, order.seat, slot, stop)
            if template.frozen is None:
                return booted
            return self._restore(template.frozen, booted, order, slot, stop, started)
        finally:
            self._leave(order.seat.boot, template)

    def retire(self, boot: str) -> None:
        with self._lock:
            template = self._templates.get(boot)
            if template is not None:
                template.retired = True
                self._drop_if_unused(boot, template)

    def let_go(self) -> None:
        """No thread keeps a guest running between trials."""

    def close(self) -> None:
        """Gives the memory of all templates back; no trial may be running."""
        for boot in list(self._templates):
            self.retire(boot)

    @property
    def _memory_mib(self) -> int:
        """A guest's and a template's: there are never more templates in use than workers."""
        return 2 * self._cold.memory_mib

    def _boot_once(
        self, template: _Template, seat: Seat, slot: Slot, stop: StopSignal
    ) -> TrialFacts:
        """Freezes a new guest into ``template`` unless there is one; how the boot went."""
        if template.frozen is not None:
            return TrialFacts(Phase.READY, seat.boot)
        frozen = Frozen(self._cold.memory_mib)
        try:
            facts = self._boot_and_freeze(frozen, seat.boot, slot, stop)
            if not facts.detail:
                template.frozen = frozen
        finally:
            if template.frozen is None:
                frozen.close()
        return facts

    def _boot_and_freeze(
        self, frozen: Frozen, boot: str, slot: Slot, stop: StopSignal
    ) -> TrialFacts:
        guest = self._cold.boot(slot, stop, ram=frozen.memory)
        try:
            listening = _Listening(guest)
            facts = boot_guest(listening, boot, self._cold.smp)
            if not facts.detail and listening.ready is not None:
                guest.freeze(frozen.state)
                frozen.ready, frozen.boot_nonce = listening.ready, guest.boot_nonce
                frozen.console = guest.console.content()
        except GuestGone as gone:
            facts = TrialFacts(
                Phase.BOOT, boot, gone=gone.reason, fault=Fault.CHANCE, detail=gone.detail
            )
        finally:
            guest.kill()
        return facts

    def _restore(
        self,
        frozen: Frozen,
        booted: TrialFacts,
        order: TrialOrder,
        slot: Slot,
        stop: StopSignal,
        started: Callable[[], None],
    ) -> TrialFacts:
        guest = self._cold.boot(slot, stop, restore=frozen)
        try:
            facts = boot_guest(guest, booted.boot, self._cold.smp)
            facts = replace(facts, boot_s=booted.boot_s + facts.boot_s)
            if not facts.detail:
                # its memory is a copy: nothing is gained by letting it reboot
                facts = replace(run_in(guest, order, facts, started, stays=True), spent="")
        finally:
            guest.kill()
        return replace(facts, console=frozen.console + FROM_HERE + facts.console)

    def _enter(self, boot: str) -> _Template:
        with self._lock:
            template = self._templates.setdefault(boot, _Template())
            template.users += 1
            return template

    def _leave(self, boot: str, template: _Template) -> None:
        with self._lock:
            template.users -= 1
            self._drop_if_unused(boot, template)

    def _drop_if_unused(self, boot: str, template: _Template) -> None:
        if template.users or not template.retired:
            return
        self._templates.pop(boot, None)
        if template.frozen is not None:
            template.frozen.close()
            template.frozen = None


class _Listening:
    """A guest whose READY is kept."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.ready: Ready | None = None
        self.console, self.run, self.kill = guest.console, guest.run, guest.kill
        self.settle, self.leave = guest.settle, guest.leave
        self.trial_console = guest.trial_console

    def boot(self) -> Ready:
        self.ready = self._guest.boot()
        return self.ready

    @property
    def exit_detail(self) -> str:
        return self._guest.exit_detail
