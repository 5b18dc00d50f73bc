"""From what the user calls a reproducer to files in the guest and the words that start it.

A program, a `.c` file, a script, or a folder with an executable called `run` or `repro`. Nothing
here runs any of it on the host.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import elf, libraries, shell
from pytest_flaky_repro.guest.compiler import CompileError, compile_static
from pytest_flaky_repro.guest.cpio import write_archive
from pytest_flaky_repro.guest.entries import (
    Directory,
    Entry,
    Fifo,
    File,
    Node,
    NodeKind,
    Socket,
    Symlink,
    with_parents,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["CompileError", "Payload", "prepare"]

HOME = "/repro"  # where reproducers live in the guest
MAIN = ("run", "repro")  # what is started in a folder
_SIZE_MAX = 256 * 1024 * 1024  # bytes; the archive and what it unpacks to share guest memory
_ACCEPTED = (
    "an ELF program, a .c file, a script with a #! line,"
    f" or a folder with an executable called {' or '.join(MAIN)}"
)


@dataclass(frozen=True)
class Payload:
    """A reproducer ready for the guest.

    `files` are archive entries, parents before children; `argv` are paths and words inside the
    guest; `digest` is the SHA-256, in hexadecimal, of both.
    """

    files: tuple[Entry, ...]
    argv: tuple[str, ...]
    digest: str


def prepare(
    path: Path,
    *,
    cache: Path,
    cflags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Payload:
    """Make the reproducer at `path` ready; compiled programs are kept under `cache`.

    `environment` (default: the process's) gives PATH, CC and LD_LIBRARY_PATH.

    Raises UsageError for what cannot run in the guest, CompileError with the compiler's words.
    """
    variables = os.environ if environment is None else environment
    try:
        if path.is_dir():
            return _payload(*_from_folder(path, variables))
        name, content = path.name, path.read_bytes()
    except OSError as error:
        message = f"cannot read the reproducer {path}: {error.strerror}; expected {_ACCEPTED}"
        raise UsageError(message) from error
    if path.suffix == ".c":
        name, content = path.stem, compile_static(path, cache, cflags, variables)
    else:
        _check_executable(path, content)
    place = f"{HOME}/{name}"
    argv, needed = _start(path, content, place, variables)
    return _payload((*needed, File(place, content, mode=0o755)), argv)


def _payload(files: Sequence[Entry], argv: tuple[str, ...]) -> Payload:
    entries = with_parents(files)
    words = b"\0".join(word.encode("utf-8", "surrogateescape") for word in argv)
    digest = hashlib.sha256(hashlib.sha256(write_archive(entries)).digest() + words)
    return Payload(files=entries, argv=argv, digest=digest.hexdigest())


def _start(
    path: Path, content: bytes, place: str, environment: Mapping[str, str]
) -> tuple[tuple[str, ...], tuple[Entry, ...]]:
    """The words that start the program or script now at `place`, and the files these need."""
    if elf.is_elf(content):
        program = elf.read(path, content)
        if not program.starts:
            message = f"{path}: expected a program, this is a shared library: it cannot be started"
            raise UsageError(message)
        return (place,), libraries.entries_for(program, environment)
    interpreter = shell.interpreter_of(path, content, environment)
    return (*interpreter.argv, place), interpreter.files


def _check_executable(path: Path, content: bytes) -> None:
    if not (elf.is_elf(content) or _is_script(path, content)):
        message = f"{path}: expected {_ACCEPTED}; it begins with {content[:8]!r}{_hint(path)}"
        raise UsageError(message)
    if not path.stat().st_mode & 0o111:
        message = f"{path}: expected an executable file, its x bits are off: chmod +x {path}"
        raise UsageError(message)


def _is_script(path: Path, content: bytes) -> bool:
    return content.startswith(shell.SHEBANG) or path.suffix == ".sh"


def _hint(path: Path) -> str:
    if path.suffix == ".go":
        return f": CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go build {path}"
    if path.suffix in (".cc", ".cpp", ".cxx", ".rs"):
        return ": compile it to a static program first"
    return ""


# --- folders -------------------------------------------------------------------------------


def _from_folder(
    folder: Path, environment: Mapping[str, str]
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """The whole tree under /repro/, with what its programs and scripts need."""
    main = _find_main(folder)
    tree = tuple(_tree(folder))
    argv, needed = _start(main, main.read_bytes(), f"{HOME}/{main.name}", environment)
    for path in _executables(folder):
        needed += _wanted_inside(path, environment)
    return (*needed, *tree), argv


def _wanted_inside(path: Path, environment: Mapping[str, str]) -> tuple[Entry, ...]:
    """What the main program would miss when it starts the file at `path`."""
    content = path.read_bytes()
    try:
        if elf.is_elf(content) and _runs_here(path, content):
            return libraries.entries_for(elf.read(path, content), environment)
        if content.startswith(shell.SHEBANG):
            return shell.interpreter_of(path, content, environment).files
    except UsageError as error:
        message = f"{error} (If the reproducer never starts this file: chmod -x {path})"
        raise UsageError(message) from error
    return ()


def _find_main(folder: Path) -> Path:
    main = next((folder / name for name in MAIN if (folder / name).is_file()), None)
    if main is None:
        message = f"{folder}: expected an executable file called {' or '.join(MAIN)} in it"
        raise UsageError(message)
    if not main.resolve().is_relative_to(folder.resolve()):
        message = f"{main} points to {main.resolve()}, outside the folder: copy the file into it"
        raise UsageError(message)
    _check_executable(main, main.read_bytes())
    return main


def _tree(folder: Path) -> Iterator[Entry]:
    size = 0
    for path in _walk(folder):
        entry = _from_host(path, f"{HOME}/{path.relative_to(folder)}")
        size += len(entry.content) if isinstance(entry, File) else 0
        if size > _SIZE_MAX:
            message = (
                f"{folder}: more than {_SIZE_MAX >> 20} MiB, too much for a guest's memory:"
                " put only what the reproducer needs into the folder"
            )
            raise UsageError(message)
        yield entry


def _walk(folder: Path) -> Iterator[Path]:
    """Everything below `folder`, links not followed, in an order that does not change."""
    for path in sorted(folder.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)


def _executables(folder: Path) -> Iterator[Path]:
    for path in _walk(folder):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o111:
            yield path


def _runs_here(path: Path, content: bytes) -> bool:
    """A folder may hold programs for other machines: only the main one must fit."""
    try:
        elf.read(path, content)
    except UsageError:
        return False
    return True


def _from_host(path: Path, place: str) -> Entry:
    """The file at `path` as it will lie at `place`: same kind and permissions, owned by root."""
    status = path.lstat()
    kind, mode = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode)
    if kind == stat.S_IFREG:
        return File(place, path.read_bytes(), mode=mode)
    if kind == stat.S_IFLNK:
        return Symlink(place, str(path.readlink()))
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        device = NodeKind.CHARACTER if kind == stat.S_IFCHR else NodeKind.BLOCK
        numbers = os.major(status.st_rdev), os.minor(status.st_rdev)
        return Node(place, device, *numbers, mode=mode)
    plain = {stat.S_IFDIR: Directory, stat.S_IFIFO: Fifo, stat.S_IFSOCK: Socket}[kind]
    return plain(place, mode=mode)
