"""Formats of faults, panics and stack overruns.

Sources: ``arch/x86/mm/fault.c``, ``arch/x86/kernel/{traps,dumpstack}.c``, ``arch/arm/mm/fault.c``,
``arch/arm64/mm/fault.c``, ``kernel/panic.c``, ``lib/bug.c``, ``kernel/sched/core.c``.
"""

from __future__ import annotations

from pytest_flaky_repro.crash.kinds import CrashClass
from pytest_flaky_repro.crash.skips import OOPS

from .model import Ends, Format, Where, header

_BAD = ("bad-access in {frame}",)
_OVERFLOW = ("stack-overflow in {frame}",)
_PC = (Where.COUNTER, Where.STACK)
_THEN = header(r"(?:Oops: )?invalid opcode: |Internal error: (?:Oops - )?BUG|Unexpected kernel BRK")
_ARM = header(r"Internal error: |Unable to handle kernel")
# kasan_die_handler() left out the newline before Linux 4.16.
_GLUED = r"(?:kasan: GPF could be caused by NULL-ptr deref or user memory access)?"
_PANIC = r"Kernel panic - not syncing: "

ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.OOPS,
        (b"BUG: ", b"nable to handle "),
        header(
            r"(?:BUG: )?(?:[Uu]nable to handle )?[Kk]ernel NULL pointer dereference"
            r"|Unable to handle kernel NULL pointer dereference"
        ),
        "BUG: unable to handle kernel NULL pointer dereference in {frame}",
        b"BUG: kernel NULL pointer dereference, address: 0000000000000000\n"
        b"RIP: 0010:probe_read+0x13/0x1a [probe]",
        "BUG: unable to handle kernel NULL pointer dereference in probe_read",
        _PC,
        skip=OOPS,
        alternates=_BAD,
        then=_ARM,
    ),
    Format(
        CrashClass.OOPS,
        (b"nable to handle ",),
        header(
            r"(?:BUG: )?(?:CPU \d+ )?[Uu]nable to handle "
            r"(?:kernel paging request|page fault for address|kernel pointer dereference"
            r"|kernel data access|kernel instruction fetch|kernel execution of user memory)"
        ),
        "BUG: unable to handle kernel paging request in {frame}",
        b"BUG: unable to handle page fault for address: ffffdead00000000\n"
        b"RIP: 0010:probe_write+0xe/0x19 [probe]",
        "BUG: unable to handle kernel paging request in probe_write",
        _PC,
        skip=OOPS,
        alternates=_BAD,
        then=_ARM,
    ),
    Format(
        CrashClass.OOPS,
        (b"nable to handle ",),
        header(r"Unable to handle kernel access to user memory"),
        "BUG: unable to handle kernel access to user memory in {frame}",
        b"Unable to handle kernel access to user memory outside uaccess routines at virtual address"
        b" 0000000020000000\npc : probe_peek+0x18/0x2c",
        "BUG: unable to handle kernel access to user memory in probe_peek",
        _PC,
        skip=OOPS,
        alternates=_BAD,
        then=_ARM,
    ),
    Format(
        CrashClass.OOPS,
        (b"Unhandled ",),
        header(r"Unhandled prefetch abort: "),
        "Unhandled prefetch abort in {frame}",
        b"Unhandled prefetch abort: breakpoint debug exception (0x222) at 0x00000000\n"
        b"PC is at probe_jump+0x13/0x1a",
        "Unhandled prefetch abort in probe_jump",
        _PC,
        skip=OOPS,
        alternates=_BAD,
        then=_ARM,
    ),
    Format(
        CrashClass.OOPS,
        (b"nable to handle ",),
        header(r"(?:BUG: )?[Uu]nable to handle kernel(?: access)?"),
        "BUG: unable to handle kernel",
        b"BUG: unable to handle kernel ",
        "BUG: unable to handle kernel",
        generic=True,
        torn=True,
    ),
    Format(
        CrashClass.OOPS,
        (b"general protection fault",),
        header(_GLUED + r"(?:Oops: )?general protection fault\b.*(?:\[#\d+\]|: |$)"),
        "general protection fault in {frame}",
        b"general protection fault, probably for non-canonical address 0xdead4ead00000000: 0000"
        b" [#1] PREEMPT SMP NOPTI\nRIP: 0010:probe_gpf+0xe/0x19 [probe]",
        "general protection fault in probe_gpf",
        _PC,
        skip=OOPS,
        alternates=_BAD,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG ",),
        header(
            r"[Kk]ernel BUG at (?:(?P<place>\S+?)[:!]"
            r"|(?P<func>[A-Za-z_][^\s+]*)\S* \[verbose debug info unavailable\])"
        ),
        "kernel BUG in {frame}",
        b"kernel BUG at drivers/misc/probe.c:22!\nRIP: 0010:probe_bug+0x5/0x10 [probe]",
        "kernel BUG in probe_bug",
        _PC,
        skip=OOPS,
        then=_THEN,
    ),
    Format(
        CrashClass.OOPS,
        (b"[#",),
        header(r"(?:Oops: )?divide[ _]error: .*\[#"),
        "divide error in {frame}",
        b"divide error: 0000 [#1] PREEMPT SMP NOPTI\nRIP: 0010:probe_div+0x18/0x21 [probe]",
        "divide error in probe_div",
        _PC,
        skip=OOPS,
    ),
    Format(
        CrashClass.OOPS,
        (b"[#",),
        header(
            r"(?:Oops: )?(?P<trap>invalid opcode|int3|alignment check|bounds"
            r"|overflow|coprocessor segment overrun|invalid TSS|segment not present|debug"
            r"|double fault|unhandled fault|simd exception|fpu exception|machine check"
            r"|control protection fault)(?: fault)?: [0-9a-f]{4} \[#\d+\]"
        ),
        "{trap} in {frame}",
        b"invalid opcode: 0000 [#1] PREEMPT SMP NOPTI\nRIP: 0010:probe_ud2+0x5/0xc [probe]",
        "invalid opcode in probe_ud2",
        _PC,
        skip=OOPS,
    ),
    Format(
        CrashClass.OOPS,
        (b"[#",),
        header(r"(?:Oops: )?stack segment: \d+ \[#"),
        "stack segment fault in {frame}",
        b"stack segment: 0000 [#1] PREEMPT SMP\nRIP: 0010:probe_ss+0x5/0xc [probe]",
        "stack segment fault in probe_ss",
        _PC,
        skip=OOPS,
    ),
    Format(
        CrashClass.OOPS,
        (b"Unhandled ",),
        header(r"Unhandled fault: "),
        "Unhandled fault in {frame}",
        b"Unhandled fault: imprecise external abort (0x1406) at 0xb6f2e000\n"
        b"PC is at probe_read+0x13/0x1a",
        "Unhandled fault in probe_read",
        _PC,
        skip=OOPS,
        alternates=_BAD,
        then=_ARM,
    ),
    Format(
        CrashClass.OOPS,
        (b"[#",),
        header(r"Internal error: (?!Oops - BUG).*\[#"),
        "Internal error in {frame}",
        b"Internal error: synchronous external abort: 96000010 [#1] PREEMPT SMP\n"
        b"pc : probe_read+0x18/0x2c",
        "Internal error in probe_read",
        _PC,
        skip=OOPS,
        alternates=_BAD,
    ),
    Format(
        CrashClass.OOPS,
        (b"Alignment trap: ",),
        header(r"Alignment trap: "),
        "Alignment trap in {frame}",
        b"Alignment trap: not handling instruction e1953f9f at [<c0101028>]\n"
        b"PC is at probe_read+0x13/0x1a",
        "Alignment trap in probe_read",
        _PC,
        skip=OOPS,
        then=_ARM,
    ),
    Format(
        CrashClass.OOPS,
        (b"PANIC: double fault",),
        header(r"(?:traps: )?PANIC: double fault"),
        "PANIC: double fault in {frame}",
        b"traps: PANIC: double fault, error_code: 0x0\nRIP: 0010:probe_df+0x5/0xc [probe]",
        "PANIC: double fault in probe_df",
        _PC,
        skip=OOPS,
    ),
    Format(
        CrashClass.STACK,
        (b"BUG: ",),
        header(r"BUG: (?:(?P<word_stack>\w+) )?stack guard page was hit"),
        "BUG: stack guard page was hit in {frame}",
        b"BUG: TASK stack guard page was hit at 00000000c9ae53ab (stack is 00000000ef2b..0000)\n"
        b"RIP: 0010:probe_recurse+0x5/0xc [probe]",
        "BUG: stack guard page was hit in probe_recurse",
        (Where.ENTRY,),
        skip=OOPS,
        alternates=_OVERFLOW,
    ),
    Format(
        CrashClass.STACK,
        (b"Kernel panic - not syncing: ", b"[#"),
        header(r"(?:Kernel panic - not syncing: )?kernel stack overflow"),
        "kernel stack overflow in {frame}",
        b"kernel stack overflow: 96000047 [#1] PREEMPT SMP\npc : probe_recurse+0x5/0xc",
        "kernel stack overflow in probe_recurse",
        (Where.ENTRY,),
        skip=OOPS,
        alternates=_OVERFLOW,
    ),
    Format(
        CrashClass.STACK,
        (b"Kernel panic - not syncing: ",),
        header(
            _PANIC + r"stack-protector: Kernel stack is corrupted in: (?:(?P<func>[^\s+]+)\+0x)?"
        ),
        "kernel panic: stack is corrupted in {frame}",
        b"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in:"
        b" probe_smash+0x55/0x5e [probe]",
        "kernel panic: stack is corrupted in probe_smash",
        (Where.HEADER, Where.STACK),
        ends=Ends.PANIC,
    ),
    Format(
        CrashClass.STACK,
        (b"Kernel panic - not syncing: ",),
        header(_PANIC + r"corrupted stack end detected inside scheduler"),
        "kernel panic: corrupted stack end in {frame}",
        b"Kernel panic - not syncing: corrupted stack end detected inside scheduler\n"
        b"Call Trace:\n probe_recurse+0x5/0xc",
        "kernel panic: corrupted stack end in probe_recurse",
        (Where.ENTRY,),
        alternates=_OVERFLOW,
        ends=Ends.PANIC,
    ),
    Format(
        CrashClass.PANIC,
        (b"Kernel panic - not syncing: ",),
        header(
            _PANIC
            + r"(?P<what>(?:Oops: )?Fatal exception(?: in interrupt)?|(?:\w+: )?panic_on_warn set"
            r"|softlockup: hung tasks|hung_task: blocked tasks|RCU Stall|Hard LOCKUP"
            r"|(?:\w+: )?system warned too often|Oopsed too often"
            r"|KASAN: panic_on_warn set|UBSAN: panic_on_warn set|kernel: panic_on_warn set)"
        ),
        "kernel panic: {what}",
        b"Kernel panic - not syncing: Fatal exception in interrupt",
        "kernel panic: Fatal exception in interrupt",
        ends=Ends.PANIC,
        follows=True,
        generic=True,
    ),
    Format(
        CrashClass.PANIC,
        (b"Kernel panic - not syncing: ",),
        header(_PANIC + r"Attempted to kill init!(?: exitcode=(?P<status>0x[0-9a-f]+))?"),
        "kernel panic: Attempted to kill init!",
        b"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000300",
        "kernel panic: Attempted to kill init!",
        ends=Ends.PANIC,
    ),
    Format(
        CrashClass.PANIC,
        (b"Kernel panic - not syncing: ",),
        header(_PANIC + r"(?P<what>.+)"),
        "kernel panic: {what}",
        b"Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "kernel panic: VFS: Unable to mount root fs on unknown-block(NUM,NUM)",
        ends=Ends.PANIC,
    ),
    Format(
        CrashClass.OOPS,
        (b"[#",),
        header(r"Oops.*\[#\d"),
        "Oops in {frame}",
        b"Oops: 0002 [#1] PREEMPT SMP NOPTI\nRIP: 0010:probe_write+0xe/0x19 [probe]",
        "Oops in probe_write",
        _PC,
        skip=OOPS,
        follows=True,
    ),
    Format(
        CrashClass.BUG,
        (b"VFS: ",),
        header(r"VFS: Busy inodes after unmount"),
        "VFS: Busy inodes after unmount (use-after-free)",
        b"VFS: Busy inodes after unmount of vda. Self-destruct in 5 seconds.  Have a nice day...",
        "VFS: Busy inodes after unmount (use-after-free)",
        ends=Ends.LINE,
    ),
)
