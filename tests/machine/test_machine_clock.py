"""Phases end by what QEMU did, not by how busy the host is. Real children, busy and asleep."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_flaky_repro.machine.clock import PhaseClock
from pytest_flaky_repro.machine.process import cpu_seconds

FOREVER = 1e9


@contextmanager
def child(code: str) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", f"print(1, flush=True)\n{code}"], stdout=-1)
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def wait_for(clock: PhaseClock) -> str:
    """A clock that never expires hangs here, and the test's timeout says so."""
    while not clock.expired():
        time.sleep(0.02)
    return clock.describe()


def test_a_busy_child_uses_up_its_cpu_time() -> None:
    with child("while True: pass") as pid:
        clock = PhaseClock(pid, cpu_s=0.3, idle_s=FOREVER, wall_cap_s=FOREVER)
        before = cpu_seconds(pid)
        assert "CPU time (limit 0.3 s)" in wait_for(clock)
        assert cpu_seconds(pid) - before >= 0.3


def test_a_sleeping_child_is_idle() -> None:
    with child("import time; time.sleep(1000)") as pid:
        clock = PhaseClock(pid, cpu_s=FOREVER, idle_s=0.4, wall_cap_s=FOREVER)
        assert "silent and idle" in wait_for(clock)


def test_a_child_that_others_keep_from_running_is_not_idle() -> None:
    """It has hardly any CPU time, as an idle one; but it stands in line for more."""
    cpu = min(os.sched_getaffinity(0))
    here = f"import os; os.sched_setaffinity(0, {{{cpu}}})"
    last = f"{here}; os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))"
    with child(f"{here}\nwhile True: pass"), child(f"{last}\nwhile True: pass") as pid:
        clock = PhaseClock(pid, cpu_s=FOREVER, idle_s=0.4, wall_cap_s=1.5)
        assert "wall time" in wait_for(clock)


def test_a_child_that_says_something_is_not_idle() -> None:
    with child("import time; time.sleep(1000)") as pid:
        clock = PhaseClock(pid, cpu_s=FOREVER, idle_s=5.0, wall_cap_s=0.5)
        while not clock.expired():
            clock.progress()
            time.sleep(0.02)
        assert "wall time" in clock.describe()


def test_wall_time_is_the_last_resort() -> None:
    with child("while True: pass") as pid:
        clock = PhaseClock(pid, cpu_s=FOREVER, idle_s=FOREVER, wall_cap_s=0.3)
        assert "wall time (limit 0.3 s)" in wait_for(clock)


def test_nothing_expires_before_the_phase_begins() -> None:
    with child("import time; time.sleep(1000)") as pid:
        clock = PhaseClock(pid, cpu_s=0.0, idle_s=0.0, wall_cap_s=0.0, not_before=FOREVER)
        assert not clock.expired()
        assert clock.describe() == "within its limits"


def test_a_child_that_is_gone_has_used_no_cpu() -> None:
    with child("pass") as pid:
        gone = pid
    assert cpu_seconds(gone) == 0.0
