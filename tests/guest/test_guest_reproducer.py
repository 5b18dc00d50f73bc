"""From what the user calls a reproducer to files in the guest and the words that start it."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import elf, shell
from pytest_flaky_repro.guest.cpio import Directory, Entry, Fifo, File, Socket, Symlink
from pytest_flaky_repro.guest.reproducer import CompileError, Payload, prepare

SURVIVES = "int main(void) { return 0; }"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def write(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def build(path: Path, *flags: str, code: str = SURVIVES) -> Path:
    command = ["gcc", "-x", "c", "-", "-o", str(path), *flags]
    subprocess.run(command, input=code.encode(), check=True)
    return path


def by_path(payload: Payload) -> dict[str, Entry]:
    return {entry.path: entry for entry in payload.files}


# --- programs ------------------------------------------------------------------------------


def test_a_static_program_comes_alone(tmp_path: Path, cache: Path) -> None:
    program = build(tmp_path / "crasher", "-static")
    payload = prepare(program, cache=cache)
    assert payload.argv == ("/repro/crasher",)
    content = program.read_bytes()
    assert payload.files == (Directory("repro"), File("repro/crasher", content, mode=0o755))


def test_a_dynamic_program_brings_loader_and_libraries(tmp_path: Path, cache: Path) -> None:
    payload = prepare(build(tmp_path / "crasher"), cache=cache)
    names = {Path(path).name for path in by_path(payload)}
    assert {"crasher", "ld-linux-x86-64.so.2", "libc.so.6"} <= names


def test_threads_of_a_dynamic_program_can_end(tmp_path: Path, cache: Path) -> None:
    # glibc opens libgcc_s by itself in pthread_exit and aborts if it is not there.
    payload = prepare(build(tmp_path / "crasher"), cache=cache)
    assert "libgcc_s.so.1" in {Path(path).name for path in by_path(payload)}


def test_directories_come_before_what_is_in_them(tmp_path: Path, cache: Path) -> None:
    payload = prepare(build(tmp_path / "crasher"), cache=cache)
    seen = {""}
    for entry in payload.files:
        assert str(Path(entry.path).parent).removeprefix(".") in seen
        seen.add(entry.path)


def test_no_kind_of_reproducer_is_run_on_the_host(tmp_path: Path, cache: Path) -> None:
    trace = tmp_path / "trace"
    code = f'#include <stdio.h>\nint main(void) {{ return !fopen("{trace}", "w"); }}'
    build(tmp_path / "dynamic", code=code)
    build(tmp_path / "static", "-static", code=code)
    write(tmp_path / "source.c", code)
    write(tmp_path / "script", f"#!/bin/sh\ntouch {trace}\n")
    write(tmp_path / "folder" / "run", f"#!/bin/sh\ntouch {trace}\n")
    for name in ("dynamic", "static", "source.c", "script", "folder"):
        prepare(tmp_path / name, cache=cache)
        assert not trace.exists()


def test_a_program_without_its_library_is_refused(tmp_path: Path, cache: Path) -> None:
    library = build(tmp_path / "libplug.so", "-shared", "-fPIC", code="int plug;")
    flags = (f"-L{tmp_path}", "-Wl,--no-as-needed", "-lplug")
    program = build(tmp_path / "crasher", *flags)
    library.unlink()
    with pytest.raises(UsageError, match=r"crasher: .* not found: .*libplug\.so"):
        prepare(program, cache=cache)


def test_a_program_for_another_machine_is_refused(tmp_path: Path, cache: Path) -> None:
    program = build(tmp_path / "crasher", "-static")
    content = bytearray(program.read_bytes())
    struct.pack_into("<H", content, 18, 183)
    program.write_bytes(content)
    with pytest.raises(UsageError, match=r"crasher: expected a 64-bit x86-64.*AArch64"):
        prepare(program, cache=cache)


def test_a_shared_library_is_refused(tmp_path: Path, cache: Path) -> None:
    library = build(tmp_path / "lib.so", "-shared", "-fPIC", code="int plug;")
    with pytest.raises(UsageError, match="this is a shared library"):
        prepare(library, cache=cache)


def test_a_file_that_is_not_executable_is_refused_with_the_mend(
    tmp_path: Path, cache: Path
) -> None:
    program = build(tmp_path / "crasher", "-static")
    program.chmod(0o644)
    with pytest.raises(UsageError) as caught:
        prepare(program, cache=cache)
    assert str(caught.value).endswith(f"chmod +x {program}")


def test_a_missing_file_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"gone: No such file or directory; expected an ELF"):
        prepare(tmp_path / "gone", cache=cache)


def test_anything_else_is_refused_with_what_is_accepted(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match=r"notes: expected an ELF program, a \.c file, a script"):
        prepare(write(tmp_path / "notes", "hello"), cache=cache)


def test_go_source_is_refused_with_the_command_that_builds_it(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match="CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build"):
        prepare(write(tmp_path / "crasher.go", "package main"), cache=cache)


# --- C -------------------------------------------------------------------------------------


def test_a_c_file_becomes_a_static_program(tmp_path: Path, cache: Path) -> None:
    payload = prepare(write(tmp_path / "crasher.c", SURVIVES, 0o644), cache=cache)
    assert payload.argv == ("/repro/crasher",)
    program = by_path(payload)["repro/crasher"]
    assert isinstance(program, File)
    assert elf.read(Path("crasher"), program.content).interpreter is None


def test_what_the_compiler_says_is_shown_in_full(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "crasher.c", "int main(void) { return missing; }\nint x = y;\n")
    with pytest.raises(CompileError) as caught:
        prepare(source, cache=cache)
    assert "crasher.c:1:25: error: " in str(caught.value)
    assert "crasher.c:2:9: error:" in str(caught.value)


def test_further_flags_reach_the_compiler(tmp_path: Path, cache: Path) -> None:
    source = write(
        tmp_path / "crasher.c",
        "#include <math.h>\nint main(int n, char **v) { return (int)lgamma(n + VALUE); }\n",
    )
    with pytest.raises(CompileError, match="VALUE"):
        prepare(source, cache=cache)
    one = prepare(source, cache=cache, cflags=("-DVALUE=1", "-lm"))
    two = prepare(source, cache=cache, cflags=("-DVALUE=2", "-lm"))
    assert one.digest != two.digest


def test_a_static_library_that_is_missing_is_explained(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "crasher.c", SURVIVES)
    with pytest.raises(CompileError, match=r"static library \(\.a\) is missing"):
        prepare(source, cache=cache, cflags=("-lnosuchlibrary",))


def test_the_compiler_named_in_cc_is_used(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "crasher.c", "int main(void) { return VALUE; }\n")
    environment = {**os.environ, "CC": "gcc -DVALUE=7"}
    assert prepare(source, cache=cache, environment=environment).argv == ("/repro/crasher",)


def test_a_compiler_that_is_not_there_is_named_with_the_mend(tmp_path: Path, cache: Path) -> None:
    source = write(tmp_path / "crasher.c", SURVIVES)
    environment = {**os.environ, "CC": "nosuchcc"}
    with pytest.raises(CompileError, match=r"'nosuchcc' does not start.*apt-get install gcc"):
        prepare(source, cache=cache, environment=environment)


def test_a_compiled_program_is_kept_until_source_or_header_changes(
    tmp_path: Path, cache: Path
) -> None:
    header = write(tmp_path / "value.h", "#define VALUE 1\n")
    source = write(tmp_path / "crasher.c", '#include "value.h"\nint main(void) { return VALUE; }')
    first = prepare(source, cache=cache)
    kept = [path for path in cache.rglob("*") if path.is_file()]
    assert prepare(source, cache=cache) == first
    assert [path for path in cache.rglob("*") if path.is_file()] == kept
    write(header, "#define VALUE 2\n")
    assert prepare(source, cache=cache).digest != first.digest


def test_a_program_does_not_depend_on_where_its_source_lies(tmp_path: Path) -> None:
    code = "#include <assert.h>\nint main(int n, char **v) { assert(n == 1); return 0; }"
    digests = {
        prepare(write(tmp_path / name / "crasher.c", code), cache=tmp_path / name / "kept").digest
        for name in ("here", "there")
    }
    assert len(digests) == 1


# --- scripts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("#!/bin/sh", ("/bin/sh", "/repro/script")),
        ("#!/bin/sh -eu", ("/bin/sh", "-eu", "/repro/script")),
        ("#! /bin/sh -e -u ", ("/bin/sh", "-e -u", "/repro/script")),
        ("#!/usr/bin/env sh", ("/bin/sh", "/repro/script")),
        ("#!/usr/bin/env -S sh -e -u", ("/bin/sh", "-e", "-u", "/repro/script")),
    ],
)
def test_a_script_is_started_through_its_interpreter(
    tmp_path: Path, cache: Path, line: str, argv: tuple[str, ...]
) -> None:
    payload = prepare(write(tmp_path / "script", f"{line}\nexit 0\n"), cache=cache)
    assert payload.argv == argv


def test_a_shell_script_brings_busybox_and_its_commands(tmp_path: Path, cache: Path) -> None:
    found = by_path(prepare(write(tmp_path / "crasher.sh", "exit 0\n"), cache=cache))
    assert found["bin/sh"] == Symlink("bin/sh", "busybox")
    assert found["bin/sleep"] == Symlink("bin/sleep", "busybox")
    assert isinstance(found["bin/busybox"], File)


def test_another_interpreter_is_brought_with_its_libraries(tmp_path: Path, cache: Path) -> None:
    payload = prepare(write(tmp_path / "script", "#!/bin/bash -x\n"), cache=cache)
    found = by_path(payload)
    assert payload.argv == ("/bin/bash", "-x", "/repro/script")
    assert found["bin/bash"] == File("bin/bash", Path("/bin/bash").read_bytes(), mode=0o755)
    assert "lib64/ld-linux-x86-64.so.2" in found
    assert found["bin/sleep"] == Symlink("bin/sleep", "busybox")


def test_a_command_of_busybox_may_be_the_interpreter(tmp_path: Path, cache: Path) -> None:
    script = write(tmp_path / "script", "#!/usr/nowhere/ash\n")
    assert prepare(script, cache=cache).argv == ("/bin/sh", "/repro/script")
    script = write(tmp_path / "script", "#!/usr/nowhere/sed -f\n")
    assert prepare(script, cache=cache).argv == ("/bin/sed", "-f", "/repro/script")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("#!/bin/sh\r\nexit 0\r\n", "CR LF, a shell wants LF"),
        ("#!\nexit 0\n", "expected #! and the absolute path of an interpreter"),
        ("#!sh\nexit 0\n", "expected #! and the absolute path of an interpreter"),
        ("#!/" + "x" * 300, "within 255 bytes"),
        ("#!/usr/bin/env sh -e\n", "name the interpreter by its path"),
        ("#!/usr/bin/env A=b sh\n", "name the interpreter by its path"),
        ("#!/usr/bin/env\n", "name the interpreter by its path"),
        ("#!/usr/bin/nosuchinterpreter\n", "nosuchinterpreter is not on this machine"),
        ("#!/usr/bin/env python3\n", "python3 needs its library tree"),
        ("#!/etc/hostname\n", "is not an ELF program"),
    ],
)
def test_a_script_that_could_not_start_is_refused(
    tmp_path: Path, cache: Path, content: str, said: str
) -> None:
    script = write(tmp_path / "script", content)
    with pytest.raises(UsageError) as caught:
        prepare(script, cache=cache)
    assert str(caught.value).startswith(f"{script}: ")
    assert said in str(caught.value)


def test_without_busybox_the_package_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BUSYBOX_HOMES", ())
    script = write(tmp_path / "script", "#!/bin/sh\n")
    with pytest.raises(UsageError, match="apt-get install busybox-static"):
        prepare(script, cache=cache, environment={"PATH": str(tmp_path)})


def test_a_dynamic_busybox_brings_its_libraries(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "BUSYBOX_HOMES", ())
    code = '#include <stdio.h>\nint main(void) { puts("busybox\\nls\\nsh"); return 0; }'
    build(tmp_path / "busybox", code=code)
    script = write(tmp_path / "script", "#!/bin/sh\n")
    found = by_path(prepare(script, cache=cache, environment={"PATH": str(tmp_path)}))
    assert {"bin/busybox", "bin/ls", "bin/sh", "lib64/ld-linux-x86-64.so.2"} <= set(found)
    assert "bin/cat" not in found


# --- folders -------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one file of each kind, and no program yet."""
    home = tmp_path / "folder"
    write(home / "data" / "input", "text", 0o640)
    (home / "link").symlink_to("data/input")
    (home / "outside").symlink_to("/etc/shadow")
    os.mkfifo(home / "pipe", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "socket"))
    (home / "socket").chmod(0o700)
    return home


