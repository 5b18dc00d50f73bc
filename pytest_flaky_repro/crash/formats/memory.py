"""Formats of the memory checkers.

Sources: ``mm/kasan/report.c``, ``mm/kmsan/report.c``, ``mm/kfence/report.c``,
``kernel/kcsan/report.c``, ``lib/ubsan.c``, ``lib/list_debug.c``, ``lib/refcount.c``,
``mm/kmemleak.c``, ``mm/page_alloc.c``, ``mm/usercopy.c``.
"""

from __future__ import annotations

from pytest_flaky_repro.crash.kinds import CrashClass
from pytest_flaky_repro.crash.skips import LEAK

from .model import Ends, Format, Where, header

_BAD = ("bad-access in {frame}",)
_ACCESS_SIZE = header(r"(?P<Word_op>Read|Write) (?:of size \d+|at addr)")
_THEN = header(
    r"(?:kernel BUG at|WARNING: (?:CPU: \d+ PID: \d+ )?at) "
    r"(?:lib/(?:list_debug|refcount)|mm/usercopy)\.c|(?:Oops: )?invalid opcode: "
    r"|Internal error: Oops - BUG"
)
_SYMBOL = r"(?P<func><?[A-Za-z_][^\s+]*(?: as [^\s+]+)?)(?:\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?)?"

