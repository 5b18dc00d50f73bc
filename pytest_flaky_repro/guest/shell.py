"""Scripts: their interpreter, and the commands they will call, brought along from the host.

A kernel without BINFMT_SCRIPT cannot start a script by its `#!` line, so the line is read here
(as fs/binfmt_script.c would) and the agent starts the interpreter itself.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import elf, libraries
from pytest_flaky_repro.guest.entries import Entry, File, Symlink

if TYPE_CHECKING:
    from collections.abc import Mapping

SHEBANG = b"#!"
SHELL = "/bin/sh"
BUSYBOX_HOMES = ("/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox")
_LINE_MAX = 255  # BINPRM_BUF_SIZE - 1: what the kernel reads of a `#!` line

# Perl's core modules, as Debian's perl-base holds them; few scripts work without `use strict`.
_COMPANIONS = {"perl": ("/usr/lib/x86_64-linux-gnu/perl-base",)}

# Without a tree of files of their own these start and fail at once, which must not look like a
# crash of the kernel.
_NEEDS_A_TREE = re.compile(r"(python|pypy|ruby|node|nodejs|php|java)[0-9.]*")


@dataclass(frozen=True)
class Interpreter:
    """How a script is started: `argv` without the script itself, and what that needs."""

    argv: tuple[str, ...]
    files: tuple[Entry, ...]


def interpreter_of(script: Path, content: bytes, environment: Mapping[str, str]) -> Interpreter:
    """What starts `script`; a script without a `#!` line is one for /bin/sh.

    Raises UsageError when the line cannot work or the interpreter cannot be brought.
    """
    program, arguments = _read_line(script, content)
    if Path(program).name == "env":
        program, arguments = _through_env(script, arguments, environment)
    name = Path(program).name
    commands = busybox_entries(environment)
    if name in ("sh", "ash"):
        return Interpreter((SHELL, *arguments), commands)
    if _NEEDS_A_TREE.fullmatch(name):
        message = (
            f"{script}: {name} needs its library tree in the guest, which is not brought along:"
            " put both into an archive for --initrd and start them from a shell script, or write"
            " the reproducer in C or shell"
        )
        raise UsageError(message)
    if Path(program).is_file():
        brought = _bring(script, program, environment)
        return Interpreter((program, *arguments), (*commands, *brought))
    if any(entry.path == f"bin/{name}" for entry in commands):
        return Interpreter((f"/bin/{name}", *arguments), commands)
    message = f"{script}: its interpreter {program} is not on this machine: install it"
    raise UsageError(message)


def busybox_entries(environment: Mapping[str, str]) -> tuple[Entry, ...]:
    """/bin/busybox and a link in /bin for each of its commands, sh among them.

    Raises UsageError when there is no busybox.
    """
    path = find_busybox(environment)
    content = path.read_bytes()
    program = elf.read(path, content)
    links = [
        Symlink(f"bin/{applet}", "busybox") for applet in _applets(path) if applet != "busybox"
    ]
    return (
        *libraries.entries_for(program, environment),
        File("bin/busybox", content, mode=0o755),
        *links,
    )


def find_busybox(environment: Mapping[str, str]) -> Path:
    """The host's busybox, a static one if there is a choice."""
    found = shutil.which("busybox", path=environment.get("PATH", os.defpath))
    candidates = [Path(name) for name in (found, *BUSYBOX_HOMES) if name and Path(name).is_file()]
    for candidate in candidates:
        if elf.read(candidate, candidate.read_bytes()).interpreter is None:
            return candidate
    if candidates:
        return candidates[0]
    message = (
        "a script needs a shell and commands in the guest, and there is no busybox on this"
        " machine: apt-get install busybox-static"
    )
    raise UsageError(message)


def _applets(busybox: Path) -> list[str]:
    """The commands in this busybox, as it lists them itself."""
    try:
        done = subprocess.run(
            [busybox, "--list"], stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"{busybox} --list failed ({error}): apt-get install busybox-static"
        raise UsageError(message) from error
    return [name for name in done.stdout.decode().split() if "/" not in name]


# --- the first line ------------------------------------------------------------------------


def _read_line(script: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    """The interpreter and its argument; all that follows the first word is one argument."""
    if not content.startswith(SHEBANG):
        return SHELL, ()
    line = content.partition(b"\n")[0]
    shown = line[:_LINE_MAX].decode("utf-8", "backslashreplace")
    if line.endswith(b"\r"):
        message = f"{script}: its lines end in CR LF, a shell wants LF: sed -i 's/\\r$//' {script}"
        raise UsageError(message)
    words = line.removeprefix(SHEBANG).strip(b" \t").split(None, 1)
    if len(line) > _LINE_MAX or not words or not words[0].startswith(b"/") or b"\0" in line:
        message = (
            f"{script}: expected #! and the absolute path of an interpreter within"
            f" {_LINE_MAX} bytes, saw {shown!r}"
        )
        raise UsageError(message)
    program, *rest = (word.decode("utf-8", "surrogateescape") for word in words)
    return program, tuple(rest)


def _through_env(
    script: Path, arguments: tuple[str, ...], environment: Mapping[str, str]
) -> tuple[str, tuple[str, ...]]:
    """What `env NAME` or `env -S NAME ARGUMENT...` would start."""
    words = list(arguments)
    if words and words[0].startswith("-S"):
        words = shlex.split(words[0].removeprefix("-S"))
    if not words or words[0].startswith("-") or "=" in words[0] or " " in words[0]:
        message = (
            f"{script}: expected '#!/usr/bin/env NAME' or '#!/usr/bin/env -S NAME ARGUMENT...',"
            f" saw env with {' '.join(arguments)!r}: name the interpreter by its path"
        )
        raise UsageError(message)
    found = shutil.which(words[0], path=environment.get("PATH", os.defpath))
    return found or f"/bin/{words[0]}", tuple(words[1:])


def _bring(script: Path, program: str, environment: Mapping[str, str]) -> tuple[Entry, ...]:
    path = Path(program)
    content = path.read_bytes()
    if not elf.is_elf(content):
        message = f"{script}: its interpreter {program} is not an ELF program; name one that is"
        raise UsageError(message)
    needed = libraries.entries_for(elf.read(path, content), environment)
    companions = [
        File(str(file).lstrip("/"), file.read_bytes(), mode=0o644)
        for folder in _COMPANIONS.get(path.name, ())
        for file in sorted(Path(folder).rglob("*"))
        if file.is_file()
    ]
    return (*needed, File(program.lstrip("/"), content, mode=0o755), *companions)