def test_a_folder_comes_whole_and_links_stay_links(folder: Path, cache: Path) -> None:
    write(folder / "run", "#!/bin/sh\n")
    payload = prepare(folder, cache=cache)
    found = by_path(payload)
    assert payload.argv == ("/bin/sh", "/repro/run")
    assert found["repro/data/input"] == File("repro/data/input", b"text", mode=0o640)
    assert found["repro/link"] == Symlink("repro/link", "data/input")
    assert found["repro/outside"] == Symlink("repro/outside", "/etc/shadow")
    assert found["repro/pipe"] == Fifo("repro/pipe", mode=0o600)
    assert found["repro/socket"] == Socket("repro/socket", mode=0o700)


def test_run_comes_before_repro(folder: Path, cache: Path) -> None:
    write(folder / "repro", "#!/bin/sh\n")
    assert prepare(folder, cache=cache).argv == ("/bin/sh", "/repro/repro")
    write(folder / "run", "#!/bin/sh\n")
    assert prepare(folder, cache=cache).argv == ("/bin/sh", "/repro/run")


def test_programs_inside_a_folder_bring_their_libraries(folder: Path, cache: Path) -> None:
    write(folder / "run", "#!/bin/sh\n/repro/data/crasher\n")
    build(folder / "data" / "crasher")
    found = by_path(prepare(folder, cache=cache))
    assert "repro/data/crasher" in found
    assert "lib64/ld-linux-x86-64.so.2" in found


