"""Formats of lockdep and of the checks on context.

Sources: ``kernel/locking/lockdep.c``, ``kernel/locking/spinlock_debug.c``,
``kernel/sched/core.c``, ``lib/smp_processor_id.c``, ``kernel/workqueue.c``.
"""

from __future__ import annotations

from pytest_flaky_repro.crash.kinds import CrashClass
from pytest_flaky_repro.crash.skips import LOCKDEP

from .model import Ends, Format, Where, header

# Before 4.13 lockdep put its headlines into "[ ... ]" and called them INFO or BUG.
_LEVELS = (b"WARNING: ", b"INFO: ", b"BUG: ")
_OLD = r"(?:\[ )?(?P<word_level>WARNING|INFO|BUG): "
ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"possible circular locking dependency detected"),
        "possible deadlock in {frame}",
        b"WARNING: possible circular locking dependency detected\n"
        b"insmod/85 is trying to acquire lock:\n"
        b"ffffffffc0004100 (probe_a){+.+.}-{3:3}, at: probe_ba+0x12/0x40",
        "possible deadlock in probe_ba",
        (Where.LOCKS, Where.STACK),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"possible recursive locking detected"),
        "possible deadlock in {frame}",
        b"WARNING: possible recursive locking detected\n"
        b"insmod/85 is trying to acquire lock:\n"
        b"ffffffffc0004100 (probe_a){+.+.}-{3:3}, at: probe_aa+0x12/0x40",
        "possible deadlock in probe_aa",
        (Where.LOCKS, Where.STACK),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"\S+-safe -> \S+-unsafe lock order detected"),
        "possible deadlock in {frame}",
        b"WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected\n"
        b"insmod/85 [HC0[0]:SC0[0]:HE0:SE1] is trying to acquire:\n"
        b"ffffffffc0004100 (probe_a){+.+.}-{3:3}, at: probe_ba+0x12/0x40",
        "possible deadlock in probe_ba",
        (Where.BECAME, Where.LOCKS, Where.STACK),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"possible irq lock inversion dependency detected"),
        "possible deadlock in {frame}",
        b"WARNING: possible irq lock inversion dependency detected\n"
        b"swapper/0/0 just changed the state of lock:\n"
        b"ffffffffc0004100 (probe_a){..-.}-{2:2}, at: probe_irq+0x12/0x40",
        "possible deadlock in probe_irq",
        (Where.LOCKS, Where.STACK),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"inconsistent lock state"),
        "inconsistent lock state in {frame}",
        b"WARNING: inconsistent lock state\ninconsistent {HARDIRQ-ON-W} -> {IN-HARDIRQ-W} usage.\n"
        b"insmod/85 [HC1[1]:SC0[0]:HE0:SE1] takes:\n"
        b"ffffffffc0004100 (probe_a){?.+.}-{2:2}, at: probe_irq+0x12/0x40",
        "inconsistent lock state in probe_irq",
        (Where.LOCKS, Where.STACK),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"bad unlock balance detected"),
        "{word_level}: bad unlock balance in {frame}",
        b"WARNING: bad unlock balance detected!\nCall Trace:\n probe_unlock+0x12/0x40",
        "WARNING: bad unlock balance in probe_unlock",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"held lock freed"),
        "{word_level}: held lock freed in {frame}",
        b"WARNING: held lock freed!\nCall Trace:\n probe_free+0x12/0x40",
        "WARNING: held lock freed in probe_free",
        (Where.LOCKS, Where.STACK),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"lock held when returning to user space"),
        "{word_level}: lock held when returning to user space in {frame}",
        b"WARNING: lock held when returning to user space!\n1 lock held by sh/85:\n"
        b" #0: ffffffffc0004100 (probe_a){+.+.}-{3:3}, at: probe_lock+0x12/0x40",
        "WARNING: lock held when returning to user space in probe_lock",
        (Where.LOCKS,),
        skip=LOCKDEP,
        ends=Ends.IDLE,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"\S+/\d+ still has locks held"),
        "{word_level}: still has locks held in {frame}",
        b"WARNING: sh/85 still has locks held!\n1 lock held by sh/85:\n"
        b" #0: ffffffffc0004100 (probe_a){+.+.}-{3:3}, at: probe_lock+0x12/0x40",
        "WARNING: still has locks held in probe_lock",
        (Where.LOCKS,),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        _LEVELS,
        header(_OLD + r"suspicious RCU usage"),
        "{word_level}: suspicious RCU usage in {frame}",
        b"WARNING: suspicious RCU usage\nstack backtrace:\nCall Trace:\n probe_deref+0x12/0x40",
        "WARNING: suspicious RCU usage in probe_deref",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"BUG: ",),
        header(r"\[ BUG: Invalid wait context \]"),
        "WARNING: locking bug in {frame}",
        b"[ BUG: Invalid wait context ]\nCall Trace:\n probe_wait+0x12/0x40",
        "WARNING: locking bug in probe_wait",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"INFO: ",),
        header(r"INFO: trying to register non-static key"),
        "INFO: trying to register non-static key in {frame}",
        b"INFO: trying to register non-static key.\nCall Trace:\n probe_init+0x12/0x40",
        "INFO: trying to register non-static key in probe_init",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"BUG: ",),
        header(r"BUG: (?P<word_what>MAX_\w+) too low!"),
        "BUG: {word_what} too low!",
        b"BUG: MAX_STACK_TRACE_ENTRIES too low!",
        "BUG: MAX_STACK_TRACE_ENTRIES too low!",
        ends=Ends.STACK,
        generic=True,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"BUG: ",),
        header(r"BUG: (?P<word_lock>spinlock|rwlock) (?P<what>.+?) on CPU"),
        "BUG: {word_lock} {what} in {frame}",
        b"BUG: spinlock bad magic on CPU#1, insmod/85\nCall Trace:\n probe_spin+0x12/0x40",
        "BUG: spinlock bad magic in probe_spin",
        (Where.STACK,),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"BUG: ",),
        header(r"BUG: using (?P<word_what>\w+\(\)) in preemptible"),
        "BUG: using {word_what} in preemptible code in {frame}",
        b"BUG: using smp_processor_id() in preemptible [00000000] code: insmod/85\n"
        b"Call Trace:\n probe_cpu+0x12/0x40",
        "BUG: using smp_processor_id() in preemptible code in probe_cpu",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.ATOMIC,
        (b"BUG: ",),
        header(r"BUG: sleeping function called from invalid context"),
        "BUG: sleeping function called from invalid context in {frame}",
        b"BUG: sleeping function called from invalid context at mm/slab.h:420\n"
        b"Call Trace:\n probe_sleep+0x12/0x40",
        "BUG: sleeping function called from invalid context in probe_sleep",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.ATOMIC,
        (b"BUG: ",),
        header(r"BUG: scheduling while atomic"),
        "BUG: scheduling while atomic in {frame}",
        b"BUG: scheduling while atomic: insmod/85/0x00000002\nCall Trace:\n probe_sched+0x12/0x40",
        "BUG: scheduling while atomic in probe_sched",
        (Where.STACK,),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: workqueue leaked lock or atomic"),
        "BUG: workqueue leaked lock or atomic in {frame}",
        b"BUG: workqueue leaked lock or atomic: kworker/0:0/0x00000000/4\n"
        b"     last function: probe_work",
        "BUG: workqueue leaked lock or atomic in probe_work",
        (Where.HEADER,),
        details=(header(r" *last function: (?P<func>\S+)"),),
        ends=Ends.STACK,
    ),
)
