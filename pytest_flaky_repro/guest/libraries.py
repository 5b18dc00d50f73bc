"""Which loader and libraries a dynamic program needs, and where they must lie in the guest.

The search rules are those of `man 8 ld.so`. The system's own loader is asked first, with --list,
which maps files and starts none of them; what it cannot answer is worked out from the files.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import elf
from pytest_flaky_repro.guest.entries import Entry, File, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# A program chooses its own loader: only one from here is run on the host.
_LOADER_HOMES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store", "/gnu/store")

# Where the loaders of glibc and musl look without being told; Debian's and Fedora's differ.
_DEFAULT = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib",
    "/usr/lib",
    "/lib64",
    "/usr/lib64",
)
_UNWINDER = "libgcc_s.so.1"
_CONFIGURATION = "/etc/ld.so.conf"
_LOADER_SECONDS = 30  # a loader on a stalled network file system must not hang the session
_LISTED = re.compile(r"\s*(?:(?P<name>\S+) => )?(?P<path>/.*) \(0x[0-9a-f]+\)")


@dataclass(frozen=True)
class Library:
    """A file the loader will open: `name` as it is asked for, `path` on the host."""

    name: str
    path: Path


def entries_for(program: elf.Elf, environment: Mapping[str, str]) -> tuple[Entry, ...]:
    """The loader and libraries of `program`, at places where the guest's loader finds them.

    Raises UsageError naming every library that is missing on this machine.
    """
    if program.interpreter is None:
        return ()
    found: list[Entry] = []
    loader = Path(program.interpreter)
    if not loader.is_file():
        message = (
            f"{program.path}: its loader {loader} is not on this machine: install the C library"
            " it was built for, or link it with -static"
        )
        raise UsageError(message)
    found.append(_copy(str(loader), loader))
    libraries = find(program, environment)
    for library in (*libraries, *_opened_later(libraries)):
        found.extend(_placed(library, loader))
    return tuple(found)


def find(program: elf.Elf, environment: Mapping[str, str]) -> tuple[Library, ...]:
    """All libraries of `program`, those of its libraries too; the loader may be among them."""
    listed = ask_loader(program, environment)
    return search(program, environment) if listed is None else listed


def _opened_later(libraries: tuple[Library, ...]) -> Iterator[Library]:
    """What glibc opens by itself in mid-run: pthread_cancel and pthread_exit abort without it."""
    names = {library.name for library in libraries}
    if "libc.so.6" in names and _UNWINDER not in names:
        unwinder = _locate(_UNWINDER, _DEFAULT)
        if unwinder is not None:
            yield Library(_UNWINDER, unwinder.path)


def _placed(library: Library, loader: Path) -> Iterator[Entry]:
    """A library at its host path; one from an unusual folder gets a name in a usual one too.

    The host found it by $ORIGIN, LD_LIBRARY_PATH or ld.so.conf; the guest has none of these.
    """
    place = library.name if library.name.startswith("/") else str(library.path)
    if library.path.name == loader.name and library.path.samefile(loader):
        return
    yield _copy(place, library.path)
    if str(library.path.parent) not in _DEFAULT and "/" not in library.name:
        yield Symlink(f"lib/{library.name}", place)
        yield Symlink(f"lib64/{library.name}", place)


def _copy(place: str, source: Path) -> File:
    return File(place.lstrip("/"), source.read_bytes(), mode=0o755)


# --- asking the loader ---------------------------------------------------------------------


def ask_loader(program: elf.Elf, environment: Mapping[str, str]) -> tuple[Library, ...] | None:
    """What `ld.so --list` says; None when it must not be asked or does not know."""
    loader = Path(program.interpreter or "").resolve()
    trusted = any(loader.is_relative_to(home) for home in _LOADER_HOMES)
    if program.audited or not trusted or not loader.name.startswith("ld-"):
        return None
    clean = {"LC_ALL": "C"}  # no LD_PRELOAD, no LD_BIND_NOW: nothing of the program is called
    if "LD_LIBRARY_PATH" in environment:
        clean["LD_LIBRARY_PATH"] = environment["LD_LIBRARY_PATH"]
    try:
        answer = subprocess.run(
            [loader, "--list", program.path.resolve()],
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LOADER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None  # the file search answers, or raises and names what is missing
    return parse_list(answer.stdout) if answer.returncode == 0 else None


def parse_list(output: bytes) -> tuple[Library, ...] | None:
    """Libraries in what `ld.so --list` printed; None if one of them was not found.

    A line is `name => /path (0xaddress)` or `/path (0xaddress)`; the vDSO has no path.
    """
    found = []
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        if line.endswith("not found"):
            return None
        match = _LISTED.fullmatch(line)
        if match:
            path = _in_real_folder(Path(match["path"]))
            found.append(Library(match["name"] or match["path"], _baseline(path)))
    return tuple(found)


def _in_real_folder(path: Path) -> Path:
    """The path without `..` and linked folders; the name stays, it is what programs ask for."""
    return path.parent.resolve() / path.name


def _baseline(path: Path) -> Path:
    """The plain build of a library that the host chose for its own CPU: the guest's has less."""
    if path.parent.parent.name != "glibc-hwcaps":
        return path
    plain = path.parent.parent.parent / path.name
    return plain if plain.exists() else path