def test_programs_for_other_machines_may_lie_in_a_folder(folder: Path, cache: Path) -> None:
    write(folder / "run", "#!/bin/sh\n")
    foreign = bytearray(Path("/bin/sh").read_bytes())
    struct.pack_into("<H", foreign, 18, 183)
    write(folder / "arm", "").write_bytes(foreign)
    assert "repro/arm" in by_path(prepare(folder, cache=cache))


def test_a_script_inside_that_could_not_start_is_refused_with_the_way_out(
    folder: Path, cache: Path
) -> None:
    write(folder / "run", "#!/bin/sh\n")
    write(folder / "data" / "plot", "#!/usr/bin/env python3\n")
    with pytest.raises(UsageError, match=r"python3 needs its library tree.*chmod -x .*/data/plot"):
        prepare(folder, cache=cache)
    (folder / "data" / "plot").chmod(0o644)
    assert "repro/data/plot" in by_path(prepare(folder, cache=cache))


def test_a_folder_without_a_program_is_refused(folder: Path, cache: Path) -> None:
    with pytest.raises(UsageError, match="expected an executable file called run or repro in it"):
        prepare(folder, cache=cache)


def test_a_folder_whose_program_is_not_executable_is_refused(folder: Path, cache: Path) -> None:
    write(folder / "run", "#!/bin/sh\n", 0o644)
    with pytest.raises(UsageError, match=r"chmod \+x .*/folder/run"):
        prepare(folder, cache=cache)


