"""A machine without QEMU: a child prints a canned console and ends by a seeded coin.

Makes everything above the machine testable in milliseconds. It proves nothing about guests.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pytest_flaky_repro.crash import Phase
from pytest_flaky_repro.machine.conversation import STOPPED, End, Ended, Gone
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Fault, TrialFacts, TrialOrder

PANIC = "Kernel panic - not syncing: sysrq triggered crash"
SURVIVOR = "console check passed"


class _End(enum.Enum):
    CRASH = "crash"
    VOID = "void"
    LOST = "lost"
    HANG = "hang"
    SURVIVAL = "survival"


@dataclass(frozen=True)
class Behaviour:
    """Probabilities of a trial's ends, of each in this order; what is left survives."""

    crash: float = 0.0
    void: float = 0.0
    lost: float = 0.0
    hang: float = 0.0
    seconds: float = 0.0
    crash_seconds: float = 0.0
    console: str = PANIC
    setup_fault: str | None = None
    vulnerable: float = 1.0  # the share of boots in which a trial can crash at all

    def end_for(self, drawn: float) -> _End:
        """The end that a number drawn from [0, 1) stands for."""
        chances = (
            (_End.CRASH, self.crash),
            (_End.VOID, self.void),
            (_End.LOST, self.lost),
            (_End.HANG, self.hang),
        )
        for end, chance in chances:
            if drawn < chance:
                return end
            drawn -= chance
        return _End.SURVIVAL


class FakeMachine:
    """Runs trials as short-lived children of the thread that asks for them."""

    def __init__(self, behaviour: Behaviour, at_once: int = 1) -> None:
        self._behaviour = behaviour
        self._at_once = at_once

    @property
    def accel(self) -> Accel:
        return Accel.TCG

    @property
    def at_once(self) -> int:
        return self._at_once

    @contextmanager
    def slot(self, stop: StopSignal) -> Iterator[Slot | None]:
        yield None if stop.is_set() else Slot(())

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        del slot
        fake = self._behaviour
        boot = order.seat.boot if order.seat is not None else secrets.token_hex(8)
        drawn_at_boot = boot.encode() if order.seat is not None else order.command.entropy + b"boot"
        end = fake.end_for(_coin(order.command.entropy))
        if end is _End.CRASH and _coin(drawn_at_boot) >= fake.vulnerable:
            end = _End.SURVIVAL
        if fake.setup_fault is not None:
            return TrialFacts(Phase.BOOT, boot, fault=Fault.SETUP, detail=fake.setup_fault)
        if end is _End.VOID:
            return TrialFacts(Phase.BOOT, boot, gone=Gone.EXITED, fault=Fault.CHANCE, detail="void")
        started()
        crashes = end is _End.CRASH
        seconds = fake.crash_seconds if crashes else fake.seconds
        console = _child(fake.console if crashes else SURVIVOR, seconds, stop)
        if console is None:
            return TrialFacts(Phase.RUN, boot, gone=Gone.STOPPED, detail=STOPPED)
        facts = TrialFacts(
            Phase.RUN, boot, console=console, trial_console=console, exposure_s=seconds
        )
        return _ended(facts, end)


def _ended(facts: TrialFacts, end: _End) -> TrialFacts:
    if end is _End.SURVIVAL:
        survived = End(Ended.EXIT, code=0, seconds=facts.exposure_s, stuck=False, output=b"")
        return replace(facts, phase=Phase.END, end=survived)
    gone, detail = {
        _End.CRASH: (Gone.EXITED, "QEMU exited with status 0"),
        _End.LOST: (Gone.KILLED, "QEMU was killed by SIGKILL"),
        _End.HANG: (Gone.STALLED, "no progress"),
    }[end]
    return replace(facts, gone=gone, detail=detail)


def _coin(entropy: bytes) -> float:
    """Uniform on [0, 1), the same for the same seed."""
    return int.from_bytes(hashlib.sha256(entropy).digest()[:7], "big") / (1 << 56)


def _child(text: str, seconds: float, stop: StopSignal) -> bytes | None:
    """What the child printed, or None when it was stopped first."""
    script = 'printf "%s\\n" "$1"'
    with subprocess.Popen(
        ["/bin/sh", "-c", script, "fake", text], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as child:
        printed, _ = child.communicate()
    until = time.monotonic() + seconds
    stopped = stop.wait(max(0.0, until - time.monotonic())) if seconds else stop.is_set()
    return None if stopped else printed
