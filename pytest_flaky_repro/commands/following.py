"""A console that is still growing, cut where a crash report is whole."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_flaky_repro import crash
from pytest_flaky_repro.errors import UsageError

CHUNK = 1 << 16
LOOK_EVERY_S = 0.2  # a file has no event for "it grew" that select(2) knows
KEEP = 1 << 20


def follow(name: str, classes: frozenset[crash.CrashClass] | None) -> Iterator[bytes]:
    """Pieces of the log, each ending where its first report is complete, or the log is.

    A pipe is read to its end; a file is watched until somebody interrupts.
    """
    descriptor = _open(name)
    piece, collector = bytearray(), crash.Collector(classes)
    try:
        while True:
            chunk = _read(descriptor, is_pipe=name == "-")
            if chunk is None:
                break
            piece += chunk
            collector.feed(chunk, time.monotonic())
            end_at = collector.end_at()
            if end_at is not None and time.monotonic() >= end_at:
                yield bytes(piece)
                piece, collector = bytearray(), crash.Collector(classes)
            elif end_at is None and len(piece) > KEEP:
                del piece[: -KEEP // 2]  # nothing but quiet so far
                collector = crash.Collector(classes)
                collector.feed(bytes(piece), time.monotonic())
    finally:
        if name != "-":
            os.close(descriptor)
    if piece:
        yield bytes(piece)


def _open(name: str) -> int:
    if name == "-":
        return sys.stdin.fileno()
    try:
        return os.open(Path(name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error


def _read(descriptor: int, *, is_pipe: bool) -> bytes | None:
    """What is there, waiting a moment for it; None at the end of a pipe."""
    if is_pipe:
        ready, _, _ = select.select([descriptor], [], [], LOOK_EVERY_S)
        return (os.read(descriptor, CHUNK) or None) if ready else b""
    chunk = os.read(descriptor, CHUNK)
    if not chunk:
        time.sleep(LOOK_EVERY_S)
    return chunk
