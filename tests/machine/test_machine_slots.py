"""Machine-wide slots: real locks, in real processes, gone when their holders are."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.machine.slots import FOLDER_VARIABLE, Capacity, Slots, machine_capacity
from pytest_flaky_repro.machine.stop import StopSignal

HOLDER = """
import subprocess, sys
from pathlib import Path
from pytest_flaky_repro.machine.slots import Capacity, Slots
from pytest_flaky_repro.machine.stop import StopSignal
folder, cores, child = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
with Slots(folder, Capacity(2, 4)).acquire(cores, 64, StopSignal()) as slot:
    if child == "child":
        p = subprocess.Popen(["sleep", "1000"], pass_fds=slot.descriptors, stdout=-3)
        print(p.pid, flush=True)
    else:
        print(0, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def slots(tmp_path: Path) -> Slots:
    return Slots(tmp_path / "slots", Capacity(cores=2, pieces=4))


@contextmanager
def holder(
    slots: Slots, cores: int, child: str = ""
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", HOLDER, str(slots._folder), str(cores), child]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        try:
            yield process, pid
        finally:
            process.kill()


def is_free(slots: Slots, cores: int) -> bool:
    """Whether a slot can be had before a second is over."""
    stop = StopSignal()
    timer = threading.Timer(1.0, stop.set)
    timer.start()
    with slots.acquire(cores, 64, stop) as slot:
        free = slot is not None
    timer.cancel()
    timer.join()
    stop.close()
    return free


def test_another_process_finds_the_cores_taken(slots: Slots) -> None:
    with holder(slots, cores=1):
        assert slots.occupancy() == Capacity(cores=1, pieces=1)
        assert is_free(slots, cores=1)
        assert not is_free(slots, cores=2)


def test_a_slot_given_back_can_be_had_again(slots: Slots) -> None:
    assert is_free(slots, cores=2)
    assert is_free(slots, cores=2)
    assert slots.occupancy() == Capacity(0, 0)


def test_sigkill_of_the_holder_frees_its_slot(slots: Slots) -> None:
    with holder(slots, cores=2) as (process, _):
        assert not is_free(slots, cores=1)
        process.kill()
        process.wait()
        assert is_free(slots, cores=2)


def test_a_child_holds_the_slot_until_it_ends_itself(slots: Slots) -> None:
    """As QEMU does: its parent may be gone before the cores are free."""
    with holder(slots, cores=2, child="child") as (process, child):
        process.kill()
        process.wait()
        assert not is_free(slots, cores=2)
        subprocess.run(["kill", "-KILL", str(child)], check=True)
        assert is_free(slots, cores=2)


def test_whoever_needs_two_cores_is_not_overtaken_for_ever(slots: Slots) -> None:
    """Two threads take one core again and again; between them both are never free."""
    stop, got_both = StopSignal(), threading.Event()

    def keep_one_busy() -> None:
        while not got_both.is_set():
            with slots.acquire(1, 64, stop):
                got_both.wait(0.03)

    greedy = [threading.Thread(target=keep_one_busy) for _ in range(4)]
    for thread in greedy:
        thread.start()
    with slots.acquire(2, 64, stop) as slot:
        got_both.set()
        assert slot is not None
        assert slots.occupancy().cores == 2
    for thread in greedy:
        thread.join()
    stop.close()


def test_waiting_ends_when_it_is_told_to_stop(slots: Slots) -> None:
    stop = StopSignal()
    stop.set()
    with slots.acquire(1, 64, stop) as slot:
        assert slot is None
    stop.close()


def test_memory_limits_guests_too(slots: Slots) -> None:
    assert slots.guests_at_once(smp=1, memory_mib=128) == 2
    assert slots.guests_at_once(smp=1, memory_mib=900) == 1


def test_a_guest_larger_than_the_machine_takes_all_of_it(slots: Slots) -> None:
    stop = StopSignal()
    with slots.acquire(64, 1 << 20, stop) as slot:
        assert slot is not None
        assert slots.occupancy() == slots.capacity
    stop.close()


def test_this_machine_carries_a_guest() -> None:
    capacity = machine_capacity()
    assert capacity.cores >= 1
    assert capacity.pieces >= 1


def test_the_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "mine"))
    assert is_free(Slots(capacity=Capacity(1, 2)), cores=1)
    assert (tmp_path / "mine" / "gate").exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    slots = Slots(tmp_path / "file" / "slots", Capacity(1, 1))
    stop = StopSignal()
    with (
        pytest.raises(InfrastructureError, match=FOLDER_VARIABLE),
        slots.acquire(1, 64, stop),
    ):
        pass
    stop.close()
