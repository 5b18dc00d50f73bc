"""Files that a command names: whoever edits a script has another command, whatever it is called."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

_PUNCTUATION = frozenset("();<>|&")
_INTERPRETERS = ("sh", "bash", "dash", "ksh", "zsh", "python", "perl", "ruby")


def files_of(command: str, folder: Path | None) -> dict[str, str]:
    """The digest of each existing file that is a word of the command, by that word.

    Relative words count from ``folder``; without one, only absolute paths are looked at. What the
    command writes to (``> log``) is its output and no part of it.
    """
    return {word: digest for word, _, digest, _ in _files(command, folder)}


def scripts_of(command: str, folder: Path | None) -> dict[str, str]:
    """As ``files_of``, of what is run only.

    A command that builds also names what it makes, which is another file after every build:
    ``make && cp bzImage "$CULPRIT_OUTPUT"``.
    """
    return {
        word: digest
        for word, runner, digest, is_script in _files(command, folder)
        if is_script or not runner or Path(runner).name.rstrip("0123456789.") in _INTERPRETERS
    }


def mentions(command: str, files: Mapping[str, str], folder: Path, name: str) -> bool:
    """Whether the command, or one of its ``files``, speaks of a variable."""
    texts = (folder.joinpath(word).read_bytes() for word in files)
    return name in command or any(name.encode() in text for text in texts)


def changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The words whose files are others now."""
    return sorted(word for word in {**before, **now} if before.get(word) != now.get(word))


def _files(command: str, folder: Path | None) -> Iterator[tuple[str, str, str, bool]]:
    """Each file's word, what it is an argument of, its digest, and whether it is a script."""
    for word, runner in _words(command):
        path = Path(word) if folder is None else folder / word
        try:
            if path.is_absolute() and path.is_file():
                content = path.read_bytes()
                is_script = content.startswith(b"#!")
                yield word, runner, hashlib.sha256(content).hexdigest(), is_script
        except (OSError, ValueError):
            continue  # too long for a name, say, or not ours to read


def _words(command: str) -> Iterator[tuple[str, str]]:
    """Words, each with the first one of its simple command ("" if it is that)."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    runner, is_output = "", False
    try:
        for word in lexer:
            if _PUNCTUATION.issuperset(word):
                is_output = ">" in word
                runner = runner if is_output or word == "<" else ""
            elif is_output:
                is_output = False
            elif runner or "=" not in word:
                yield word, runner
                runner = runner or word
    except ValueError:
        return  # an open quotation mark: the shell will say so
