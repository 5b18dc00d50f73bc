"""ELF files: for the right machine, and with the libraries they need; nothing of them is run."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import elf, libraries
from pytest_flaky_repro.guest.cpio import File, Symlink

LOADER = "/lib64/ld-linux-x86-64.so.2"
SHELL = Path("/bin/sh").resolve()


def build(folder: Path, name: str, code: str, *flags: str) -> Path:
    """A program or library compiled from `code` in `folder`."""
    (folder / f"{name}.c").write_text(code)
    subprocess.run(["gcc", "-o", name, f"{name}.c", *flags], cwd=folder, check=True)
    return folder / name


def read(path: Path) -> elf.Elf:
    return elf.read(path, path.read_bytes())


@pytest.fixture
def with_library(tmp_path: Path) -> Path:
    """A program that finds libplug.so beside itself, by $ORIGIN."""
    build(tmp_path, "libplug.so", "int plug(void) { return 0; }", "-shared", "-fPIC")
    code = "int plug(void); int main(void) { return plug(); }"
    return build(tmp_path, "program", code, "-L.", "-lplug", "-Wl,-rpath,$ORIGIN")


def test_a_static_program_needs_nothing(tmp_path: Path) -> None:
    program = read(build(tmp_path, "program", "int main(void) { return 0; }", "-static"))
    assert program.interpreter is None
    assert program.starts
    assert libraries.entries_for(program, {}) == ()


def test_a_dynamic_program_names_its_loader_and_libraries(with_library: Path) -> None:
    program = read(with_library)
    assert program.interpreter == LOADER
    assert program.needed == ("libplug.so", "libc.so.6")
    assert program.runpath == ("$ORIGIN",)


def test_sections_are_not_believed(with_library: Path) -> None:
    lying = bytearray(with_library.read_bytes())
    (sections,) = struct.unpack_from("<Q", lying, 0x28)
    lying[sections:] = b"\xff" * len(lying[sections:])
    assert elf.read(with_library, bytes(lying)) == read(with_library)


def test_loader_and_libraries_go_where_the_guests_loader_looks(with_library: Path) -> None:
    found = {entry.path: entry for entry in libraries.entries_for(read(with_library), {})}
    home = str(with_library.parent.resolve()).lstrip("/")
    loader, library = found[LOADER.lstrip("/")], found[f"{home}/libplug.so"]
    assert isinstance(loader, File)
    assert loader.content == Path(LOADER).read_bytes()
    assert isinstance(library, File)
    assert library.content == (with_library.parent / "libplug.so").read_bytes()
    assert found["lib/libplug.so"] == Symlink("lib/libplug.so", f"/{home}/libplug.so")
    assert any(path.endswith("/libc.so.6") for path in found)


@pytest.mark.parametrize("path", [SHELL, Path("/usr/bin/gcc"), Path(sys.executable).resolve()])
def test_the_loader_and_the_search_agree(path: Path) -> None:
    program = read(path)
    asked = libraries.ask_loader(program, os.environ)
    assert asked is not None
    searched = libraries.search(program, os.environ)
    assert {library.path.resolve() for library in asked} == {
        library.path.resolve() for library in searched
    }


def test_a_library_is_found_through_the_callers_search_path(tmp_path: Path) -> None:
    (tmp_path / "plugs").mkdir()
    build(tmp_path / "plugs", "libplug.so", "int plug(void) { return 0; }", "-shared", "-fPIC")
    code = "int plug(void); int main(void) { return plug(); }"
    program = read(build(tmp_path, "program", code, "-Lplugs", "-lplug"))
    found = libraries.find(program, {"LD_LIBRARY_PATH": str(tmp_path / "plugs")})
    assert tmp_path / "plugs" / "libplug.so" in [library.path for library in found]


def test_a_missing_library_is_named_with_the_program_and_the_mend(with_library: Path) -> None:
    (with_library.parent / "libplug.so").unlink()
    with pytest.raises(UsageError) as caught:
        libraries.entries_for(read(with_library), {})
    assert str(caught.value).startswith(f"{with_library}: ")
    assert "not found: libplug.so." in str(caught.value)
    assert "-static" in str(caught.value)


def test_a_missing_library_of_a_library_names_who_asked(tmp_path: Path) -> None:
    build(tmp_path, "libdeep.so", "int deep(void) { return 0; }", "-shared", "-fPIC")
    code = "int deep(void); int plug(void) { return deep(); }"
    build(tmp_path, "libplug.so", code, "-shared", "-fPIC", "-L.", "-ldeep")
    code = "int plug(void); int main(void) { return plug(); }"
    flags = ("-L.", "-lplug", "-Wl,-rpath,$ORIGIN", "-Wl,--allow-shlib-undefined")
    program = read(build(tmp_path, "program", code, *flags))
    (tmp_path / "libdeep.so").unlink()
    with pytest.raises(UsageError, match=r"libdeep\.so \(needed by .*/libplug\.so\)"):
        libraries.find(program, {})


def test_a_missing_loader_is_named(tmp_path: Path) -> None:
    flags = ("-Wl,--dynamic-linker=/lib/ld-gone.so.9",)
    program = read(build(tmp_path, "program", "int main(void) { return 0; }", *flags))
    with pytest.raises(UsageError, match=r"its loader /lib/ld-gone\.so\.9 is not on this machine"):
        libraries.entries_for(program, {})


def test_a_loader_of_the_programs_own_is_not_run(tmp_path: Path) -> None:
    trap = tmp_path / "ld-trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    flags = (f"-Wl,--dynamic-linker={trap}",)
    program = read(build(tmp_path, "program", "int main(void) { return 0; }", *flags))
    assert "libc.so.6" in [library.name for library in libraries.find(program, {})]
    assert not (tmp_path / "sprung").exists()


def test_a_program_with_audit_modules_is_not_shown_to_the_loader(tmp_path: Path) -> None:
    # glibc loads and starts these modules even when it is only asked to list libraries.
    code = f"""#include <stdlib.h>
        __attribute__((constructor)) void go(void) {{ system("touch {tmp_path}/sprung"); }}
        unsigned la_version(unsigned v) {{ return v; }}"""
    trap = build(tmp_path, "trap.so", code, "-shared", "-fPIC")
    flags = (f"-Wl,--audit={trap}",)
    program = read(build(tmp_path, "program", "int main(void) { return 0; }", *flags))
    assert program.audited
    assert "libc.so.6" in [library.name for library in libraries.find(program, {})]
    assert not (tmp_path / "sprung").exists()
    subprocess.run([LOADER, "--list", tmp_path / "program"], capture_output=True, check=True)
    assert (tmp_path / "sprung").exists(), "the trap would not have sprung: this proves nothing"


def test_a_list_with_a_hole_is_no_answer() -> None:
    whole = (
        b"\tlinux-vdso.so.1 (0x00007fff)\n"
        b"\tlibm.so.6 => /lib/libm.so.6 (0x00007f01)\n"
        b"\t/opt/libplug.so (0x00007f02)\n"
        b"\t/lib64/ld-linux-x86-64.so.2 (0x00007f03)\n"
    )
    found = libraries.parse_list(whole)
    assert found is not None
    assert [library.name for library in found] == ["libm.so.6", "/opt/libplug.so", LOADER]
    assert libraries.parse_list(whole + b"\tlibgone.so => not found\n") is None


@pytest.mark.parametrize(
    ("machine", "bits", "said"),
    [(183, 64, "64-bit AArch64"), (3, 32, "32-bit Intel 80386"), (62, 32, "32-bit")],
)
def test_a_program_for_another_machine_is_refused(machine: int, bits: int, said: str) -> None:
    content = bytearray(SHELL.read_bytes())
    struct.pack_into("<H", content, 18, machine)
    content[4] = bits // 32
    with pytest.raises(UsageError, match=f"expected a 64-bit x86-64 program, this is {said}"):
        elf.read(SHELL, bytes(content))


def test_a_big_endian_program_is_refused() -> None:
    content = b"\x7fELF\x02\x02\x01".ljust(16, b"\0") + struct.pack(">HH", 2, 22).ljust(48, b"\0")
    with pytest.raises(UsageError, match="this is 64-bit IBM S/390"):
        elf.read(Path("program"), content)


def test_an_object_file_is_refused(tmp_path: Path) -> None:
    path = build(tmp_path, "program.o", "int main(void) { return 0; }", "-c")
    with pytest.raises(UsageError, match="this is ET_REL: an object or core file"):
        read(path)


def test_a_library_does_not_start(with_library: Path) -> None:
    assert not read(with_library.parent / "libplug.so").starts


CONTENT = SHELL.read_bytes()
HEADERS = 64 + 56 * struct.unpack_from("<H", CONTENT, 0x38)[0]


@given(st.integers(0, len(CONTENT) - 1))
def test_a_shortened_file_is_refused_or_read_but_never_another_error(size: int) -> None:
    try:
        assert elf.read(SHELL, CONTENT[:size]).path == SHELL
    except UsageError as error:
        assert str(error).startswith(str(SHELL))  # noqa: PT017  # both are right


@given(st.lists(st.tuples(st.integers(16, HEADERS - 1), st.integers(0, 255)), min_size=1))
def test_damaged_headers_are_refused_or_read_but_never_another_error(
    damage: list[tuple[int, int]],
) -> None:
    hostile = bytearray(CONTENT)
    for place, value in damage:
        hostile[place] = value
    try:
        assert elf.read(SHELL, bytes(hostile)).path == SHELL
    except UsageError as error:
        assert str(error).startswith(str(SHELL))  # noqa: PT017  # both are right
