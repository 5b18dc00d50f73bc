"""Consoles as they come: torn lines, two CPUs at once, long lines, floods of headers, noise."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.crash import CrashClass, read_console
from pytest_flaky_repro.crash.prefilter import MAX_HITS
from pytest_flaky_repro.crash.records import records

if TYPE_CHECKING:
    from types import FrameType

ALL = frozenset(CrashClass)

FAULT = [
    b"BUG: kernel NULL pointer dereference, address: 0000000000000018",
    b"#PF: supervisor write access in kernel mode",
    b"Oops: 0002 [#1] PREEMPT SMP NOPTI",
    b"CPU: 1 PID: 93 Comm: race1 Tainted: G           OE      6.1.0 #1",
    b"RIP: 0010:probe_write+0xc/0x20 [probe]",
    b"Call Trace:",
    b" <TASK>",
    b" race+0x2e/0x3a [probe]",
    b" kthread+0xda/0x100",
    b" </TASK>",
    b"---[ end trace 0000000000000000 ]---",
]
BUG = [
    b"------------[ cut here ]------------",
    b"kernel BUG at drivers/misc/probe.c:22!",
    b"invalid opcode: 0000 [#2] PREEMPT SMP NOPTI",
    b"CPU: 0 PID: 92 Comm: race0 Tainted: G      D    OE      6.1.0 #1",
    b"RIP: 0010:probe_bug+0x5/0x10 [probe]",
    b"Call Trace:",
    b" <TASK>",
    b" race+0x3a/0x3a [probe]",
    b" kthread+0xda/0x100",
    b" </TASK>",
    b"---[ end trace 0000000000000000 ]---",
]
FAULT_TITLE = "BUG: unable to handle kernel NULL pointer dereference in probe_write"
BUG_TITLE = "kernel BUG in probe_bug"


def merged(order: list[bool], one: list[bytes], two: list[bytes]) -> list[bytes]:
    """Two lists of lines as one; ``order`` says which comes next, what is left follows."""
    first, second = list(one), list(two)
    out = []
    for take_first in order:
        source = first if take_first else second
        if source:
            out.append(source.pop(0))
    return [*out, *first, *second]


@given(st.lists(st.booleans(), min_size=22, max_size=22))
@settings(max_examples=150, deadline=None)
def test_two_cpus_with_callers_are_told_apart(order: list[bool]) -> None:
    one = [b"[    3.000000][   T93] " + line for line in FAULT]
    two = [b"[    3.000000][   T92] " + line for line in BUG]
    reports = read_console(b"\n".join(merged(order, one, two)) + b"\n")
    assert {report.title for report in reports} == {FAULT_TITLE, BUG_TITLE}
    assert not any(report.corrupted for report in reports)


@given(st.lists(st.booleans(), min_size=22, max_size=22), st.booleans())
@settings(max_examples=150, deadline=None)
def test_two_cpus_without_callers_keep_only_what_is_certain(
    order: list[bool], stamped: bool
) -> None:
    prefix = b"[    3.000000] " if stamped else b""
    lines = [prefix + line for line in merged(order, FAULT, BUG)]
    for report in read_console(b"\n".join(lines) + b"\n"):
        if report.title in (FAULT_TITLE, BUG_TITLE):
            continue
        assert report.title in {
            "BUG: unable to handle kernel NULL pointer dereference in corrupted",
            "kernel BUG in corrupted",
            "invalid opcode in corrupted",
        }
        assert report.corrupted
        assert report.generic


def test_reports_one_after_the_other_are_both_whole() -> None:
    lines = [b"[    3.000000] " + line for line in (*FAULT, *BUG)]
    reports = read_console(b"\n".join(lines) + b"\n")
    assert [report.title for report in reports] == [FAULT_TITLE, BUG_TITLE]


def test_a_panic_belongs_to_the_oops_that_it_follows() -> None:
    panic = b"Kernel panic - not syncing: Fatal exception"
    lines = [b"[    3.000000] " + line for line in (*FAULT, panic)]
    (report,) = read_console(b"\n".join(lines) + b"\n")
    assert report.title == FAULT_TITLE


def test_dropped_messages_do_not_hide_a_header() -> None:
    line = b"** 93 printk messages dropped ** [    3.000000] kernel BUG at mm/slab.c:3!\n"
    (report,) = read_console(line)
    assert report.title == "kernel BUG in corrupted"


def test_user_text_in_a_stamped_stream_is_no_kernel_report() -> None:
    stamped = b"[    3.000000] Run /init as init process\n"
    assert read_console(stamped + b"BUG: sleeping function called in my test\n") == ()
    assert read_console(stamped + b"INFO: task a:1 blocked for more than 9 seconds.\n") == ()


def test_kernel_text_is_no_user_report() -> None:
    assert read_console(b"[    3.000000] panic: at the disco\n\ngoroutine 1 [running]:\n") == ()


def test_the_cpu_pid_and_offsets_do_not_change_a_title() -> None:
    one = b"[  3.000000] WARNING: CPU: 1 PID: 93 at a/b.c:23 probe_warn+0x5/0x10 [probe]\n"
    two = b"[  9.000000] WARNING: CPU: 0 PID: 7 at a/b.c:24 probe_warn.isra.0+0x9/0x14\n"
    assert read_console(one)[0].title == read_console(two)[0].title == "WARNING in probe_warn"


@given(st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_records_tile_their_stretch(data: bytes) -> None:
    position = 0
    for record in records(data, 0, len(data)):
        assert record.start == position
        assert record.end > record.start
        position = record.end
    assert position == len(data)


WORDS = st.sampled_from(
    [
        b"BUG: ", b"KASAN: ", b"use-after-free in f+0x1/0x2\n", b"WARNING: ", b"CPU: 0 PID: 1 at ",
        b"[    1.000000] ", b"[   T1] ", b"Call Trace:\n", b" f+0x1/0x2\n", b"\n", b"panic: ",
        b"INFO: task x:1 blocked for more than 9 seconds\n", b"\xff\x00", b"Linux version 6.1\n",
        b"Kernel panic - not syncing: ", b"==ERROR: AddressSanitizer: ", b"[#1]", b"list_add",
    ]
)  # fmt: skip


@given(st.lists(WORDS, max_size=60))
@settings(max_examples=300, deadline=None)
def test_no_mixture_of_headers_breaks_the_reader(words: list[bytes]) -> None:
    data = b"".join(words)
    for report in read_console(data, classes=ALL):
        assert report.title
        assert report.title.isprintable()
        assert 0 <= report.start < report.end <= len(data)


FLOODS = [
    b"INFO: task x:1 blocked for more than 120 seconds.\n",
    b"[    1.000000] BUG: KASAN: use-after-free in f+0x1/0x2\n",
    b"[    1.000000] WARNING: this is only text\n",
    b"WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n",
    b"BUG: ",
    b"WARNING: ",
    b"[    1.000000] ",
    b"panic: x\n",
    b"list_del corruption. \n",
    b"unreferenced object 0x1 (size 8):\n",
    b"Call Trace:\n f+0x1/0x2\n",
    b"Linux version 6.1.0\n",
]


def calls_for(data: bytes) -> int:
    """How many function calls reading takes: a count that no busy machine disturbs."""
    count = 0

    def on_event(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(on_event)
    try:
        read_console(data)
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("line", FLOODS, ids=lambda line: line[:24].decode().strip())
def test_work_grows_no_faster_than_a_flood_of_headers(line: bytes) -> None:
    size = 1 << 14
    small, large = line * (size // len(line)), line * (4 * size // len(line))
    assert calls_for(large) <= 4.4 * calls_for(small)


def test_a_flood_is_read_up_to_a_limit() -> None:
    assert len(read_console(FLOODS[1] * 5000)) == MAX_HITS
