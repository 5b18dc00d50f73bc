"""What a guest printed is kept within a bound, and a trial's part of it begins at its mark."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.machine.console import ConsoleLog, TrialConsole

chunks = st.lists(st.binary(max_size=30), max_size=30)


@given(chunks)
def test_what_fits_is_kept_whole(parts: list[bytes]) -> None:
    log = ConsoleLog(keep=1000)
    for part in parts:
        log.append(part)
    assert log.content() == b"".join(parts)


@given(chunks, st.integers(1, 40))
def test_head_and_tail_are_kept_and_the_rest_is_counted(parts: list[bytes], keep: int) -> None:
    log, printed = ConsoleLog(keep), b"".join(parts)
    for part in parts:
        log.append(part)
    left_out = len(printed) - 2 * keep
    if left_out <= 0:
        assert log.content() == printed
    else:
        note = b"\n[flaky-repro: %d bytes of console left out here]\n" % left_out
        assert log.content() == printed[:keep] + note + printed[-keep:]


def test_memory_stays_bounded_however_much_is_printed() -> None:
    log = ConsoleLog(keep=1000)
    for _ in range(10_000):
        log.append(b"x" * 100)
    assert log.total == 1_000_000
    assert len(log._head) + len(log._tail) <= 3 * 1000


@given(st.binary(max_size=50), st.binary(max_size=50), st.lists(st.integers(0, 200), max_size=8))
def test_a_trial_begins_behind_its_mark(before: bytes, after: bytes, cuts: list[int]) -> None:
    mark = b"flaky-repro: run 5eed"
    stream = before + mark + after
    console = TrialConsole(mark, collector=None)
    edges = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    for a, b in itertools.pairwise(edges):
        console.feed(stream[a:b])
    assert console.content() == after


@given(chunks)
def test_without_its_mark_there_is_no_trial(parts: list[bytes]) -> None:
    console = TrialConsole(b"flaky-repro: run 5eed", collector=None)
    for part in parts:
        console.feed(part)
    assert console.content() is None


def test_looking_for_the_mark_costs_bounded_memory() -> None:
    console = TrialConsole(b"the mark", collector=None)
    for _ in range(1000):
        console.feed(b"x" * 1000)
    assert len(console._window) <= len(b"the mark")
