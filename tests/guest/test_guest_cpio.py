"""The newc archive: what is written can be read, and nothing else is taken for an archive."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest.cpio import (
    ArchiveError,
    Directory,
    Entry,
    Fifo,
    File,
    Node,
    NodeKind,
    Socket,
    Symlink,
    read_archive,
    write_archive,
)
from pytest_flaky_repro.guest.entries import with_parents

HEADER = 110

words = st.integers(0, 2**32 - 1)
names = (
    st.binary(min_size=1, max_size=40)
    .filter(lambda raw: b"\0" not in raw and not raw.startswith(b"/") and raw != b"TRAILER!!!")
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
owners = st.fixed_dictionaries(
    {"mode": st.integers(0, 0o7777), "uid": words, "gid": words, "mtime": words}
)


def records(kind: type[Entry], *details: st.SearchStrategy[object]) -> st.SearchStrategy[Entry]:
    return st.builds(lambda path, owner, *rest: kind(path, *rest, **owner), names, owners, *details)


entries = st.one_of(
    records(Directory),
    records(Fifo),
    records(Socket),
    records(Symlink, names),
    records(Node, st.sampled_from(NodeKind), words, words),
    records(File, st.binary(max_size=50)),
    st.builds(
        lambda path, content, links: File(path, content, links=tuple(links)),
        names,
        st.binary(max_size=50),
        st.lists(names, min_size=1, max_size=3),
    ),
)
archives = st.lists(entries, max_size=6).map(write_archive)


@given(st.lists(entries, max_size=8))
def test_what_is_written_is_read_back(written: list[Entry]) -> None:
    assert read_archive(write_archive(written)) == tuple(written)


@given(archives)
def test_an_archive_fills_whole_blocks(archive: bytes) -> None:
    assert len(archive) % 512 == 0


@given(archives, st.data())
def test_a_shortened_archive_is_refused(archive: bytes, data: st.DataObject) -> None:
    whole = archive.rindex(b"TRAILER!!!\0") + len(b"TRAILER!!!\0")
    cut = data.draw(st.integers(0, whole - 1))
    with pytest.raises(ArchiveError):
        read_archive(archive[:cut])


@given(archives, st.data())
def test_damage_is_refused_or_read_but_never_another_error(
    archive: bytes, data: st.DataObject
) -> None:
    hostile = bytearray(archive)
    for _ in range(data.draw(st.integers(1, 4))):
        hostile[data.draw(st.integers(0, len(hostile) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_archive(bytes(hostile))
    except ArchiveError:
        return
    assert all(isinstance(entry, Entry) for entry in found)


@given(st.binary(max_size=300))
def test_noise_is_no_archive(noise: bytes) -> None:
    with pytest.raises(ArchiveError):
        read_archive(b"070701" + noise)


def test_hard_links_share_an_inode_and_the_last_carries_the_content() -> None:
    archive = write_archive([File("a", b"text", links=("b", "c")), Directory("d")])
    headers = [archive[at : at + HEADER] for at in _header_offsets(archive)]
    assert [int(h[6:14], 16) for h in headers] == [721, 721, 721, 722, 0]
    assert [int(h[38:46], 16) for h in headers[:3]] == [3, 3, 3]
    assert [int(h[54:62], 16) for h in headers[:3]] == [0, 0, 4]


def test_a_leading_slash_is_dropped() -> None:
    assert read_archive(write_archive([File("/init")])) == (File("init"),)


def test_a_link_target_may_lack_its_nul() -> None:
    # GNU cpio writes targets without one; gen_init_cpio with.
    archive = write_archive([Symlink("a", "bcd")])
    shorter = archive.replace(b"00000004", b"00000003", 1)
    assert read_archive(shorter) == (Symlink("a", "bcd"),)


def test_the_checksum_of_the_crc_variant_is_verified() -> None:
    archive = write_archive([File("a", b"\1\2")]).replace(b"070701", b"070702")
    field = slice(102, 110)
    right = archive[: field.start] + b"00000003" + archive[field.stop :]
    assert read_archive(right) == (File("a", b"\1\2"),)
    with pytest.raises(ArchiveError, match="checksum"):
        read_archive(archive)


def test_the_old_portable_format_is_refused_with_the_mend() -> None:
    with pytest.raises(ArchiveError, match="cpio -o -H newc"):
        read_archive(b"070707" + b"0" * 200)


def test_signs_and_underscores_are_no_hexadecimal_digits() -> None:
    archive = write_archive([File("a")])
    for forged in (b"+00002D1", b"0x0002D1", b"0000_2D1", b" 0002D1 "):
        with pytest.raises(ArchiveError, match="hexadecimal"):
            read_archive(archive.replace(b"000002D1", forged, 1))


def test_a_size_beyond_the_archive_is_refused() -> None:
    archive = write_archive([File("a", b"text")]).replace(b"00000004", b"FFFFFFFF", 1)
    with pytest.raises(ArchiveError, match="claims 4294967295 bytes"):
        read_archive(archive)


def test_bytes_behind_the_archive_are_refused() -> None:
    with pytest.raises(ArchiveError, match="after the end"):
        read_archive(write_archive([]) + b"x")


@pytest.mark.parametrize("path", ["", "/", "a\0b", "x" * 4096, "TRAILER!!!", "/TRAILER!!!"])
def test_a_path_that_the_format_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(ArchiveError):
        File(path)


def test_a_mode_with_type_bits_is_refused() -> None:
    with pytest.raises(UsageError, match="mode must be 0 to 4095"):
        File("a", mode=0o100644)


def test_a_number_that_the_format_cannot_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="uid must be 0 to 4294967295"):
        Directory("a", uid=2**32)


def test_parents_come_before_children_once() -> None:
    found = with_parents([File("/a/b/c"), File("a/d"), Directory("a", mode=0o700)])
    assert found == (Directory("a", mode=0o700), Directory("a/b"), File("a/b/c"), File("a/d"))


def test_of_two_entries_with_one_path_the_later_stays() -> None:
    assert with_parents([File("a", b"1"), File("a", b"2")]) == (File("a", b"2"),)


def _header_offsets(archive: bytes) -> list[int]:
    return [at for at in range(0, len(archive), 4) if archive[at : at + 6] == b"070701"]
