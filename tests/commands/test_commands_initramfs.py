"""``flaky-repro initramfs``: the archive of a list, to a file or to standard output."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.guest.cpio import write_archive
from pytest_flaky_repro.guest.listing import read_listing

Start = Callable[..., "subprocess.Popen[bytes]"]
LIST = """\
dir /dev 0755 0 0
nod /dev/console 0600 0 0 c 5 1
file /init ${SOURCE} 0755 0 0
slink /bin init 0777 0 0
"""


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    source = tmp_path / "init"
    source.write_bytes(b"#!/bin/sh\n" * 2000)
    monkeypatch.setenv("SOURCE", str(source))
    path = tmp_path / "list"
    path.write_text(LIST)
    return path


@pytest.mark.parametrize("option", ["-o", "--output"])
def test_a_file_holds_the_archive_of_the_list(
    command: Callable[..., Any], listing: Path, tmp_path: Path, option: str
) -> None:
    ran = command("initramfs", listing, option, "out.cpio")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert (tmp_path / "out.cpio").read_bytes() == write_archive(read_listing(listing))


def test_standard_output_gets_the_same_bytes(start: Start, listing: Path) -> None:
    process = start("initramfs", listing)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert out == write_archive(read_listing(listing))


def test_a_time_stamp_goes_to_what_has_none(
    command: Callable[..., Any], listing: Path, tmp_path: Path
) -> None:
    assert command("initramfs", listing, "-o", "out.cpio", "-t", "1700000000").status == 0
    expected = write_archive(read_listing(listing, mtime=1_700_000_000))
    assert (tmp_path / "out.cpio").read_bytes() == expected


def test_a_terminal_is_spared(start: Start, listing: Path) -> None:
    leader, terminal = pty.openpty()
    try:
        process = start("initramfs", listing, stdout=terminal)
        _, err = process.communicate(timeout=60)
    finally:
        os.close(terminal)
        os.close(leader)
    assert process.returncode == 2
    assert b"does not go to a terminal: name a file with -o FILE" in err


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("nowhere/out", "No such file or directory"),
        (".", "Is a directory"),
        ("/dev/full", "No space left on device"),
    ],
)
def test_an_output_that_cannot_be_written_is_named(
    command: Callable[..., Any], listing: Path, output: str, reason: str
) -> None:
    ran = command("initramfs", listing, "-o", output)
    assert ran.status == 2
    assert ran.err == f"flaky-repro initramfs: -o {output}: cannot be written: {reason}\n"


def test_a_full_standard_output_is_an_error(start: Start, listing: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        process = start("initramfs", listing, stdout=full.fileno())
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err == b"flaky-repro initramfs: No space left on device\n"


def test_a_list_that_is_not_there_is_bad_input(command: Callable[..., Any]) -> None:
    ran = command("initramfs", "nowhere")
    assert ran.status == 2
    assert "nowhere: cannot read the initramfs list: No such file or directory" in ran.err


def test_a_bad_line_is_named_and_nothing_is_written(
    command: Callable[..., Any], listing: Path, tmp_path: Path
) -> None:
    listing.write_text("dir /a 0755 0 0\nfolder /b 0755 0 0\n")
    ran = command("initramfs", "list", "-o", "out.cpio")
    assert ran.status == 2
    assert "flaky-repro initramfs: list:2: " in ran.err
    assert not (tmp_path / "out.cpio").exists()


@pytest.mark.parametrize("stamp", ["x", "1.5", "-1", "4294967296"])
def test_a_bad_time_stamp_is_bad_input(
    command: Callable[..., Any], listing: Path, stamp: str
) -> None:
    ran = command("initramfs", listing, f"-t={stamp}", "-o", "out.cpio")
    assert ran.status == 2
    assert "mtime" in ran.err
    assert stamp in ran.err
