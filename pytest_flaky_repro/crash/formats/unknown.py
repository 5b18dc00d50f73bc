"""A call trace that no format explains: something was wrong enough to show it."""

from __future__ import annotations

import re

from pytest_flaky_repro.crash.kinds import CrashClass

from .model import Ends, Format, Where, header

UNKNOWN = Format(
    CrashClass.UNCLASSIFIED,
    (b"Call Trace:", b"Call trace:"),
    header(r"Call [Tt]race:"),
    "unclassified call trace in {frame}",
    b"[    3.100000] probe: the ring is gone\n[    3.100001] CPU: 0 PID: 92 Comm: insmod\n"
    b"[    3.100002] Call Trace:\n[    3.100003]  dump_stack_lvl+0x44/0x5c\n"
    b"[    3.100004]  probe_ring+0x12/0x40",
    "unclassified call trace in probe_ring",
    (Where.STACK,),
    bare=("unclassified call trace",),
    ends=Ends.STACK,
)
# Traces that are shown while all is well: mm/oom_kill.c, mm/page_alloc.c (warn_alloc),
# drivers/tty/sysrq.c, lib/fault-inject.c.
EXPLAINED = re.compile(
    rb"invoked oom-killer: |page allocation (?:failure|stalls)|sysrq: |SysRq : |FAULT_INJECTION: "
    rb"|alloc_contig_|FAULT_FLAG_ALLOW_RETRY missing"
)
