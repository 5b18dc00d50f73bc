"""The list format of the kernel's usr/gen_init_cpio.c: one line, one entry of an archive.

    # a comment
    file <name> <location> <mode> <uid> <gid> [<hard links>]
    dir <name> <mode> <uid> <gid>
    nod <name> <mode> <uid> <gid> <dev_type> <maj> <min>
    slink <name> <target> <mode> <uid> <gid>
    pipe <name> <mode> <uid> <gid>
    sock <name> <mode> <uid> <gid>

A list that the kernel's tool takes without a warning gives the same archive here. What that tool
passes over in silence or fills with nothing (an entry without arguments, an indented entry, a
type it does not know, a variable that is not set) is an error here.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest.cpio import (
    ArchiveError,
    Directory,
    Entry,
    Fifo,
    File,
    Node,
    NodeKind,
    Socket,
    Symlink,
    write_archive,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ListingError", "parse_listing", "read_listing", "write_archive"]

_USAGE = {
    "file": "file <name> <location> <mode> <uid> <gid> [<hard links>]",
    "dir": "dir <name> <mode> <uid> <gid>",
    "nod": "nod <name> <mode> <uid> <gid> <dev_type> <maj> <min>",
    "slink": "slink <name> <target> <mode> <uid> <gid>",
    "pipe": "pipe <name> <mode> <uid> <gid>",
    "sock": "sock <name> <mode> <uid> <gid>",
}
_TYPE_BITS = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "slink": stat.S_IFLNK,
    "pipe": stat.S_IFIFO,
    "sock": stat.S_IFSOCK,
}
_PLAIN: dict[str, type[Directory | Fifo | Socket]] = {
    "dir": Directory,
    "pipe": Fifo,
    "sock": Socket,
}
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_EXPANSIONS = 64  # a value may hold variables itself; one that holds its own name never ends
_NEWEST = 0xFFFF_FFFF  # the last second a cpio header can hold; gen_init_cpio clips too
_MODES = 0o177777  # type and permission bits


class ListingError(UsageError):
    """A line of a list that cannot be understood, or a file it names that cannot be read."""


@dataclass(frozen=True)
class _Context:
    """What a line is read with, besides its own words."""

    environment: Mapping[str, str]
    directory: Path
    mtime: int


def read_listing(
    path: Path,
    environment: Mapping[str, str] | None = None,
    *,
    directory: Path | None = None,
    mtime: int = 0,
) -> tuple[Entry, ...]:
    """The entries that the list file at `path` describes; see parse_listing."""
    try:
        text = path.read_bytes()
    except OSError as error:
        message = f"{path}: cannot read the initramfs list: {error.strerror}"
        raise ListingError(message) from error
    return parse_listing(text, str(path), environment, directory=directory, mtime=mtime)


def parse_listing(
    text: bytes,
    name: str,
    environment: Mapping[str, str] | None = None,
    *,
    directory: Path | None = None,
    mtime: int = 0,
) -> tuple[Entry, ...]:
    """The entries that a list describes, files read, in the order of the lines.

    `environment` (default: the process's) is where `${VAR}` in a location comes from; locations
    that are not absolute are under `directory` (default: the current one, as for the kernel's
    tool). Files keep their own time stamp, all others get `mtime` in seconds since the epoch
    (`gen_init_cpio -t`).

    Raises ListingError, which starts with `name` and the line number.
    """
    context = _Context(
        environment=os.environ if environment is None else environment,
        directory=Path.cwd() if directory is None else directory,
        mtime=mtime,
    )
    entries = []
    for number, line in enumerate(text.split(b"\n"), start=1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            entries.append(_parse_line(line, context))
        except (ListingError, ArchiveError) as error:
            message = f"{name}:{number}: {error}"
            raise ListingError(message) from error
    return tuple(entries)


def _parse_line(line: bytes, context: _Context) -> Entry:
    if b"\0" in line:
        message = "the line holds a NUL byte: is this a list, or an archive?"
        raise ListingError(message)
    words = [word.decode("utf-8", "surrogateescape") for word in line.split()]
    kind, arguments = words[0], words[1:]
    if kind not in _USAGE:
        message = f"unknown entry type {kind!r}; expected one of: {', '.join(_USAGE)}"
        raise ListingError(message)
    if line[:1].isspace():
        message = f"{kind!r} must start in the first column: gen_init_cpio skips indented entries"
        raise ListingError(message)
    if kind == "file":
        return _file(arguments, context)
    # Here gen_init_cpio ignores what follows the last word; in a file line those are hard links.
    comment = next((i for i, word in enumerate(arguments) if word.startswith("#")), None)
    if comment is not None and comment >= _word_count(kind):
        arguments = arguments[:comment]
    if len(arguments) != _word_count(kind):
        raise _wrong_words(arguments, kind)
    return _other(kind, arguments, context)


def _other(kind: str, words: list[str], context: _Context) -> Entry:
    path, mtime = words[0], context.mtime
    if kind == "slink":
        mode, uid, gid = _owner(kind, words[2:5])
        return Symlink(path, words[1], mode=mode, uid=uid, gid=gid, mtime=mtime)
    mode, uid, gid = _owner(kind, words[1:4])
    if kind == "nod":
        node, major, minor = (
            _device(words[4]),
            _number("maj", words[5]),
            _number("min", words[6]),
        )
        return Node(path, node, major, minor, mode=mode, uid=uid, gid=gid, mtime=mtime)
    record = _PLAIN[kind]
    return record(path, mode=mode, uid=uid, gid=gid, mtime=mtime)


def _file(words: list[str], context: _Context) -> File:
    if len(words) < _word_count("file"):
        raise _wrong_words(words, "file")
    path, location, *rest = words
    mode, uid, gid = _owner("file", rest[:3])
    source = context.directory / _expand(location, context.environment)
    content, mtime = _read_source(source, path)
    return File(
        path,
        content,
        links=tuple(rest[3:]),
        mode=mode,
        uid=uid,
        gid=gid,
        mtime=mtime,
    )


def _read_source(source: Path, path: str) -> tuple[bytes, int]:
    """Content and time stamp of the host file for `path`."""
    try:
        status = source.stat()
        if not stat.S_ISREG(status.st_mode):
            message = f"{source} (for {path}) is not a regular file"
            raise ListingError(message)
        content = source.read_bytes()
    except OSError as error:
        message = f"cannot read {source} (for {path}): {error.strerror}"
        raise ListingError(message) from error
    return content, min(max(int(status.st_mtime), 0), _NEWEST)


def _expand(location: str, environment: Mapping[str, str]) -> str:
    """`${VAR}` replaced by its value, in what replaces it too, leftmost first."""
    text = location
    for _ in range(_EXPANSIONS):
        match = _VARIABLE.search(text)
        if match is None:
            return text
        if match[1] not in environment:
            message = f"the variable {match[0]} in {location!r} is not set"
            raise ListingError(message)
        text = text[: match.start()] + environment[match[1]] + text[match.end() :]
    message = f"the variables in {location!r} expand without end"
    raise ListingError(message)


def _owner(kind: str, words: list[str]) -> tuple[int, int, int]:
    """Mode, uid and gid."""
    mode = _mode(kind, words[0])
    return mode, _number("uid", words[1]), _number("gid", words[2])


def _mode(kind: str, word: str) -> int:
    if not re.fullmatch(r"[0-7]{1,12}", word):
        message = f"<mode> must be octal digits, for example 0755; it is {word!r}"
        raise ListingError(message)
    mode = int(word, 8)
    # Type bits may be written out if they are the entry's own; any others would make another file.
    if stat.S_IFMT(mode) not in (0, _TYPE_BITS.get(kind, 0)) or mode > _MODES:
        message = f"<mode> {word} holds the type of another kind of entry than {kind}"
        raise ListingError(message)
    return stat.S_IMODE(mode)


def _number(what: str, word: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", word):
        message = f"<{what}> must be a decimal number; it is {word!r}"
        raise ListingError(message)
    return int(word)


def _device(word: str) -> NodeKind:
    try:
        return NodeKind(word)
    except ValueError:
        message = f"<dev_type> must be b (block) or c (character); it is {word!r}"
        raise ListingError(message) from None


def _word_count(kind: str) -> int:
    """How many words must follow `kind`."""
    return len(re.sub(r"\[.*\]", "", _USAGE[kind]).split()) - 1


def _wrong_words(words: list[str], kind: str) -> ListingError:
    return ListingError(
        f"expected {_word_count(kind)} words after {kind!r}, saw {len(words)}: {_USAGE[kind]}"
    )