def test_a_folder_whose_program_lies_outside_is_refused(folder: Path, cache: Path) -> None:
    (folder / "run").symlink_to("/bin/true")
    with pytest.raises(UsageError, match="outside the folder: copy the file into it"):
        prepare(folder, cache=cache)


# --- digest --------------------------------------------------------------------------------


def test_the_digest_is_of_content_and_words_and_not_of_time(tmp_path: Path, cache: Path) -> None:
    script = write(tmp_path / "script", "#!/bin/sh\nexit 0\n")
    first = prepare(script, cache=cache)
    os.utime(script, (1, 1))
    assert prepare(script, cache=cache) == first
    assert re.fullmatch("[0-9a-f]{64}", first.digest)
    write(script, "#!/bin/sh -e\nexit 0\n")
    second = prepare(script, cache=cache)
    write(script, "#!/bin/sh -e\nexit 1\n")
    third = prepare(script, cache=cache)
    digests = [first.digest, second.digest, third.digest]
    assert len(set(digests)) == len(digests)


def test_importing_the_guest_layer_loads_no_parser_of_elf() -> None:
    code = (
        "import sys, pytest_flaky_repro.guest.reproducer, pytest_flaky_repro.guest.compression;"
        "sys.exit(any(name.startswith('elftools') for name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
