"""Stalls seen early, by an ordered ladder: what ends a guest that no longer gets anywhere.

1. The kernel's own detectors (soft lockup, hung task, NMI watchdog), as its command line sets
   them, print a report, and crash reading ends the trial.
2. A look at the CPUs' registers once a second, from outside: a guest whose CPUs are all halted
   with interrupts off is dead, and one that keeps a CPU running with interrupts off is locked up.
   Neither needs anything of the guest, and neither disturbs it: QEMU reads its own memory.
3. The limits of the phase (:mod:`.clock`): CPU time, silence, wall time.
4. Then, of a guest with a CPU that still takes interrupts, backtraces by SysRq over a serial
   break, for the evidence.

A heartbeat from the guest would add nothing to 2 and 3 but traffic on the port that the trial
shares: a guest that misses it may be starved, which proves nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

LOOK_EVERY_S = 1.0
DEAD_LOOKS = 2
LOCKED_LOOKS = 8
LOCKED_CPU_S = 5.0  # of QEMU's own time for each CPU of the guest: a starved guest is not locked up
LOCKED_WALL_S = 10.0

SYSRQ_KEYS = ("l", "w", "t")  # Documentation/admin-guide/sysrq.rst: CPUs, blocked tasks, all tasks
SYSRQ_QUIET_S = 1.0
SYSRQ_CPU_S = 20.0

_HEX = re.compile(r"[0-9a-fA-F]{1,16}")
_INTERRUPT_FLAG = 0x200  # bit 9 of RFLAGS


@dataclass(frozen=True)
class Cpu:
    """What one virtual CPU does."""

    halted: bool
    interrupts: bool


def read_cpus(registers: str) -> tuple[Cpu, ...]:
    """The CPUs in an answer to QEMU's ``info registers -a``; empty when it cannot be read.

    Each CPU has a line with ``RIP= RFL= ... HLT=`` (target/i386/cpu-dump.c).
    """
    found = []
    for line in registers.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if _HEX.fullmatch(words.get("RFL", "")) and "HLT" in words:
            found.append(Cpu(words["HLT"] == "1", bool(int(words["RFL"], 16) & _INTERRUPT_FLAG)))
    return tuple(found)


def all_dead(cpus: Sequence[Cpu]) -> bool:
    """Halted with interrupts off, every one: nothing but an NMI or a reset ends that."""
    return bool(cpus) and all(cpu.halted and not cpu.interrupts for cpu in cpus)


def describe_cpus(registers: str) -> str:
    """What the CPUs of a silent guest do, in words."""
    cpus = read_cpus(registers)
    if not cpus:
        return "QEMU's register dump could not be read"
    if all_dead(cpus):
        return "every CPU is halted with interrupts off: the guest is dead"
    if all(cpu.halted for cpu in cpus):
        return "every CPU is halted and waits for an interrupt"
    return "a CPU is running: the guest spins or is slow"


class StallWatch:
    """Looks at one guest's CPUs; feed it what they show, and it says when that is a stall."""

    def __init__(self, smp: int) -> None:
        self._smp = smp
        self._asked_at = time.monotonic()
        self._dead_looks = 0
        self._locked: dict[int, _Streak] = {}
        self.verdict: str | None = None
        self.listens = True  # whether some CPU would have taken an interrupt, at the last look

    def is_due(self) -> bool:
        """Whether it is time to ask QEMU for the registers; marks them as asked for."""
        if time.monotonic() - self._asked_at < LOOK_EVERY_S:
            return False
        self._asked_at = time.monotonic()
        return True

    def look(self, cpus: Sequence[Cpu], cpu_s: float) -> None:
        """One look; ``cpu_s`` is QEMU's own CPU time up to now, in seconds."""
        self.listens = any(cpu.interrupts for cpu in cpus) or not cpus
        self._dead_looks = self._dead_looks + 1 if all_dead(cpus) else 0
        if self._dead_looks >= DEAD_LOOKS:
            self.verdict = "every CPU is halted with interrupts off: the guest is dead"
        for number, cpu in enumerate(cpus):
            if cpu.halted or cpu.interrupts:
                self._locked.pop(number, None)
                continue
            streak = self._locked.setdefault(number, _Streak(cpu_s, time.monotonic()))
            streak.looks += 1
            if self.verdict is None and streak.is_lockup(cpu_s, self._smp):
                self.verdict = (
                    f"CPU {number} has been running with interrupts off for "
                    f"{time.monotonic() - streak.began:.0f} s: a hard lockup"
                )


@dataclass
class _Streak:
    """Looks in a row that found a CPU running with its interrupts off."""

    cpu_s: float
    began: float
    looks: int = 0

    def is_lockup(self, cpu_s: float, smp: int) -> bool:
        return (
            self.looks >= LOCKED_LOOKS
            and cpu_s - self.cpu_s >= LOCKED_CPU_S * smp
            and time.monotonic() - self.began >= LOCKED_WALL_S
        )
