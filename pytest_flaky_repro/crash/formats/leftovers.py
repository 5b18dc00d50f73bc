"""Formats of things left over or left behind: references, locks, objects, table entries.

Sources: ``net/core/dev.c`` (``netdev_wait_allrefs_any``), ``fs/{dcache,open,proc/generic}.c``,
``kernel/fork.c`` (``check_mm``), ``mm/slub.c`` (``slab_bug``), ``kernel/locking/lockdep.c``,
``arch/x86/kernel/unwind_{frame,orc}.c``, ``rust/kernel``.
"""

from __future__ import annotations

from pytest_flaky_repro.crash.kinds import CrashClass
from pytest_flaky_repro.crash.skips import COMMON, LOCKDEP

from .model import Ends, Format, Where, header

_PROC = COMMON.plus(r"_*proc_\w+|remove_proc_\w+|sysctl_\w+|_*register_sysctl\w*")

ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.REFCOUNT,
        (b"unregister_netdevice: ",),
        header(r"unregister_netdevice: waiting for \S+ to become free"),
        "unregister_netdevice: waiting for DEV to become free",
        b"unregister_netdevice: waiting for lo to become free. Usage count = 2",
        "unregister_netdevice: waiting for DEV to become free",
        ends=Ends.IDLE,
        generic=True,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: Dentry .* still in use \(-?\d+\) \[unmount of (?P<word_fs>\S+)"),
        "BUG: Dentry still in use [unmount of {word_fs}]",
        b"BUG: Dentry 00000000aa2d{i=2a,n=file0}  still in use (1) [unmount of ramfs ramfs]",
        "BUG: Dentry still in use [unmount of ramfs]",
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: Bad rss-counter state"),
        "BUG: Bad rss-counter state",
        b"BUG: Bad rss-counter state mm:00000000e5b1aa11 type:MM_ANONPAGES val:2",
        "BUG: Bad rss-counter state",
        ends=Ends.LINE,
        generic=True,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: non-zero (?P<word_what>\w+) on freeing mm"),
        "BUG: non-zero {word_what} on freeing mm",
        b"BUG: non-zero pgtables_bytes on freeing mm: 4096",
        "BUG: non-zero pgtables_bytes on freeing mm",
        ends=Ends.LINE,
        generic=True,
    ),
    Format(
        CrashClass.BUG,
        (b"VFS: ",),
        header(r"VFS: Close: file count is (?:0|zero)"),
        "VFS: Close: file count is zero (use-after-free)",
        b"VFS: Close: file count is 0 (f_op=probe_fops)",
        "VFS: Close: file count is zero (use-after-free)",
        ends=Ends.STACK,
        generic=True,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG ",),
        header(r"BUG (?P<word_cache>\S+) \((?:Not tainted|Tainted: .*?)\): (?P<what>.*)"),
        "SLUB: {what} in {word_cache}",
        b"BUG probe_cache (Tainted: G           O      ): Right Redzone overwritten",
        "SLUB: Right Redzone overwritten in probe_cache",
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(r"WARNING: (?:CPU: \d+ PID: \d+ )?at fs/proc/generic\.c"),
        "WARNING: proc registration bug in {frame}",
        b"WARNING: CPU: 0 PID: 85 at fs/proc/generic.c:376 proc_register+0x2a1/0x300\n"
        b"Call Trace:\n probe_init+0x2e/0x50",
        "WARNING: proc registration bug in probe_init",
        (Where.STACK,),
        skip=_PROC,
    ),
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(r"WARNING: (?:CPU: \d+ PID: \d+ )?at lib/kobject\.c"),
        "WARNING: kobject bug in {frame}",
        b"WARNING: CPU: 0 PID: 85 at lib/kobject.c:734 kobject_put+0x1b1/0x2c0\n"
        b"Call Trace:\n probe_exit+0x2e/0x50",
        "WARNING: kobject bug in probe_exit",
        (Where.STACK,),
    ),
    Format(
        CrashClass.STACK,
        (b"WARNING: ",),
        header(
            r"WARNING: (?P<what>can't (?:dereference|access) registers|stack recursion|"
            r"stack going in the wrong direction|"
            r"(?:Bad|Corrupt) or missing \.orc_unwind)"
        ),
        "WARNING: {what}",
        b"WARNING: stack recursion on stack type 4",
        "WARNING: stack recursion",
        ends=Ends.LINE,
        generic=True,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"WARNING: ",),
        header(r"WARNING: Nested lock was not taken"),
        "WARNING: nested lock was not taken in {frame}",
        b"WARNING: Nested lock was not taken\nstack backtrace:\nCall Trace:\n probe_nest+0x12/0x40",
        "WARNING: nested lock was not taken in probe_nest",
        (Where.STACK,),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"WARNING: ", b"BUG: "),
        header(r"(?:\[ )?(?P<word_level>WARNING|BUG): lock held at task exit time"),
        "{word_level}: lock held at task exit time in {frame}",
        b"[ BUG: lock held at task exit time, still held! ]\n"
        b" #0: ffffffffc0004100 (probe_a){+.+.}, at: probe_lock+0x12/0x40",
        "BUG: lock held at task exit time in probe_lock",
        (Where.LOCKS,),
        skip=LOCKDEP,
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.HUNG_TASK,
        (b"INFO: ",),
        header(r"INFO: task .+ can't die for more than \d+ seconds"),
        "INFO: task can't die in {frame}",
        b"INFO: task insmod:92 can't die for more than 143 seconds.\nCall Trace:\n"
        b" probe_loop+0x2e/0x50",
        "INFO: task can't die in probe_loop",
        (Where.STACK,),
        alternates=("hang in {frame}",),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.PANIC,
        (b"panicked at ",),
        header(r"rust_kernel: (?:rust )?panicked at"),
        "Rust panic in the kernel: {what}",
        b"rust_kernel: panicked at drivers/probe.rs:60:5:\nattempt to add with overflow",
        "Rust panic in the kernel: attempt to add with overflow",
        details=(header(r"(?P<what>(?!-+\[)\S.*)"),),
        bare=("Rust panic in the kernel",),
        then=header(r"kernel BUG at |(?:Oops: )?invalid opcode"),
        ends=Ends.TRACE,
    ),
)
