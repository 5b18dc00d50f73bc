"""Archives given with --initrd: recognised, laid over ours, and opened so they can be listed.

The kernel unpacks what lies one behind the other by itself: plain archives at multiples of four,
compressed ones anywhere, zeros between (init/initramfs.c, unpack_to_rootfs). So to lay over is to
append. The magic numbers are those of lib/decompress.c.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from pytest_flaky_repro.guest import decompression
from pytest_flaky_repro.guest.cpio import ArchiveError, Entry, read_segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_ALIGNMENT = 4
_XZ_CHECK = 7  # where the first stream says how it is checked; the kernel knows 0 and 1 (CRC32)
_XZ_CRC32 = 1
_LZ4_FRAME = b"\x04\x22\x4d\x18"


class Compression(enum.Enum):
    """How an archive is packed; the value is the word the kernel uses for it."""

    NONE = "none"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    LZMA = "lzma"
    XZ = "xz"
    LZO = "lzo"
    LZ4 = "lz4"
    ZSTD = "zstd"

    @property
    def option(self) -> str | None:
        """The kernel option that unpacks it; a plain archive needs none."""
        return None if self is Compression.NONE else f"CONFIG_RD_{self.name}"


_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"BZ": Compression.BZIP2,
    b"\x5d\x00": Compression.LZMA,
    b"\xfd7": Compression.XZ,
    b"\x89L": Compression.LZO,
    b"\x02!": Compression.LZ4,
    b"(\xb5": Compression.ZSTD,
    b"07": Compression.NONE,
}


def recognise(data: bytes, name: str) -> Compression:
    """How the archive that begins with `data` is packed.

    Raises ArchiveError, with `name` in front, for what no kernel unpacks.
    """
    found = _MAGIC.get(data[:2])
    if found is Compression.XZ and len(data) > _XZ_CHECK and data[_XZ_CHECK] > _XZ_CRC32:
        message = f"{name}: the kernel reads xz only with CRC32: pack it with xz --check=crc32"
        raise ArchiveError(message)
    if found is not None:
        return found
    if data.startswith(_LZ4_FRAME):
        message = f"{name}: the kernel reads lz4 only in its old format: pack it with lz4 -l"
        raise ArchiveError(message)
    message = (
        f"{name}: expected a newc cpio archive, plain or packed with"
        f" {', '.join(c.value for c in Compression if c.option)}; it begins with {data[:8]!r}"
    )
    raise ArchiveError(message)


def overlay(base: bytes, extra: Sequence[Path]) -> bytes:
    """`base` with the archives in `extra` behind it; of two files with one name the later wins.

    Raises ArchiveError for a file that cannot be read or is no archive. What is inside is not
    looked at; `contents` does that.
    """
    image = bytearray(base)
    for path in extra:
        data = _read(path)
        packed = recognise(data.lstrip(b"\0"), str(path))
        image += bytes(-len(image) % _ALIGNMENT)
        image += data
        # The kernel takes whatever follows lz4 for its next chunk, until one of length zero.
        image += bytes(_ALIGNMENT) if packed is Compression.LZ4 else b""
    image += bytes(-len(image) % _ALIGNMENT)
    return bytes(image)


def contents(path: Path) -> tuple[Entry, ...]:
    """All entries of the archive file at `path`, of every archive in it, in order.

    Raises ArchiveError for anything that a kernel would not unpack, and for packings that need a
    tool this machine has not.
    """
    return tuple(entry for _, entries in segments(_read(path), str(path)) for entry in entries)


def segments(data: bytes, name: str) -> Iterator[tuple[Compression, tuple[Entry, ...]]]:
    """Each archive in `data`, with how it was packed; `name` is for messages."""
    position = _past_zeros(data, 0)
    while position < len(data):
        packed = recognise(data[position : position + 8], f"{name} at offset {position}")
        try:
            if packed is Compression.NONE:
                entries, end = _plain(data, position)
            else:
                plain, used = decompression.decompress(packed.value, data[position:])
                entries, end = _all_plain(plain), position + used
        except ArchiveError as error:
            message = f"{name}: {packed.value} archive at offset {position}: {error}"
            raise ArchiveError(message) from error
        yield packed, entries
        position = _past_zeros(data, end)


def _plain(data: bytes, position: int) -> tuple[tuple[Entry, ...], int]:
    if position % _ALIGNMENT:
        message = f"the kernel wants a plain archive at a multiple of {_ALIGNMENT}: pad with zeros"
        raise ArchiveError(message)
    return read_segment(data, position)


def _all_plain(data: bytes) -> tuple[Entry, ...]:
    """What was packed together: any number of plain archives."""
    entries: list[Entry] = []
    position = _past_zeros(data, 0)
    while position < len(data):
        found, position = _plain(data, position)
        entries += found
        position = _past_zeros(data, position)
    return tuple(entries)


def _past_zeros(data: bytes, position: int) -> int:
    while position < len(data) and not data[position]:
        step = data[position : position + 4096]
        position += len(step) - len(step.lstrip(b"\0"))
    return position


def _read(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot read the archive {path}: {error.strerror}"
        raise ArchiveError(message) from error
    if not data.strip(b"\0"):
        message = f"{path}: expected an initramfs archive, the file is empty"
        raise ArchiveError(message)
    return data
