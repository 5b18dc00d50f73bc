"""The archive a kernel unpacks into its first root file system: cpio, format "newc".

Format: Documentation/driver-api/early-userspace/buffer-format.rst in the kernel source. What that
leaves open (inode numbers, link counts, padding) is done as usr/gen_init_cpio.c does it, so that
an archive written here and one written by the kernel's tool are the same bytes.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_flaky_repro.guest.entries import (
    PATH_MAX,
    TRAILER,
    WORD,
    ArchiveError,
    Directory,
    Entry,
    Fifo,
    File,
    Node,
    NodeKind,
    Socket,
    Symlink,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "ArchiveError",
    "Directory",
    "Entry",
    "Fifo",
    "File",
    "Node",
    "NodeKind",
    "Socket",
    "Symlink",
    "read_archive",
    "read_segment",
    "write_archive",
]

MAGIC = b"070701"
MAGIC_CHECKSUM = b"070702"  # the same layout; the last field is the sum of the content's bytes

_HEADER_SIZE = 110
_DIGITS = re.compile(rb"[0-9A-Fa-f]*")  # int() alone would take "+1", "0x1" and "1_0" as well
_FIRST_INODE = 721
_DEVICE = (3, 1)  # major and minor of the file system the entries pretend to come from
_BLOCK = 512
_MODES = 0o177777  # type and permission bits


def write_archive(entries: Iterable[Entry]) -> bytes:
    """One whole archive, trailer included, as gen_init_cpio would write it.

    A leading slash in a path is dropped, as the kernel's tool does; the order is the caller's
    (a directory must come before what is in it).
    """
    archive = bytearray()
    inode = _FIRST_INODE
    for entry in entries:
        for header, body in _members(entry, inode):
            _append(archive, header, body)
        inode += 1
    _append(archive, _Header(path=TRAILER, inode=0, mode=0, links=1, device=(0, 0)), b"")
    archive.extend(bytes(-len(archive) % _BLOCK))
    return bytes(archive)


def read_archive(data: bytes) -> tuple[Entry, ...]:
    """The entries of one uncompressed archive, with nothing but zeros after it.

    Raises ArchiveError, which says at which offset, for anything malformed.
    """
    entries, end = read_segment(data, 0)
    if data[end:].strip(b"\0"):
        message = f"cpio: bytes after the end of the archive at offset {end}"
        raise ArchiveError(message)
    return entries


def read_segment(data: bytes, start: int) -> tuple[tuple[Entry, ...], int]:
    """The entries of the archive at `start`, and the offset just after its trailer.

    Names that share an inode come back as one File, at the place of the first, with the content
    of the last that had any: as the kernel links and fills them.
    """
    entries: list[Entry] = []
    linked: dict[tuple[int, ...], int] = {}
    for header, body in _read_members(data, start):
        if header.path == TRAILER:
            return tuple(entries), header.end
        shared = stat.S_ISREG(header.mode) and header.links > 1
        if shared and header.identity in linked:
            place = linked[header.identity]
            entries[place] = _with_link(entries[place], header.path, body)
            continue
        if shared:
            linked[header.identity] = len(entries)
        entries.append(_entry(header, body))
    message = f"cpio: the archive at offset {start} has no {TRAILER} entry: is it cut short?"
    raise ArchiveError(message)


# --- writing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Header:
    """One header, as fields; `start` and `end` are offsets, for what is read."""

    path: str
    inode: int
    mode: int  # with the type bits
    links: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    device: tuple[int, int] = _DEVICE
    special: tuple[int, int] = (0, 0)
    start: int = 0
    end: int = 0

    @property
    def identity(self) -> tuple[int, ...]:
        """What makes two names one file: init/initramfs.c, find_link()."""
        return (self.inode, *self.device, self.mode)


def _members(entry: Entry, inode: int) -> Iterator[tuple[_Header, bytes]]:
    def header(kind: int, links: int) -> _Header:
        return _Header(
            path=entry.path.removeprefix("/"),
            inode=inode,
            mode=kind | entry.mode,
            links=links,
            uid=entry.uid,
            gid=entry.gid,
            mtime=entry.mtime,
        )

    match entry:
        case Directory():
            yield header(stat.S_IFDIR, 2), b""
        case Fifo():
            yield header(stat.S_IFIFO, 2), b""
        case Socket():
            yield header(stat.S_IFSOCK, 2), b""
        case Symlink(target=target):
            yield header(stat.S_IFLNK, 1), encode(target) + b"\0"
        case Node(kind=kind, major=major, minor=minor):
            device = stat.S_IFBLK if kind is NodeKind.BLOCK else stat.S_IFCHR
            yield replace(header(device, 1), special=(major, minor)), b""
        case File(content=content, links=others):
            base = header(stat.S_IFREG, 1 + len(others))
            names = [base.path, *(other.removeprefix("/") for other in others)]
            for name in names[:-1]:
                yield replace(base, path=name), b""
            yield replace(base, path=names[-1]), content
        case _:
            message = f"cpio: cannot write {type(entry).__name__}"
            raise TypeError(message)


def _append(archive: bytearray, header: _Header, body: bytes) -> None:
    name = encode(header.path) + b"\0"
    numbers = (
        header.inode,
        header.mode,
        header.uid,
        header.gid,
        header.links,
        header.mtime,
        len(body),
        *header.device,
        *header.special,
        len(name),
        0,
    )
    archive += MAGIC + b"".join(b"%08X" % number for number in numbers)
    archive += name
    archive += bytes(-len(archive) % 4)
    archive += body
    archive += bytes(-len(archive) % 4)


# --- reading -------------------------------------------------------------------------------


def _read_members(data: bytes, start: int) -> Iterator[tuple[_Header, bytes]]:
    position = start
    while position < len(data):
        numbers = _read_numbers(data, position)
        size, name_size = numbers[6], numbers[11]
        name_start = position + _HEADER_SIZE
        body_start = _aligned(name_start + name_size, start)
        path = _read_name(data[name_start : name_start + name_size], name_size, position)
        body = data[body_start : body_start + size]
        if len(body) != size:
            raise _malformed(position, f"{path!r} claims {size} bytes, {len(body)} are left")
        if data[position : position + 6] == MAGIC_CHECKSUM and _checksum(body) != numbers[12]:
            raise _malformed(position, f"{path!r} does not match its checksum")
        header = _Header(
            path=path,
            inode=numbers[0],
            mode=numbers[1],
            uid=numbers[2],
            gid=numbers[3],
            links=numbers[4],
            mtime=numbers[5],
            device=(numbers[7], numbers[8]),
            special=(numbers[9], numbers[10]),
            start=position,
            end=min(_aligned(body_start + size, start), len(data)),
        )
        yield header, body
        position = header.end


def _read_numbers(data: bytes, position: int) -> list[int]:
    """The thirteen fields of the header at `position`."""
    header = data[position : position + _HEADER_SIZE]
    if header[:6] not in (MAGIC, MAGIC_CHECKSUM):
        found = f"a newc header (070701) was expected, the bytes are {header[:6]!r}"
        if header[:6] == b"070707":
            found = "this is the old portable format; write it with: cpio -o -H newc"
        raise _malformed(position, found)
    if len(header) != _HEADER_SIZE:
        raise _malformed(position, f"the header is cut short after {len(header)} bytes")
    digits = header[6:]
    if not _DIGITS.fullmatch(digits):
        raise _malformed(position, "the header holds something else than hexadecimal digits")
    return [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]


def _read_name(raw: bytes, size: int, position: int) -> str:
    if not 1 < size <= PATH_MAX:
        raise _malformed(position, f"a name of {size} bytes; 2 to {PATH_MAX} can be unpacked")
    if len(raw) != size:
        raise _malformed(position, "the name is cut short")
    if raw.find(b"\0") != size - 1:
        raise _malformed(position, "the name does not end with its only NUL")
    return decode(raw[:-1])


def _entry(header: _Header, body: bytes) -> Entry:
    path, mode = header.path, stat.S_IMODE(header.mode)
    uid, gid, mtime = header.uid, header.gid, header.mtime
    kind = stat.S_IFMT(header.mode)
    if kind == stat.S_IFREG:
        return File(path, body, mode=mode, uid=uid, gid=gid, mtime=mtime)
    if kind == stat.S_IFLNK:
        target = _read_target(header, body)
        return Symlink(path, target, mode=mode, uid=uid, gid=gid, mtime=mtime)
    if body:
        raise _malformed(header.start, f"{path!r} is no file and yet has content")
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = NodeKind.BLOCK if kind == stat.S_IFBLK else NodeKind.CHARACTER
        return Node(path, device, *header.special, mode=mode, uid=uid, gid=gid, mtime=mtime)
    plain = {stat.S_IFDIR: Directory, stat.S_IFIFO: Fifo, stat.S_IFSOCK: Socket}.get(kind)
    if plain is None or header.mode > _MODES:
        raise _malformed(header.start, f"{path!r} has mode {header.mode:o}: no known file type")
    return plain(path, mode=mode, uid=uid, gid=gid, mtime=mtime)


def _read_target(header: _Header, body: bytes) -> str:
    """A link's target: gen_init_cpio closes it with a NUL, GNU cpio does not."""
    target = body.removesuffix(b"\0")
    if not target or b"\0" in target or len(target) >= PATH_MAX:
        raise _malformed(header.start, f"symbolic link {header.path!r} has no usable target")
    return decode(target)


def _with_link(entry: Entry, path: str, body: bytes) -> Entry:
    if not isinstance(entry, File):  # identity holds the mode, so this is a file
        raise TypeError(entry)
    return replace(entry, links=(*entry.links, path), content=body or entry.content)


def _aligned(position: int, start: int) -> int:
    return position + (start - position) % 4


def _checksum(body: bytes) -> int:
    return sum(body) & WORD


def _malformed(position: int, found: str) -> ArchiveError:
    return ArchiveError(f"cpio: malformed archive at offset {position}: {found}")
