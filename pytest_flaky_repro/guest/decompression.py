"""One packed stream out of many bytes: what it holds, and where it ends.

The end matters because archives lie one behind the other. Formats that Python cannot unpack are
given to their own tool, after their end was found by walking their blocks.
"""

from __future__ import annotations

import bz2
import lzma
import shutil
import subprocess
import tempfile
import zlib
from typing import TYPE_CHECKING, Protocol

from pytest_flaky_repro.guest.entries import ArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1 << 30  # bytes; a few kilobytes of hostile input can claim to hold terabytes
_MEMORY = 1 << 28  # bytes; what an lzma dictionary may take

_LZ4_MAGIC = 0x184C2102
_ZSTD_MAGIC = 0xFD2FB528
_RLE = 1
_PACKAGES = {"zstd": "zstd", "lz4": "lz4", "lzo": "lzop"}


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def decompress(kind: str, data: bytes) -> tuple[bytes, int]:
    """What the stream at the start of `data` holds, and how many bytes it takes up.

    `kind` is gzip, bzip2, lzma, xz, zstd, lz4 (the old format) or lzo.

    Raises ArchiveError for damaged or oversized streams, and when the tool for it is missing.
    """
    if kind in _BY_PYTHON:
        return _by_python(_BY_PYTHON[kind](), data)
    size = _ENDS[kind](data) if kind in _ENDS else len(data)
    return _by_tool(_PACKAGES[kind], data[:size]), size


_BY_PYTHON: dict[str, Callable[[], _Decompressor]] = {
    "gzip": lambda: zlib.decompressobj(wbits=31),
    "bzip2": bz2.BZ2Decompressor,
    "lzma": lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MEMORY),
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY),
}


def _by_python(decompressor: _Decompressor, data: bytes) -> tuple[bytes, int]:
    try:
        plain = decompressor.decompress(data, LIMIT)
    except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError) as error:
        message = f"damaged: {error}"
        raise ArchiveError(message) from error
    if len(plain) >= LIMIT:
        raise _too_large()
    if not decompressor.eof:
        message = "cut short: the packed data ends in the middle"
        raise ArchiveError(message)
    return plain, len(data) - len(decompressor.unused_data)


def _by_tool(tool: str, data: bytes) -> bytes:
    program = shutil.which(tool)
    if program is None:
        message = f"listing it needs the program {tool}: apt-get install {tool}"
        raise ArchiveError(message)
    with tempfile.TemporaryFile() as packed, tempfile.TemporaryFile() as said:
        packed.write(data)
        packed.seek(0)
        with subprocess.Popen(
            [program, "-dc"], stdin=packed, stdout=subprocess.PIPE, stderr=said
        ) as process:
            plain = process.stdout.read(LIMIT) if process.stdout else b""
            if len(plain) >= LIMIT:
                process.kill()
                raise _too_large()
        if process.returncode != 0:
            said.seek(0)
            message = f"damaged: {tool} says {said.read(200).decode('utf-8', 'replace').strip()!r}"
            raise ArchiveError(message)
    return plain


def _zstd_size(data: bytes) -> int:
    """The length of a Zstandard frame (RFC 8878, section 3.1.1): header, blocks, checksum."""
    magic = int.from_bytes(data[:4], "little")
    if magic != _ZSTD_MAGIC:
        message = f"damaged: not a Zstandard frame (magic {magic:#x})"
        raise ArchiveError(message)
    descriptor = int.from_bytes(data[4:5], "little")
    single = descriptor >> 5 & 1
    position = 5 + (1 - single)  # the window descriptor
    position += (0, 1, 2, 4)[descriptor & 3]  # the dictionary's number
    position += (single, 2, 4, 8)[descriptor >> 6]  # the content's size
    last = 0
    while not last and position < len(data):
        block = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = block & 1, block >> 1 & 3, block >> 3
        position += 3 + (1 if kind == _RLE else size)
    position += 4 if descriptor >> 2 & 1 else 0
    if not last or position > len(data):
        message = "cut short: the packed data ends in the middle"
        raise ArchiveError(message)
    return position


def _lz4_size(data: bytes) -> int:
    """The length of an old-format lz4 stream: chunks, each with its length in front, to a zero."""
    magic = int.from_bytes(data[:4], "little")
    if magic != _LZ4_MAGIC:
        message = f"damaged: not an lz4 stream in the old format (magic {magic:#x})"
        raise ArchiveError(message)
    position = 4
    while position + 4 <= len(data):
        size = int.from_bytes(data[position : position + 4], "little")
        if size == 0:
            break
        position += 4 + (0 if size == _LZ4_MAGIC else size)
    return min(position, len(data))


_ENDS = {"zstd": _zstd_size, "lz4": _lz4_size}


def _too_large() -> ArchiveError:
    return ArchiveError(f"unpacks to more than {LIMIT >> 20} MiB, more than a guest can hold")