# --- searching as the loader would ---------------------------------------------------------


def search(program: elf.Elf, environment: Mapping[str, str]) -> tuple[Library, ...]:
    """Breadth first, each name once, as ld.so loads them."""
    found: dict[str, Library] = {}
    missing: dict[str, Path] = {}
    queue: list[tuple[elf.Elf, tuple[str, ...]]] = [(program, ())]
    for asker, inherited in queue:
        rpath = () if asker.runpath else _expanded(asker.rpath, asker.path)
        for name in asker.needed:
            if name in found or name in missing:
                continue
            folders = _folders(asker, (*rpath, *inherited), environment)
            library = _locate(name, folders)
            if library is None:
                missing[name] = asker.path
                continue
            found[name] = Library(name, library.path)
            queue.append((library, (*rpath, *inherited)))
    if missing:
        raise _missing(program, missing)
    return tuple(found.values())


def _folders(
    asker: elf.Elf, rpath: tuple[str, ...], environment: Mapping[str, str]
) -> tuple[str, ...]:
    variable = environment.get("LD_LIBRARY_PATH", "")
    return (
        *(() if asker.runpath else rpath),
        *(part for part in re.split("[:;]", variable) if part),
        *_expanded(asker.runpath, asker.path),
        *_configured(Path(_CONFIGURATION)),
        *_DEFAULT,
    )


def _expanded(folders: tuple[str, ...], owner: Path) -> tuple[str, ...]:
    origin = str(owner.resolve().parent)
    return tuple(
        folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin) for folder in folders
    )


def _configured(path: Path) -> tuple[str, ...]:
    """The folders that /etc/ld.so.conf lists, includes followed."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()  # musl and minimal systems have none
    folders: list[str] = []
    for line in lines:
        words = line.partition("#")[0].split()
        if words[:1] == ["include"]:
            for pattern in words[1:]:
                files = sorted(Path("/").glob(str(path.parent / pattern).lstrip("/")))
                folders += [
                    folder for file in files if file != path for folder in _configured(file)
                ]
        else:
            folders += words
    return tuple(folders)


def _locate(name: str, folders: tuple[str, ...]) -> elf.Elf | None:
    """The first x86-64 file of that name; others are passed over, as the loader does."""
    candidates = [Path(name)] if "/" in name else [Path(folder, name) for folder in folders]
    for candidate in candidates:
        path = _in_real_folder(candidate)
        if not path.is_file():
            continue
        try:
            return elf.read(path, path.read_bytes())
        except (UsageError, OSError):
            continue
    return None


def _missing(program: elf.Elf, missing: Mapping[str, Path]) -> UsageError:
    lines = [
        name if asker == program.path else f"{name} (needed by {asker})"
        for name, asker in missing.items()
    ]
    return UsageError(
        f"{program.path}: expected its shared libraries on this machine; not found:"
        f" {', '.join(lines)}. Install the package that holds it, or set LD_LIBRARY_PATH to its"
        " folder, or link the reproducer with -static."
    )
