"""One trial on one machine: boot, check the guest, run, let it leave; facts out, no judgement."""

from __future__ import annotations

import enum
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from pytest_flaky_repro.crash import Collector, CrashClass, Phase
from pytest_flaky_repro.machine.conversation import Command, End, Ended, Gone, GuestGone, GuestLike
from pytest_flaky_repro.machine.diagnosis import (
    NO_FUTEX,
    NO_FUTEX_DETAIL,
    boot_failure,
    exec_failure,
    ready_fault,
)
from pytest_flaky_repro.machine.sharing import Seat
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal

LEFT = "it was the last trial of its boot"


class Fault(enum.Enum):
    """Whose fault it was that a trial taught nothing."""

    NONE = "none"
    CHANCE = "chance"  # another try may go better
    SETUP = "setup"  # every further try would end the same way


@dataclass(frozen=True)
class TrialOrder:
    """What one trial is to do."""

    command: Command
    classes: frozenset[CrashClass] | None = None
    seat: Seat | None = None  # in a boot that it shares; None: a boot of its own


@dataclass(frozen=True)
class TrialFacts:
    """What was seen of one trial. ``phase`` is how far it came; times are in seconds."""

    phase: Phase
    boot: str
    end: End | None = None
    gone: Gone | None = None
    fault: Fault = Fault.NONE
    detail: str = ""
    console: bytes = b""
    trial_console: bytes | None = None
    boot_s: float = 0.0
    exposure_s: float = 0.0
    host: str = ""  # where it ran, if not here
    accel: Accel | None = None  # the machine's, if None
    spent: str = ""  # why its boot takes no further trial; it may take one while this is empty
    lost_with: str = ""  # what took this trial along, and maybe others: one event, however many


@runtime_checkable
class SharesBoots(Protocol):
    """A machine on which trials with a ``seat`` share boots."""

    def retire(self, boot: str) -> None:
        """No further trial of this boot will be asked for."""
        ...

    def let_go(self) -> None:
        """Ends what the calling thread keeps running between its trials."""
        ...


class Machine(Protocol):
    """Where trials run. QEMU is one; the fake machine is the other."""

    @property
    def accel(self) -> Accel: ...
    @property
    def at_once(self) -> int: ...

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        """Waits for a place to run a guest; None when ``stop`` came first."""
        ...

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        """One trial; ``started`` is called as soon as the guest has said START."""
        ...


def run_trial(
    guest: GuestLike, order: TrialOrder, cpus: int, started: Callable[[], None]
) -> TrialFacts:
    """Leads ``guest`` through one trial and ends it. ``cpus`` is what it has to show."""
    facts = boot_guest(guest, secrets.token_hex(8), cpus)
    return facts if facts.detail else run_in(guest, order, facts, started)


def boot_guest(guest: GuestLike, boot: str, cpus: int) -> TrialFacts:
    """Boots a guest for trials; ``detail`` says what is wrong with it, and it is gone then."""
    began = time.monotonic()
    facts = TrialFacts(Phase.BOOT, boot=boot)
    try:
        ready = guest.boot()
    except GuestGone as gone:
        guest.kill()
        return _boot_failed(guest, facts, gone)
    facts = replace(facts, phase=Phase.READY, boot_s=time.monotonic() - began)
    fault = ready_fault(ready, cpus)
    if fault is None:
        return facts
    guest.kill()
    return _closed(guest, replace(facts, fault=Fault.SETUP, detail=fault))


def run_in(
    guest: GuestLike,
    order: TrialOrder,
    facts: TrialFacts,
    started: Callable[[], None],
    *,
    stays: bool = False,
) -> TrialFacts:
    """One trial in a guest that has booted, as ``facts`` tell; it ``stays`` for another one.

    It stays only while ``spent`` is empty: otherwise it is gone when this returns.
    """
    start: list[float] = []

    def on_start() -> None:
        start.append(time.monotonic())
        started()

    end, gone, spent = None, None, ""
    try:
        end = guest.run(order.command, Collector(order.classes), on_start)
        exposure = end.seconds
        spent = guest.settle() if stays else LEFT
        if spent:
            guest.leave()
    except GuestGone as error:
        gone, spent = error, error.detail
        if end is None:  # else it ran for as long as it said
            exposure = time.monotonic() - start[0] if start else 0.0
        guest.kill()
    facts = replace(
        facts,
        phase=Phase.END if end is not None else Phase.RUN if start else Phase.READY,
        end=end,
        gone=gone.reason if gone is not None else None,
        detail=gone.detail if gone is not None else "",
        exposure_s=exposure,
        spent=spent,
    )
    if gone is not None and not start:
        facts = replace(facts, fault=Fault.CHANCE)
    return _closed(guest, _unusable_end(facts))


def _unusable_end(facts: TrialFacts) -> TrialFacts:
    """An END that proves nothing: the reproducer never ran, or could not on this kernel."""
    if facts.end is None:
        return facts
    if facts.end.how is Ended.EXEC:
        detail = exec_failure(facts.end.code)
    elif NO_FUTEX in facts.end.output:
        detail = NO_FUTEX_DETAIL
    else:
        return facts
    return replace(facts, phase=Phase.READY, end=None, fault=Fault.SETUP, detail=detail)


def _boot_failed(guest: GuestLike, facts: TrialFacts, gone: GuestGone) -> TrialFacts:
    console = guest.console.content()
    cause, lasting = boot_failure(console, gone)
    fault = Fault.SETUP if lasting else Fault.CHANCE
    return _closed(guest, replace(facts, gone=gone.reason, fault=fault, detail=cause))


def _closed(guest: GuestLike, facts: TrialFacts) -> TrialFacts:
    """Adds the consoles, which are whole only now that the guest is gone."""
    facts = replace(facts, console=guest.console.content(), trial_console=guest.trial_console())
    if facts.phase is Phase.END and facts.trial_console is None:
        detail = "the trial's mark never reached the console, so a crash report might not have"
        return replace(facts, phase=Phase.RUN, end=None, gone=Gone.UNTRUSTED, detail=detail)
    return facts
