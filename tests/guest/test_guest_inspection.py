"""Would the kernel start it? Programs and scripts looked up in the archive they came with."""

from __future__ import annotations

import subprocess

import pytest

from pytest_flaky_repro.guest.entries import Directory, Entry, File, Symlink
from pytest_flaky_repro.guest.inspection import Tree, is_script, unstartable


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A static and a dynamic program, built here."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "a.c").write_text("int main(void) { return 0; }\n")
    for name, flags in {"static": ["-static"], "dynamic": []}.items():
        subprocess.run(["cc", *flags, "-o", folder / name, folder / "a.c"], check=True)
    return {name: (folder / name).read_bytes() for name in ("static", "dynamic")}


def program(path: str, content: bytes, mode: int = 0o755) -> File:
    return File(path, content, mode=mode)


def why(*entries: Entry, path: str = "init") -> str:
    fault = unstartable(Tree(entries), path)
    return fault.why if fault is not None else ""


def test_a_static_program_starts(programs: dict[str, bytes]) -> None:
    assert why(program("init", programs["static"])) == ""


def test_it_starts_through_links_to_folders_and_files(programs: dict[str, bytes]) -> None:
    assert (
        why(
            Symlink("init", "sbin/init"),
            Symlink("sbin", "/usr/bin"),
            Symlink("usr/bin/init", "../bin/busybox"),
            program("usr/bin/busybox", programs["static"]),
        )
        == ""
    )


def test_it_starts_under_a_hard_link(programs: dict[str, bytes]) -> None:
    assert why(File("bin/busybox", programs["static"], mode=0o755, links=("init",))) == ""


def test_a_later_entry_wins(programs: dict[str, bytes]) -> None:
    assert why(program("init", b""), program("./init", programs["static"])) == ""


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ((), "/init is missing"),
        ((Symlink("init", "nowhere"),), "/init links to nowhere, which is not in the archive"),
        ((Symlink("init", "init"),), "/init links to init"),
        ((Directory("init"),), "/init is a directory"),
        ((program("init", b"\x7fELF", 0o600),), "not executable (mode 0600): error -13"),
        ((program("init", b""),), "/init is empty"),
        ((program("init", b"echo hello\n"),), "neither an ELF program nor a script"),
        ((program("init", b"#!/bin/sh\r\n"),), "CR LF"),
        ((program("init", b"#!/bin/sh\n"),), "wants the interpreter /bin/sh"),
        ((program("init", b"#!"),), "wants the interpreter (none)"),
        ((program("init", b"\x7fELF" + bytes(100)),), "this is 32-bit"),
    ],
)
def test_what_does_not_start_is_said_in_the_kernel_s_terms(
    entries: tuple[Entry, ...], said: str
) -> None:
    assert said in why(*entries)


def test_a_script_with_its_interpreter_starts(programs: dict[str, bytes]) -> None:
    entries = (program("init", b"#! /bin/sh -e\n"), program("bin/sh", programs["static"]))
    assert why(*entries) == ""
    assert is_script(Tree(entries), "init")
    assert not is_script(Tree(entries), "bin/sh")


def test_a_dynamic_program_needs_its_loader_and_its_libraries(programs: dict[str, bytes]) -> None:
    init = program("init", programs["dynamic"])
    loader = program("lib64/ld-linux-x86-64.so.2", b"\x7fELF")
    libc = program("lib/x86_64-linux-gnu/libc.so.6", b"\x7fELF")
    assert "its loader /lib64/ld-linux-x86-64.so.2 is not in the archive" in why(init)
    assert "needs libc.so.6, not in the archive" in why(init, loader)
    assert why(init, loader, libc) == ""


def test_the_names_at_the_root_are_listed() -> None:
    tree = Tree([Directory("dev"), File("etc/motd", b""), File("init", b"")])
    assert tree.tops() == ["dev/", "etc/", "init"]


def test_programs_are_told_from_other_files() -> None:
    tree = Tree([program("a", b"\x7fELF"), program("b", b"#!/x"), program("c", b"text")])
    assert set(tree.programs()) == {"a", "b"}
