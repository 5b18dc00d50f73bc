"""What an initramfs is made of: one record for each kind of file, each of them checked.

The limits are those of the newc format (eight hexadecimal digits a field) and of the kernel's
init/initramfs.c, which passes over names that do not fit into PATH_MAX.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

TRAILER = "TRAILER!!!"
PATH_MAX = 4096  # with the closing NUL
WORD = 0xFFFF_FFFF  # the largest number a header field holds


class ArchiveError(UsageError):
    """An archive or an entry that a kernel could not unpack as it was meant."""


class NodeKind(enum.Enum):
    """The two kinds of device file; the value is the letter that mknod(1) uses."""

    CHARACTER = "c"
    BLOCK = "b"


@dataclass(frozen=True)
class Entry:
    """What every member of an archive has: `mode` holds permission bits only."""

    path: str
    mode: int = field(default=0o644, kw_only=True)
    uid: int = field(default=0, kw_only=True)
    gid: int = field(default=0, kw_only=True)
    mtime: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse what the format cannot hold, where it is made rather than where it is written."""
        _check_path(self.path)
        _check_number(self.path, "mode", self.mode, 0o7777)
        for name in ("uid", "gid", "mtime"):
            _check_number(self.path, name, getattr(self, name), WORD)


@dataclass(frozen=True)
class Directory(Entry):
    """A directory."""

    mode: int = field(default=0o755, kw_only=True)


@dataclass(frozen=True)
class File(Entry):
    """A regular file; `links` are its further names (hard links)."""

    content: bytes = field(default=b"", repr=False)
    links: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        """See Entry."""
        super().__post_init__()
        for link in self.links:
            _check_path(link)
        _check_number(self.path, "size", len(self.content), WORD)


@dataclass(frozen=True)
class Symlink(Entry):
    """A symbolic link to `target`, which need not exist."""

    target: str
    mode: int = field(default=0o777, kw_only=True)

    def __post_init__(self) -> None:
        """See Entry."""
        super().__post_init__()
        _check_text(f"target of symbolic link {self.path!r}", self.target)


@dataclass(frozen=True)
class Node(Entry):
    """A device file."""

    kind: NodeKind
    major: int
    minor: int

    def __post_init__(self) -> None:
        """See Entry."""
        super().__post_init__()
        _check_number(self.path, "major number", self.major, WORD)
        _check_number(self.path, "minor number", self.minor, WORD)


@dataclass(frozen=True)
class Fifo(Entry):
    """A named pipe."""


@dataclass(frozen=True)
class Socket(Entry):
    """A UNIX socket."""


def encode(text: str) -> bytes:
    """A path as the bytes in the archive; what is not UTF-8 travels as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def decode(raw: bytes) -> str:
    """The inverse of encode, for any bytes."""
    return raw.decode("utf-8", "surrogateescape")


def _check_path(path: str) -> None:
    _check_text("path", path.removeprefix("/"))
    if path.removeprefix("/") == TRAILER:
        message = f"cpio: no entry can be called {TRAILER}: it ends the archive"
        raise ArchiveError(message)


def _check_text(what: str, text: str) -> None:
    size = len(encode(text))
    if not 0 < size < PATH_MAX or "\0" in text:
        shown = text if size < 80 else text[:80] + "..."  # for reading only
        message = (
            f"cpio: the {what} must be 1 to {PATH_MAX - 1} bytes without NUL;"
            f" it is {size} bytes: {shown!r}"
        )
        raise ArchiveError(message)


def _check_number(path: str, name: str, value: int, limit: int) -> None:
    if not 0 <= value <= limit:
        message = f"cpio: {path!r}: {name} must be 0 to {limit}, it is {value}"
        raise ArchiveError(message)


def with_parents(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The entries with every directory they lie in put before them, and no path twice.

    Paths come back without leading slashes.

    Of two entries with one path the later wins, at the place of the earlier: what the kernel
    comes to as well when it unpacks one after the other.
    """
    ordered: dict[str, Entry] = {}
    for entry in entries:
        for parent in reversed(PurePosixPath("/", entry.path).parents[:-1]):
            path = str(parent).lstrip("/")
            ordered.setdefault(path, Directory(path))
        path = entry.path.lstrip("/")
        ordered[path] = replace(entry, path=path)
    return tuple(ordered.values())