ROWS: tuple[Format, ...] = (
    Format(
        CrashClass.KASAN,
        (b"BUG: ",),
        header(
            r"BUG: KASAN: (?P<word_bug>double-free or invalid-free|double-free|invalid-free)"
            r"(?: in " + _SYMBOL + r")?"
        ),
        "KASAN: invalid-free in {frame}",
        b"BUG: KASAN: double-free in kfree+0x96/0x1b0\nFree of addr ffff888004b9c600",
        "KASAN: invalid-free in corrupted",
        (Where.STACK, Where.HEADER),
        alternates=("invalid-free in {frame}",),
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KASAN,
        (b"BUG: ",),
        header(
            r"BUG: KASAN: (?P<word_bug>[a-z][\w-]*(?: [\w-]+)*?)(?: in (?P<at>"
            + _SYMBOL
            + r".*)| on .*|$)"
        ),
        "KASAN: {word_bug} {Word_op} in {frame}",
        b"BUG: KASAN: slab-out-of-bounds in probe_ring+0x1c/0x40\n"
        b"Write of size 4 at addr ffff888004b9c67c by task insmod/85",
        "KASAN: slab-out-of-bounds Write in probe_ring",
        (Where.STACK, Where.HEADER),
        details=(_ACCESS_SIZE,),
        bare=("KASAN: {word_bug} in {at}", "KASAN: {word_bug} {Word_op}"),
        alternates=_BAD,
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KMSAN,
        (b"BUG: ",),
        header(r"BUG: KMSAN: (?P<word_bug>[\w-]*infoleak[\w-]*) in " + _SYMBOL),
        "KMSAN: {word_bug} in {frame}",
        b"BUG: KMSAN: kernel-infoleak in _copy_to_iter+0x12a/0x900",
        "KMSAN: kernel-infoleak in corrupted",
        (Where.STACK, Where.HEADER),
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KMSAN,
        (b"BUG: ",),
        header(r"BUG: KMSAN: (?P<word_bug>[\w-]+) in " + _SYMBOL),
        "KMSAN: {word_bug} in {frame}",
        b"BUG: KMSAN: uninit-value in parse_opts+0x12a/0x900",
        "KMSAN: uninit-value in parse_opts",
        (Where.STACK, Where.HEADER),
        alternates=_BAD,
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KCSAN,
        (b"BUG: ",),
        header(r"BUG: KCSAN: (?P<word_bug>[\w-]+) in (?P<func_one>\S+) / (?P<func_two>\S+)"),
        "KCSAN: {word_bug} in {func_one} / {func_two}",
        b"BUG: KCSAN: data-race in tick_do_update / tick_sched_timer",
        "KCSAN: data-race in tick_do_update / tick_sched_timer",
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KCSAN,
        (b"BUG: ",),
        header(r"BUG: KCSAN: (?P<bug>assert: race|[\w-]+) in (?P<func>[^\s+]+)"),
        "KCSAN: {bug} in {func}",
        b"BUG: KCSAN: assert: race in set_flag+0x12/0x40",
        "KCSAN: assert: race in set_flag",
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KFENCE,
        (b"BUG: ",),
        header(
            r"BUG: KFENCE: "
            r"(?P<word_bug>(?:out-of-bounds|use-after-free|invalid) (?:read|write)) in " + _SYMBOL
        ),
        "KFENCE: {word_bug} in {frame}",
        b"BUG: KFENCE: use-after-free read in ring_pop+0x14/0x30",
        "KFENCE: use-after-free read in ring_pop",
        (Where.HEADER, Where.STACK),
        alternates=_BAD,
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KFENCE,
        (b"BUG: ",),
        header(r"BUG: KFENCE: (?P<word_bug>invalid free) in " + _SYMBOL),
        "KFENCE: invalid free in {frame}",
        b"BUG: KFENCE: invalid free in ring_free+0x14/0x30",
        "KFENCE: invalid free in ring_free",
        (Where.HEADER, Where.STACK),
        alternates=("invalid-free in {frame}",),
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.KFENCE,
        (b"BUG: ",),
        header(r"BUG: KFENCE: (?P<word_bug>memory corruption) in " + _SYMBOL),
        "KFENCE: memory corruption in {frame}",
        b"BUG: KFENCE: memory corruption in ring_free+0x14/0x30",
        "KFENCE: memory corruption in ring_free",
        (Where.HEADER, Where.STACK),
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.UBSAN,
        (b"UBSAN: ",),
        header(r"UBSAN: Undefined behaviour in "),
        "UBSAN: undefined-behaviour in {frame}",
        b"UBSAN: Undefined behaviour in drivers/misc/probe.c:24:9",
        "UBSAN: undefined-behaviour in corrupted",
        (Where.STACK,),
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.UBSAN,
        (b"UBSAN: ",),
        header(r"UBSAN: (?P<word_bug>[\w-]+) in (?P<place>\S+?)(?::\d+)+$"),
        "UBSAN: {word_bug} in {frame}",
        b"UBSAN: array-index-out-of-bounds in drivers/misc/probe.c:24:9",
        "UBSAN: array-index-out-of-bounds in corrupted",
        (Where.STACK,),
        ends=Ends.RULE,
    ),
    Format(
        CrashClass.LIST,
        (b"list_",),
        header(
            r"(?:list_(?:add|del) corruption[.,:]|list_(?:add|del) (?:double add|corruption)"
            r"|slab: )"
        ),
        "BUG: corrupted list in {frame}",
        b"list_del corruption, ffff8880049ca240->next is LIST_POISON1 (dead000000000100)",
        "BUG: corrupted list in corrupted",
        (Where.COUNTER, Where.STACK),
        alternates=_BAD,
        then=_THEN,
    ),
    Format(
        CrashClass.LIST,
        (b"list_",),
        header(r"(?:kernel BUG at|WARNING: (?:CPU: \d+ PID: \d+ )?at) lib/list_debug\.c"),
        "BUG: corrupted list in {frame}",
        b"kernel BUG at lib/list_debug.c:53!\nCall Trace:\n probe_unlink+0x12/0x40",
        "BUG: corrupted list in probe_unlink",
        (Where.COUNTER, Where.STACK),
        alternates=_BAD,
        then=_THEN,
    ),
    Format(
        CrashClass.REFCOUNT,
        (b"refcount_t: ",),
        header(r"refcount_t: (?P<what>[^.]*)\.?"),
        "WARNING: refcount bug in {frame}",
        b"refcount_t: underflow; use-after-free.",
        "WARNING: refcount bug in corrupted",
        (Where.STACK,),
        then=_THEN,
    ),
    Format(
        CrashClass.LEAK,
        (b"BUG: ",),
        header(r"BUG: memory leak"),
        "memory leak in {frame}",
        b"BUG: memory leak\nunreferenced object 0xffff8880049d4300 (size 32):\n"
        b"  backtrace:\n    [<ffffffffc0002034>] probe_leak+0x14/0x40",
        "memory leak in probe_leak",
        (Where.STACK,),
        skip=LEAK,
        ends=Ends.IDLE,
        then=header(r"unreferenced object"),
    ),
    Format(
        CrashClass.LEAK,
        (b"unreferenced object 0x",),
        header(r"unreferenced object 0x[0-9a-f]+ \(size \d+\):"),
        "memory leak in {frame}",
        b"unreferenced object 0xffff8880049d4300 (size 32):\n"
        b'  comm "insmod", pid 86, jiffies 4294893361 (age 12.312s)\n'
        b"  backtrace:\n    [<ffffffffc0002034>] probe_leak+0x14/0x40",
        "memory leak in probe_leak",
        (Where.STACK,),
        skip=LEAK,
        ends=Ends.IDLE,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: Bad page state in process"),
        "BUG: Bad page state in {frame}",
        b"BUG: Bad page state in process insmod  pfn:04b9c",
        "BUG: Bad page state",
        (Where.STACK,),
        skip=LEAK,
        bare=("BUG: Bad page state",),
        ends=Ends.STACK,
    ),
    Format(
        CrashClass.BUG,
        (b"BUG: ",),
        header(r"BUG: Bad page (?P<word_what>map|cache) in process"),
        "BUG: Bad page {word_what}",
        b"BUG: Bad page map in process insmod  pte:ffff8880049d4300 pmd:049d4067",
        "BUG: Bad page map",
        ends=Ends.STACK,
        generic=True,
    ),
    Format(
        CrashClass.BUG,
        (b"usercopy: ",),
        header(r"usercopy: (?:[Kk]ernel memory|BUG)"),
        "BUG: bad usercopy in {frame}",
        b"usercopy: Kernel memory exposure attempt detected from SLUB object 'probe'!",
        "BUG: bad usercopy in corrupted",
        (Where.COUNTER, Where.STACK),
        then=_THEN,
    ),
)
