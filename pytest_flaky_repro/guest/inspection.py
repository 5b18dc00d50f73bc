"""Would the kernel start this? What a program in an archive needs, looked up in the same archive.

Nothing is run: paths are followed as the guest's kernel (fs/namei.c, fs/binfmt_script.c) and
dynamic loader (`man 8 ld.so`) would follow them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import elf
from pytest_flaky_repro.guest.entries import Directory, Entry, File, Symlink

_MAX_LINKS = 40  # of one path (MAXSYMLINKS)
_LIBRARY_HOMES = (
    "lib",
    "lib64",
    "usr/lib",
    "usr/lib64",
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
)


@dataclass(frozen=True)
class Unstartable:
    """Why a program would not start, in the kernel's terms, and the mend."""

    why: str
    mend: str


class Tree:
    """The files that archives laid over each other come to."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            names = (entry.path, *entry.links) if isinstance(entry, File) else (entry.path,)
            for name in names:
                self._entries[_plain(name)] = entry

    def __len__(self) -> int:
        return len(self._entries)

    def tops(self) -> list[str]:
        """The names in the root folder; folders end in a slash."""
        tops = {name.partition("/")[0]: "/" in name for name in sorted(self._entries)}
        return [
            f"{top}/" if deep or isinstance(self._entries.get(top), Directory) else top
            for top, deep in tops.items()
        ]

    def programs(self) -> dict[str, File]:
        """Files that are executable ELF programs or scripts, by path."""
        return {
            path: entry
            for path, entry in self._entries.items()
            if isinstance(entry, File)
            and entry.mode & 0o111
            and entry.content[:4].startswith((elf.MAGIC, b"#!"))
        }

    def find(self, path: str) -> Entry | None:
        """What ``path`` leads to, links followed; None when it leads nowhere."""
        parts = list(PurePosixPath("/", path).parts[1:])
        walked: list[str] = []
        links = 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                walked = walked[:-1]
                continue
            entry = self._entries.get("/".join([*walked, part]))
            if isinstance(entry, Symlink):
                links += 1
                if links > _MAX_LINKS:
                    return None
                target = PurePosixPath(entry.target)
                if target.is_absolute():
                    walked = []
                parts = [p for p in target.parts if p != "/"] + parts
                continue
            walked.append(part)
        return self._entries.get("/".join(walked)) if walked else Directory("/")

    def link_at(self, path: str) -> Symlink | None:
        """The entry itself, if it is a symbolic link."""
        entry = self._entries.get(_plain(path))
        return entry if isinstance(entry, Symlink) else None


def unstartable(tree: Tree, path: str) -> Unstartable | None:  # noqa: PLR0911 - a reason each
    """Why the kernel would not start ``path``, or why it would die at once; None if it would not.

    Whether the kernel was built to run scripts is not looked at: see ``is_script``.
    """
    entry = tree.find(path)
    if entry is None:
        link = tree.link_at(path)
        where = f"links to {link.target}, which is not in the archive" if link else "is missing"
        return Unstartable(f"/{path} {where}", f"put an executable program at /{path}")
    if not isinstance(entry, File):
        kind = type(entry).__name__.lower()
        return Unstartable(f"/{path} is a {kind}, not a program", f"put a program at /{path}")
    if not entry.mode & 0o111:
        return Unstartable(
            f"/{path} is not executable (mode {entry.mode:04o}): error -13",
            "chmod +x it before the archive is packed, or give it mode 755 in the list",
        )
    if entry.content.startswith(b"#!"):
        return _script_fault(tree, path, entry.content)
    if elf.is_elf(entry.content):
        return _program_fault(tree, path, entry.content)
    if not entry.content:
        return Unstartable(f"/{path} is empty: error -8", "pack it again")
    return Unstartable(
        f"/{path} is neither an ELF program nor a script that begins with #!: error -8",
        "give it a first line such as #!/bin/sh, or build a program for x86-64",
    )


def is_script(tree: Tree, path: str) -> bool:
    """Whether starting ``path`` takes a kernel with BINFMT_SCRIPT."""
    entry = tree.find(path)
    return isinstance(entry, File) and entry.content.startswith(b"#!")


def _script_fault(tree: Tree, path: str, content: bytes) -> Unstartable | None:
    line = content.partition(b"\n")[0]
    if line.endswith(b"\r"):
        return Unstartable(f"/{path} has lines that end in CR LF: error -2", "dos2unix it")
    words = line.removeprefix(b"#!").split()
    interpreter = words[0].decode("utf-8", "surrogateescape") if words else ""
    entry = tree.find(interpreter) if interpreter.startswith("/") else None
    if not isinstance(entry, File):
        return Unstartable(
            f"/{path} wants the interpreter {interpreter or '(none)'}, which is not in the "
            "archive: error -2",
            "bring it along; busybox with a link at /bin/sh is the usual one",
        )
    if not entry.mode & 0o111:
        return Unstartable(f"{interpreter}, which runs /{path}, is not executable", "chmod +x it")
    if elf.is_elf(entry.content):
        return _program_fault(tree, interpreter.lstrip("/"), entry.content)
    return None


def _program_fault(tree: Tree, path: str, content: bytes) -> Unstartable | None:
    try:
        program = elf.read(Path("/") / path, content)
    except UsageError as error:
        return Unstartable(str(error), "")
    if program.interpreter is None:
        return None
    static = "link it with -static, or bring what ldd lists"
    if not isinstance(tree.find(program.interpreter), File):
        return Unstartable(
            f"/{path} is dynamically linked and its loader {program.interpreter} is not in the "
            "archive: error -2",
            static,
        )
    missing = [name for name in program.needed if not _has_library(tree, path, program, name)]
    if missing:
        names = ", ".join(missing)
        return Unstartable(f"/{path} needs {names}, not in the archive: it exits with 127", static)
    return None


def _has_library(tree: Tree, path: str, program: elf.Elf, name: str) -> bool:
    if "/" in name:
        return isinstance(tree.find(name), File)
    origin = f"/{PurePosixPath(path).parent}"
    own = [
        folder.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
        for folder in (*program.rpath, *program.runpath)
    ]
    return any(
        isinstance(tree.find(f"{folder}/{name}"), File) for folder in (*own, *_LIBRARY_HOMES)
    )


def _plain(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in ("", "."))
