"""Files that a command names: whoever edits a script has another command, whatever it is called."""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_PUNCTUATION = frozenset("();<>|&")
_INTERPRETERS = ("sh", "bash", "dash", "ksh", "zsh", "python", "perl", "ruby")
_PIECE = 1 << 20


@dataclass(frozen=True)
class _File:
    """A file that is a word of a command. ``runner`` is the first word of its simple command."""

    word: str
    runner: str
    option: bool  # the word before it begins with a dash
    path: Path

    @property
    def is_run(self) -> bool:
        """Whether it is run, by itself or by an interpreter."""
        name = Path(self.runner).name.rstrip("0123456789.")
        return not self.runner or name in _INTERPRETERS or self._start() == b"#!"

    def _start(self) -> bytes:
        with self.path.open("rb") as file:
            return file.read(2)

    def digest(self) -> str:
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
        return digest.hexdigest()


def files_of(command: str, folder: Path | None) -> dict[str, str]:
    """The digest of each existing file that is a word of the command, by that word.

    Relative words count from ``folder``; without one, only absolute paths are looked at. What the
    command writes to (``> log``, ``--log log``) is its output and no part of it: it would be
    another file at each run, and none could ever be gone on from.
    """
    return {f.word: f.digest() for f in _files(command, folder) if f.is_run or not f.option}


def scripts_of(command: str, folder: Path | None) -> dict[str, str]:
    """As ``files_of``, of what is run only.

    A command that builds also names what it makes, which is another file after every build:
    ``make && cp bzImage "$CULPRIT_OUTPUT"``.
    """
    return {f.word: f.digest() for f in _files(command, folder) if f.is_run}


def mentions(command: str, files: Mapping[str, str], folder: Path, name: str) -> bool:
    """Whether the command, or one of its ``files``, speaks of a variable."""
    return name in command or any(name.encode() in _text(folder / word) for word in files)


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The words whose files are others now."""
    return sorted(word for word in {**before, **now} if before.get(word) != now.get(word))


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_PIECE)  # no script is longer


def _files(command: str, folder: Path | None) -> Iterator[_File]:
    for word, runner, option in _words(command):
        path = Path(word) if folder is None else folder / word
        try:
            if path.is_absolute() and path.is_file() and os.access(path, os.R_OK):
                yield _File(word, runner, option, path)
        except (OSError, ValueError):
            continue  # too long for a name, say


def _words(command: str) -> Iterator[tuple[str, str, bool]]:
    """Words, each with the first one of its simple command ("" if it is that)."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    runner, before, is_output = "", "", False
    try:
        for word in lexer:
            if _PUNCTUATION.issuperset(word):
                is_output = ">" in word
                runner = runner if is_output or word == "<" else ""
            elif is_output:
                is_output = False
            elif runner or "=" not in word:
                yield word, runner, before.startswith("-")
                runner = runner or word
            before = word
    except ValueError:
        return  # an open quotation mark: the shell will say so
