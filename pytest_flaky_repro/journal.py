"""Append-only JSON lines, on disk before they count: the files that evidence is kept in.

A file belongs to one writer, which holds a lock on it as long as it writes. Each line has its
``schema`` and ``type``, and ends with a checksum of its own (``crc``: CRC-32 of the line up to it).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import warnings
import zlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_flaky_repro.errors import InfrastructureError, UsageError

SCHEMA = 1


class EvidenceWarning(UserWarning):
    """Something in an evidence file could not be used."""


class Journal:
    """A new file ``PREFIX-...`` in ``folder``, which is made.

    ``again`` is the mend that an InfrastructureError ends in when something cannot be written.
    """

    def __init__(self, folder: Path, prefix: str, again: str) -> None:
        self.folder, self._again = folder, again
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path, self._descriptor = _new_file(folder, prefix)
        except OSError as error:
            raise self._cannot_write(folder, error) from error
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # says to others: still being written

    def append(self, kind: str, record: Mapping[str, Any]) -> None:
        """Returns once the record is on disk."""
        text = json.dumps({"schema": SCHEMA, "type": kind, **record}).encode()
        line = b'%s, "crc": %d}\n' % (text[:-1], zlib.crc32(text[:-1]))
        try:
            done = os.write(self._descriptor, line)
            if done != len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            if os.fstat(self._descriptor).st_nlink == 0:
                raise OSError(errno.ENOENT, "the file was deleted meanwhile")
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise self._cannot_write(self.path, error) from error

    def keep(self, name: str, content: bytes) -> None:
        """Writes a file beside the journal, for its records to name."""
        try:
            (self.folder / name).write_bytes(content)
        except OSError as error:
            raise self._cannot_write(self.folder / name, error) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _cannot_write(self, path: Path, error: OSError) -> InfrastructureError:
        said = f"evidence cannot be written to {path}: {error.strerror}. {self._again}"
        return InfrastructureError(said)


def stamp() -> str:
    """The time as the names of files have it: in order, they are sorted."""
    return datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")


def _new_file(folder: Path, prefix: str) -> tuple[Path, int]:
    path = folder / f"{prefix}-{stamp()}-{os.getpid()}.jsonl"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return path, os.open(path, flags, 0o644)


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of one file. Lines that are not whole are dropped with one warning."""
    damaged: list[int] = []
    for number, line in enumerate(_content(path).split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = _record(line)
        except ValueError:
            damaged.append(number)
            continue
        if record.get("schema") != SCHEMA:
            msg = (
                f"{path}:{number}: evidence of schema {record.get('schema')}, this version reads "
                f"{SCHEMA}. Use the version that wrote it."
            )
            raise UsageError(msg)
        yield record
    if damaged:
        more = f", and {len(damaged) - 1} more of its lines" if damaged[1:] else ""
        message = f"{path}:{damaged[0]}: not a whole record, left out{more}"
        warnings.warn(message, EvidenceWarning, stacklevel=2)


def holds_records(path: Path) -> bool:
    """Whether any line of a file is a whole record."""
    return any(map(_is_record, _content(path).split(b"\n")))


def _is_record(line: bytes) -> bool:
    try:
        return "schema" in _record(line)
    except ValueError:
        return False


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        msg = f"the evidence file {path} cannot be read: {error.strerror}"
        raise UsageError(msg) from error


def _record(line: bytes) -> dict[str, Any]:
    """One line; ValueError when it is not whole, or not what was written."""
    text, _, _ = line.rpartition(b', "crc": ')
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        raise ValueError("not a record")  # noqa: TRY004 - one kind of damage among others
    if record.pop("crc", None) != zlib.crc32(text) and record.get("schema") == SCHEMA:
        raise ValueError("the checksum is wrong")
    return record


def refuse_if_written(path: Path, option: str) -> None:
    """UsageError, naming the ``option`` that wants to go on from it, while a run writes to it."""
    if is_written(path):
        msg = f"{option}: {path} is still being written by another run. Wait for its end."
        raise UsageError(msg)


def is_written(path: Path) -> bool:
    """Whether a run writes to it now."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def now() -> str:
    """The time, as records have it: ISO 8601, UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def hostname() -> str:
    return socket.gethostname()
