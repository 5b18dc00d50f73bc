"""Formats of hangs: soft and hard lockups, RCU stalls, hung tasks, stuck workqueues.

Sources: ``kernel/watchdog.c``, ``kernel/watchdog_hld.c``, ``kernel/rcu/tree_stall.h``,
``kernel/hung_task.c``, ``kernel/workqueue.c``.
"""

from __future__ import annotations

from pytest_flaky_repro.crash.kinds import CrashClass
from pytest_flaky_repro.crash.skips import HANG

from .model import Ends, Format, Where, header

_STALL = ("stall in {frame}",)
_WHERE = (Where.ENTRY,)

ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.SOFTLOCKUP,
        (b"BUG: ",),
        header(r"(?:(?:NMI )?watchdog: )?BUG: soft lockup"),
        "BUG: soft lockup in {frame}",
        b"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [insmod:92]\n"
        b"RIP: 0010:probe_spin+0xe/0x10 [probe]",
        "BUG: soft lockup in probe_spin",
        _WHERE,
        skip=HANG,
        alternates=_STALL,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.HARDLOCKUP,
        (b"hard LOCKUP",),
        header(
            r"(?:NMI )?[Ww]atchdog: (?:BUG: )?(?:Watchdog )?detected hard LOCKUP|"
            r"NMI watchdog: Watchdog detected hard LOCKUP|watchdog: CPU\d+: Watchdog detected hard"
        ),
        "BUG: hard lockup in {frame}",
        b"NMI watchdog: Watchdog detected hard LOCKUP on cpu 0\n"
        b"RIP: 0010:probe_spin+0xe/0x10 [probe]",
        "BUG: hard lockup in probe_spin",
        _WHERE,
        skip=HANG,
        alternates=_STALL,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.RCU_STALL,
        (b"INFO: ",),
        header(r"(?:rcu: )?INFO: rcu\w* (?:self-detected stall|detected (?:expedited )?stalls?)"),
        "INFO: rcu detected stall in {frame}",
        b"rcu: INFO: rcu_preempt self-detected stall on CPU\nRIP: 0010:probe_spin+0xe/0x10 [probe]",
        "INFO: rcu detected stall in probe_spin",
        _WHERE,
        skip=HANG,
        alternates=_STALL,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.HUNG_TASK,
        (b"INFO: ",),
        header(r"INFO: task .+ blocked (?:in I/O wait )?(?:on \S+ )?for more than \d+ seconds"),
        "INFO: task hung in {frame}",
        b"INFO: task insmod:92 blocked for more than 120 seconds.\nCall Trace:\n"
        b" __schedule+0x2cb/0x880\n schedule+0x5d/0xe0\n probe_wait+0x2e/0x50",
        "INFO: task hung in probe_wait",
        (Where.STACK,),
        skip=HANG,
        alternates=("hang in {frame}",),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.HUNG_TASK,
        (b"BUG: ",),
        header(r"BUG: workqueue lockup"),
        "BUG: workqueue lockup",
        b"BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 32s!",
        "BUG: workqueue lockup",
        ends=Ends.IDLE,
        generic=True,
    ),
)
