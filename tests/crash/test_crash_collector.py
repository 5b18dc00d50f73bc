"""The collector: the same answer for any chunking, and an early end for the VM."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.crash import Collector, read_console

OOPS = b"""\
[    6.513348] general protection fault, probably for non-canonical address 0xdead4ead: 0000 [#1]
[    6.513868] CPU: 0 PID: 92 Comm: insmod Tainted: G           OE      6.1.0 #1
[    6.516883] RIP: 0010:probe_gpf+0xe/0x19 [probe]
[    6.516883] Call Trace:
[    6.516883]  <TASK>
[    6.516883]  probe_init+0x8f/0x1000 [probe]
[    6.516883]  </TASK>
[    6.816883] ---[ end trace 0000000000000000 ]---
"""
CLEAN = b"".join(b"[    1.%06d] probe: nothing to see here\n" % n for n in range(40))
CONSOLE = (
    CLEAN + b"login: " + OOPS + b"[    7.100000] Kernel panic - not syncing: Fatal exception\n"
)


@given(st.lists(st.integers(0, len(CONSOLE)), max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_chunking_gives_the_same_reports(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(CONSOLE)]
    collector = Collector()
    for start, stop in pairwise(edges):
        collector.feed(CONSOLE[start:stop], 0.0)
    assert collector.finish() == read_console(CONSOLE)


def test_nothing_seen_means_no_end() -> None:
    collector = Collector()
    collector.feed(CLEAN, 1.0)
    assert not collector.seen
    assert collector.end_at() is None
    assert collector.finish() == ()


def test_an_end_marker_leaves_half_a_second() -> None:
    collector = Collector()
    collector.feed(OOPS[:300], 1.0)
    assert collector.seen
    assert collector.end_at() == 4.0  # idle
    collector.feed(OOPS[300:], 2.0)
    assert collector.end_at() == 2.5  # settle
    collector.feed(b"[    7.200000] unrelated\n", 2.4)
    assert collector.end_at() == 2.5


def test_a_report_that_never_ends_is_capped() -> None:
    collector = Collector()
    collector.feed(OOPS[:300], 1.0)
    collector.feed(b"[    7.200000] more\n", 9.0)
    assert collector.end_at() == 11.0
    collector.feed(b"[    7.200000] noise\n" * 80_000, 9.5)
    assert collector.end_at() == 9.5  # a megabyte is enough


def test_a_second_report_reopens_the_wait() -> None:
    collector = Collector()
    collector.feed(OOPS, 1.0)
    collector.feed(OOPS[:300], 1.3)
    assert collector.end_at() == 4.3
