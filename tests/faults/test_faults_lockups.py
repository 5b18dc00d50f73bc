"""Kernels that lock up (lkdtm, drivers/misc/lkdtm): what each has to be called, written first.

A kernel with its detectors says so itself, and crashed. Without them it can only be seen from
outside that it gets nowhere: it hung. It never survived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.conftest import Real

pytestmark = pytest.mark.slow

# No detector speaks: hard and soft lockups, RCU stalls, hung tasks. Interrupts go to the first CPU:
# where the other one is locked up, it can still answer SysRq.
MUTE = (
    "nowatchdog rcupdate.rcu_cpu_stall_suppress=1 sysctl.kernel.hung_task_timeout_secs=0 "
    "irqaffinity=0"
)
PROVOKE = r"""
    mkdir("/debug", 0700);
    if (mount("debugfs", "/debug", "debugfs", 0, 0)) return 79;
    int fd = open("/debug/provoke-crash/DIRECT", O_WRONLY);
    if (fd < 0) return 78;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(NUMBER, &one);
    if (sched_setaffinity(0, sizeof one, &one)) return 77;
    write(fd, "KIND", strlen("KIND"));
    for (;;) pause();
"""
BACKTRACES = b"sysrq: Show backtrace of all active CPUs"


@dataclass(frozen=True)
class Lockup:
    """What lkdtm does, and what its trial has to be called."""

    kind: str
    outcome: Outcome
    title: str
    smp: int = 1
    cpu: int = 0  # the one that locks up
    append: str = ""
    trial_time: float = 60.0
    console: bytes = b""


CRASHED, HUNG = Outcome.CRASHED, Outcome.HUNG

LOCKUPS = [
    # interrupts off: nothing in the guest can speak, unless there is another CPU
    Lockup("HARDLOCKUP", HUNG, "a hard lockup"),
    Lockup("HARDLOCKUP", CRASHED, "rcu detected stall in direct_entry", smp=2, cpu=1),
    Lockup("HARDLOCKUP", HUNG, "a hard lockup", smp=2, cpu=1, append=MUTE, console=BACKTRACES),
    # interrupts on, no scheduling
    Lockup("SOFTLOCKUP", CRASHED, "in direct_entry"),  # a soft lockup or an RCU stall
    Lockup("SOFTLOCKUP", HUNG, "a CPU is running", append=MUTE, trial_time=1.0, console=BACKTRACES),
    # a kernel reboots on its first CPU (migrate_to_reboot_cpu in kernel/reboot.c)
    Lockup(
        "SOFTLOCKUP", HUNG, "did not leave", smp=2, append=MUTE, trial_time=1.0, console=BACKTRACES
    ),
    Lockup("SOFTLOCKUP", HUNG, "", smp=2, cpu=1, append=MUTE, trial_time=1.0),
    Lockup("SPINLOCKUP", CRASHED, "lock held when returning to user space"),
    # a task only
    Lockup("HUNG_TASK", CRASHED, "task hung in lkdtm_HUNG_TASK"),
    Lockup("HUNG_TASK", HUNG, "", append=MUTE, trial_time=1.0),
    Lockup("LOOP", HUNG, "", append=MUTE, trial_time=1.0),
    # a panic that stays; a stack that has no end
    Lockup("PANIC", CRASHED, "kernel panic: dumptest", append="panic=0"),
    Lockup("EXHAUST_STACK", CRASHED, "recursive_loop"),
]


@pytest.mark.parametrize(
    "lockup",
    [
        pytest.param(
            it, id=f"{it.kind}-{it.cpu + 1}-of-{it.smp}{'-mute' if it.append == MUTE else ''}"
        )
        for it in LOCKUPS
    ],
)
def test_a_kernel_that_locks_up(real: Real, lkdtm_kernel: Path, lockup: Lockup) -> None:
    trial = real.trial(
        PROVOKE.replace("KIND", lockup.kind).replace("NUMBER", str(lockup.cpu)),
        lkdtm_kernel,
        append=lockup.append,
        trial_time=lockup.trial_time,
        smp=lockup.smp,
        memory_mib=512,
    )
    told = f"{trial.outcome.value}: {trial.title} {trial.facts.detail}"
    assert trial.outcome is lockup.outcome, told
    assert lockup.title in told
    assert lockup.console in trial.facts.console
    assert lockup.console == b"" or lockup.console not in (trial.facts.trial_console or b"")
