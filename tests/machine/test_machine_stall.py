"""A guest that no longer gets anywhere is told from one that is merely slow or idle."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from pytest_flaky_repro.machine.stall import Cpu, StallWatch, describe_cpus, read_cpus

DEAD = Cpu(halted=True, interrupts=False)
IDLE = Cpu(halted=True, interrupts=True)
BUSY = Cpu(halted=False, interrupts=True)
LOCKED = Cpu(halted=False, interrupts=False)


def registers(*cpus: tuple[int, int]) -> str:
    return "\n".join(
        f"CPU#{i}\nRAX=0000000000000000 RBX=0000000000000001\n"
        f"RIP=ffffffff81000000 RFL={flags:08x} [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT={halted}"
        for i, (flags, halted) in enumerate(cpus)
    )


@pytest.mark.parametrize(
    ("cpus", "said"),
    [
        ([(0x46, 1)], "the guest is dead"),
        ([(0x46, 1), (0x46, 1)], "the guest is dead"),
        ([(0x246, 1)], "waits for an interrupt"),
        ([(0x46, 1), (0x246, 1)], "waits for an interrupt"),
        ([(0x46, 1), (0x246, 0)], "a CPU is running"),
        ([], "could not be read"),
    ],
)
def test_what_the_cpus_do(cpus: list[tuple[int, int]], said: str) -> None:
    assert said in describe_cpus(registers(*cpus))


def test_registers_become_cpus() -> None:
    dump = registers((0x46, 1), (0x246, 0), (0x2, 0))
    assert read_cpus(dump) == (DEAD, BUSY, LOCKED)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Time that passes when told to."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def test_a_look_is_due_once_a_second(clock: Callable[[float], None]) -> None:
    watch = StallWatch(1)
    seen = []
    for _ in range(8):
        clock(0.5)
        seen.append(watch.is_due())
    assert seen == [False, True] * 4


def test_two_looks_at_a_dead_guest_are_enough() -> None:
    watch = StallWatch(2)
    watch.look((DEAD, DEAD), 1.0)
    assert watch.verdict is None
    watch.look((DEAD, DEAD), 1.0)
    assert watch.verdict is not None
    assert "dead" in watch.verdict


@pytest.mark.parametrize("other", [IDLE, BUSY, LOCKED])
def test_one_cpu_that_can_still_do_something_is_not_dead(other: Cpu) -> None:
    watch = StallWatch(2)
    for _ in range(5):
        watch.look((DEAD, other), 1.0)
    assert watch.verdict is None


def test_a_register_dump_that_cannot_be_read_says_nothing() -> None:
    watch = StallWatch(1)
    for _ in range(5):
        watch.look((), 1.0)
    assert watch.verdict is None


def test_a_cpu_with_interrupts_off_for_long_is_locked_up(clock: Callable[[float], None]) -> None:
    watch = StallWatch(2)
    for second in range(12):
        clock(1.0)
        watch.look((IDLE, LOCKED), float(second))
    assert watch.verdict is not None
    assert "CPU 1" in watch.verdict


def test_a_starved_guest_is_not_locked_up(clock: Callable[[float], None]) -> None:
    """A host that gives it no time lets every look see the same instruction."""
    watch = StallWatch(1)
    for second in range(60):
        clock(1.0)
        watch.look((LOCKED,), second * 0.05)
    assert watch.verdict is None


def test_interrupts_that_come_back_end_a_streak(clock: Callable[[float], None]) -> None:
    watch = StallWatch(1)
    for second in range(60):
        clock(1.0)
        watch.look((BUSY if second % 7 == 0 else LOCKED,), float(second))
    assert watch.verdict is None
