"""What a user may call a kernel: the message says what the file is instead."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.kernel_image import read_kernel

SETUP = 0x268


def header(**changes: int) -> bytes:
    """A boot header (Documentation/arch/x86/boot.rst) that passes, with bytes changed."""
    image = bytearray(512 * 5 + 16)
    image[0x1F1] = 4  # setup_sects
    image[0x1F4:0x1F8] = (1).to_bytes(4, "little")  # syssize, in 16-byte paragraphs
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = (0x20F).to_bytes(2, "little")
    image[0x236] = 1
    for place, value in changes.items():
        image[int(place[3:], 16)] = value
    return bytes(image)


CASES = {
    "empty": (b"", "it is empty"),
    "vmlinux": (b"\x7fELF" + bytes(1000), "it is an ELF file"),
    "vmlinuz.gz": (b"\x1f\x8b" + bytes(1000), "it is a gzip file"),
    "arm64": (bytes(0x38) + b"ARM\x64" + bytes(1000), "it is an arm64 Image"),
    "text": (b"#!/bin/sh\n" * 100, "it has no Linux boot header"),
    "short": (header()[: SETUP - 1], "it has no Linux boot header"),
    "old": (header(at_206=0x0B, at_207=0x02), "its boot protocol is 2.11"),
    "32-bit": (header(at_236=0), "it is a 32-bit kernel"),
    "cut": (header()[:-1], "it is cut short"),
}


@pytest.mark.parametrize("kind", CASES)
def test_what_is_no_bzimage_is_named(kind: str, tmp_path: Path) -> None:
    content, said = CASES[kind]
    (tmp_path / kind).write_bytes(content)
    with pytest.raises(UsageError, match=rf"--kernel: .*{kind} is not a bzImage.*: {said}"):
        read_kernel(tmp_path / kind)


def test_the_smallest_good_header_passes(tmp_path: Path) -> None:
    """Without this the table above could fail for any other reason."""
    (tmp_path / "bzImage").write_bytes(header())
    assert read_kernel(tmp_path / "bzImage").banner == ""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--kernel: .*bzImage: no such file"):
        read_kernel(tmp_path / "bzImage")


def test_a_folder_is_no_kernel(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_kernel(tmp_path)


def test_a_real_kernel_is_read_with_its_banner(bare_kernel: Path) -> None:
    image = read_kernel(bare_kernel)
    assert image.sha256 == hashlib.sha256(bare_kernel.read_bytes()).hexdigest()
    assert image.banner.startswith("6.1.")


def test_a_real_kernel_that_was_cut_is_refused(bare_kernel: Path, tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(bare_kernel.read_bytes()[:-4096])
    with pytest.raises(UsageError, match="cut short"):
        read_kernel(tmp_path / "bzImage")
