"""Archives for --initrd: recognised, opened, and laid one over the other."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.guest.compression import Compression, contents, overlay, recognise, segments
from pytest_flaky_repro.guest.cpio import ArchiveError, Directory, File, write_archive

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENTRIES = (Directory("etc"), File("etc/motd", b"text\n" * 1000))
ARCHIVE = write_archive(ENTRIES)
OTHER = (File("late", hashlib.shake_256(b"late").digest(300_000)),)  # more than one block of zstd


def tool(*command: str) -> Callable[[bytes], bytes]:
    def pack(data: bytes) -> bytes:
        return subprocess.run(command, input=data, capture_output=True, check=True).stdout

    return pack


def tool_case(kind: Compression, *command: str) -> object:
    missing = pytest.mark.skipif(
        shutil.which(command[0]) is None, reason=f"{command[0]} is not installed"
    )
    return pytest.param(kind, tool(*command), marks=missing, id=" ".join(command))


def plain(data: bytes) -> bytes:
    return data


def xz_crc32(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32)


def lzma_alone(data: bytes) -> bytes:
    return lzma.compress(data, format=lzma.FORMAT_ALONE)


PACKINGS = [
    pytest.param(Compression.NONE, plain, id="plain"),
    pytest.param(Compression.GZIP, gzip.compress, id="gzip"),
    pytest.param(Compression.BZIP2, bz2.compress, id="bzip2"),
    pytest.param(Compression.XZ, xz_crc32, id="xz"),
    pytest.param(Compression.LZMA, lzma_alone, id="lzma"),
    tool_case(Compression.ZSTD, "zstd", "-c"),
    tool_case(Compression.ZSTD, "zstd", "-c", "--no-check", "-19"),
    tool_case(Compression.LZ4, "lz4", "-l", "-c"),
]


@pytest.mark.parametrize(("kind", "pack"), PACKINGS)
def test_a_packed_archive_is_listed(
    kind: Compression, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(pack(ARCHIVE))
    assert contents(path) == ENTRIES
    assert recognise(path.read_bytes(), "archive") is kind


@pytest.mark.parametrize(("kind", "pack"), PACKINGS)
def test_archives_laid_over_each_other_are_all_found(
    kind: Compression, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(pack(ARCHIVE))
    second.write_bytes(pack(write_archive(OTHER)))
    image = overlay(ARCHIVE, [first, second])
    assert list(segments(image, "image")) == [
        (Compression.NONE, ENTRIES),
        (kind, ENTRIES),
        (kind, OTHER),
    ]


@pytest.mark.parametrize(("kind", "pack"), PACKINGS)
def test_a_packed_archive_cut_short_is_refused(
    kind: Compression, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(pack(write_archive(OTHER))[:200_000])
    with pytest.raises(ArchiveError, match=f"{kind.value} archive at offset 0: "):
        contents(path)


def test_several_archives_packed_together_are_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(gzip.compress(ARCHIVE + bytes(512) + write_archive(OTHER)))
    assert contents(path) == ENTRIES + OTHER


def test_an_overlay_starts_at_a_multiple_of_four(tmp_path: Path) -> None:
    extra = tmp_path / "extra"
    extra.write_bytes(ARCHIVE)
    assert overlay(b"abc", [extra]) == b"abc\0" + ARCHIVE


def test_a_plain_archive_that_the_kernel_would_not_see_is_refused() -> None:
    with pytest.raises(ArchiveError, match="multiple of 4"):
        list(segments(b"\0" + ARCHIVE, "image"))


def test_xz_with_a_check_that_the_kernel_lacks_is_refused_with_the_mend(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(lzma.compress(ARCHIVE))
    with pytest.raises(ArchiveError, match=r"archive: .*xz --check=crc32"):
        overlay(b"", [path])


def test_lz4_in_its_new_format_is_refused_with_the_mend() -> None:
    with pytest.raises(ArchiveError, match="lz4 -l"):
        recognise(b"\x04\x22\x4d\x18rest", "archive")


def test_a_packing_without_its_tool_says_which_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "archive"
    path.write_bytes(b"\x89LZO\0\r\n\x1a\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArchiveError, match="apt-get install lzop"):
        contents(path)


def test_what_is_no_archive_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "kernel"
    path.write_bytes(b"MZ not an archive")
    with pytest.raises(ArchiveError, match=r"kernel: expected a newc cpio archive.*b'MZ not a'"):
        overlay(ARCHIVE, [path])


@pytest.mark.parametrize("content", [b"", bytes(512)])
def test_an_empty_file_is_no_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "empty"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match="the file is empty"):
        overlay(ARCHIVE, [path])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"gone: No such file"):
        contents(tmp_path / "gone")


def test_the_kernel_option_is_named() -> None:
    assert Compression.ZSTD.option == "CONFIG_RD_ZSTD"
    assert Compression.NONE.option is None


@given(st.sampled_from([plain, gzip.compress, bz2.compress, xz_crc32, lzma_alone]), st.data())
def test_damage_is_refused_or_read_but_never_another_error(
    pack: Callable[[bytes], bytes], data: st.DataObject
) -> None:
    hostile = bytearray(pack(ARCHIVE))
    for _ in range(data.draw(st.integers(1, 3))):
        hostile[data.draw(st.integers(0, len(hostile) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = [entry for _, entries in segments(bytes(hostile), "hostile") for entry in entries]
    except ArchiveError:
        return
    assert len(found) <= len(ENTRIES)
