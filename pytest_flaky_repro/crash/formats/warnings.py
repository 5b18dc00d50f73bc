"""Formats of WARN_ON() and its family, and of what has no class of its own.

Sources: ``kernel/panic.c`` (``__warn``), ``lib/debugobjects.c``, ``arch/x86/kernel/unwind_*.c``.
"""

from __future__ import annotations

from pytest_flaky_repro.crash.kinds import CrashClass
from pytest_flaky_repro.crash.skips import ODEBUG

from .model import Ends, Format, Where, header

# Linux 6.18 put the condition and the place in front: "WARNING: [cond] file.c:12 at f+0x1/0x2".
_AT = r"WARNING: (?:(?:CPU: \d+ PID: \d+ )?at |(?:\[.*\] )?(?=\S+\.[chS]:\d+ at ))"
_WARN_AT = _AT + r"(?P<place>\S+?)(?::\d+)?(?: at)? "
_SYMBOL = r"(?P<func>[A-Za-z_<][^\s+]*)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?"
_WHERE = (Where.HEADER, Where.COUNTER, Where.STACK)

ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.REFCOUNT,
        (b"WARNING: ",),
        header(_AT + r"lib/refcount\.c"),
        "WARNING: refcount bug in {frame}",
        b"WARNING: CPU: 0 PID: 85 at lib/refcount.c:28 refcount_warn_saturate+0xba/0x110\n"
        b"Call Trace:\n probe_put+0x2e/0x50",
        "WARNING: refcount bug in probe_put",
        (Where.STACK,),
    ),
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(_AT + r"lib/debugobjects\.c"),
        "WARNING: ODEBUG bug in {frame}",
        b"WARNING: CPU: 0 PID: 85 at lib/debugobjects.c:505 debug_print_object+0xc0/0x110\n"
        b"Call Trace:\n probe_free+0x2e/0x50",
        "WARNING: ODEBUG bug in probe_free",
        (Where.STACK,),
        skip=ODEBUG,
    ),
    Format(
        CrashClass.LOCKDEP,
        (b"WARNING: ",),
        header(_AT + r"kernel/locking/lockdep\.c"),
        "WARNING: locking bug in {frame}",
        b"WARNING: CPU: 0 PID: 85 at kernel/locking/lockdep.c:4811 __lock_acquire+0x54c/0x1f10\n"
        b"Call Trace:\n probe_lock+0x2e/0x50",
        "WARNING: locking bug in probe_lock",
        (Where.STACK,),
    ),
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(_AT + r"mm/(?:slab_common|util)\.c"),
        "WARNING: kmalloc bug in {frame}",
        b"WARNING: CPU: 0 PID: 85 at mm/util.c:596 kvmalloc_node+0xfd/0x110\n"
        b"Call Trace:\n probe_size+0x2e/0x50",
        "WARNING: kmalloc bug in probe_size",
        (Where.STACK,),
    ),
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(_AT + r"mm/vmalloc\.c:\d+ _*vmalloc_node"),
        "WARNING: zero-size vmalloc in {frame}",
        b"WARNING: CPU: 0 PID: 85 at mm/vmalloc.c:3107 __vmalloc_node_range+0x769/0x970\n"
        b"Call Trace:\n probe_size+0x2e/0x50",
        "WARNING: zero-size vmalloc in probe_size",
        (Where.STACK,),
    ),
    # The USB core warns of its callers' requests.
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(_WARN_AT + r"usb_submit_urb\+"),
        "WARNING in {frame}/usb_submit_urb",
        b"WARNING: CPU: 0 PID: 85 at drivers/usb/core/urb.c:478 usb_submit_urb+0x1188/0x1460\n"
        b"Call Trace:\n probe_send+0x2e/0x50",
        "WARNING in probe_send/usb_submit_urb",
        (Where.STACK,),
    ),
    # Without CONFIG_DEBUG_BUGVERBOSE there is no place: "at %pS".
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(r"WARNING: CPU: \d+ PID: \d+ at (?P<func>[A-Za-z_<][^\s+]*)\+0x\S+(?: \[\w+\])?$"),
        "WARNING in {frame}",
        b"WARNING: CPU: 0 PID: 1 at probe_warn+0x14/0x20",
        "WARNING in probe_warn",
        _WHERE,
    ),
    Format(
        CrashClass.WARNING,
        (b"WARNING: ",),
        header(_WARN_AT + _SYMBOL),
        "WARNING in {frame}",
        b"WARNING: CPU: 1 PID: 93 at drivers/misc/probe.c:23 probe_warn+0x5/0x10 [probe]",
        "WARNING in probe_warn",
        _WHERE,
    ),
    Format(
        CrashClass.STACK,
        (b"WARNING: ",),
        header(r"WARNING: kernel stack regs at .* has bad (?P<word_reg>'\w+') value"),
        "WARNING: kernel stack regs has bad {word_reg} value",
        b"WARNING: kernel stack regs at 00000000e5b1 in insmod:85 has bad 'bp' value 00000000aa1",
        "WARNING: kernel stack regs has bad 'bp' value",
        ends=Ends.LINE,
        generic=True,
    ),
    Format(
        CrashClass.STACK,
        (b"WARNING: ",),
        header(r"WARNING: kernel stack frame pointer at .* has bad value"),
        "WARNING: kernel stack frame pointer has bad value",
        b"WARNING: kernel stack frame pointer at 00000000e5b1 in insmod:85 has bad value 0000",
        "WARNING: kernel stack frame pointer has bad value",
        ends=Ends.LINE,
        generic=True,
    ),
    Format(
        CrashClass.WARNING_TEXT,
        (b"WARNING: ",),
        header(r"WARNING: (?!CPU: )(?P<what>\S.*)"),
        "WARNING: {what}",
        b"[    1.234567] WARNING: no IRQ resource flags set.",
        "WARNING: no IRQ resource flags set.",
        ends=Ends.LINE,
        generic=True,
        vague=True,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: (?P<what>\S.*)"),
        "BUG: {what}",
        b"[    1.234567] BUG: probe: 3 slots are lost",
        "BUG: probe: NUM slots are lost",
        ends=Ends.STACK,
        generic=True,
        vague=True,
    ),
)
