"""What an ELF file says about itself: machine, loader, libraries. Nothing is run.

Format: System V gABI and the x86-64 psABI (`man 5 elf`).
"""

from __future__ import annotations

import io
import itertools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pytest_flaky_repro.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

MAGIC = b"\x7fELF"

_CLASS_64, _LITTLE_ENDIAN, _X86_64 = 2, 1, 62
_PROGRAM_TYPES = ("ET_EXEC", "ET_DYN")
_HEADER_SIZE = 64
_SECTION_OFFSET = slice(0x28, 0x30)  # e_shoff
_SECTION_COUNTS = slice(0x3C, 0x40)  # e_shnum, e_shstrndx
_TAGS = 4096  # dynamic tags looked at; real files have some thirty

# What the parser lets through when the offsets and counts in a file are wrong.
_PARSER_TROUBLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Elf:
    """The part of an x86-64 program or library that decides what it needs to run."""

    path: Path
    interpreter: str | None  # the loader named by PT_INTERP; None for a static program
    starts: bool  # has an entry point: a program rather than a library
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    audited: bool = False  # names modules that the loader would run as soon as it looks


def is_elf(content: bytes) -> bool:
    """Whether a file that begins with `content` is an ELF file at all."""
    return content.startswith(MAGIC)


def read(path: Path, content: bytes) -> Elf:
    """The facts of the ELF file `content`, which came from `path`.

    Raises UsageError for a file that is malformed or that an x86-64 kernel would not run.
    """
    from elftools.common.exceptions import ELFError  # heavy, seldom needed
    from elftools.construct.core import ConstructError

    try:
        _check_machine(path, content)
        return _facts(path, _open(_without_sections(content)))
    except (ELFError, ConstructError, *_PARSER_TROUBLE) as error:
        message = (
            f"{path}: expected a well-formed ELF file; reading it failed with"
            f" {type(error).__name__}: {error}. Was it cut short? Build or copy it again."
        )
        raise UsageError(message) from error


def _open(content: bytes) -> ELFFile:
    from elftools.elf.elffile import ELFFile

    return ELFFile(io.BytesIO(content))


def _check_machine(path: Path, content: bytes) -> None:
    if len(content) < _HEADER_SIZE:
        message = f"the header needs {_HEADER_SIZE} bytes, the file has {len(content)}"
        raise ValueError(message)
    (machine,) = struct.unpack_from("<H", content, 18)
    if (content[4], content[5], machine) == (_CLASS_64, _LITTLE_ENDIAN, _X86_64):
        return
    message = (
        f"{path}: expected a 64-bit x86-64 program, this is {_describe(content)}:"
        " build it for x86-64 (with GCC: -m64; with Go: GOARCH=amd64)"
    )
    raise UsageError(message)


def _describe(content: bytes) -> str:
    """The architecture in readelf's words."""
    from elftools.elf.descriptions import describe_e_machine
    from elftools.elf.enums import ENUM_E_MACHINE

    order = "<" if content[5] == _LITTLE_ENDIAN else ">"
    (machine,) = struct.unpack_from(order + "H", content, 18)
    names = {number: name for name, number in ENUM_E_MACHINE.items() if name != "_default_"}
    bits = 64 if content[4] == _CLASS_64 else 32
    return f"{bits}-bit {describe_e_machine(names.get(machine, ''))} (e_machine {machine})"


def _without_sections(content: bytes) -> bytes:
    """The file as kernel and loader see it: sections may be stripped, or tell another story."""
    header = bytearray(content[:_HEADER_SIZE])
    header[_SECTION_OFFSET] = bytes(8)
    header[_SECTION_COUNTS] = bytes(4)
    return bytes(header) + content[_HEADER_SIZE:]


def _facts(path: Path, file: ELFFile) -> Elf:
    kind = file.header["e_type"]
    if kind not in _PROGRAM_TYPES:
        message = (
            f"{path}: expected a linked program (ET_EXEC or ET_DYN), this is {kind}:"
            " an object or core file cannot be started"
        )
        raise UsageError(message)
    # The parser makes these classes for these types.
    interpreter = cast("InterpSegment | None", next(file.iter_segments("PT_INTERP"), None))
    facts = Elf(
        path=path,
        interpreter=interpreter.get_interp_name() if interpreter else None,
        starts=file.header["e_entry"] != 0,
    )
    dynamic = cast("DynamicSegment | None", next(file.iter_segments("PT_DYNAMIC"), None))
    return _with_dynamic(facts, dynamic) if dynamic else facts


def _with_dynamic(facts: Elf, dynamic: DynamicSegment) -> Elf:
    found: dict[str, list[str]] = {"DT_NEEDED": [], "DT_RPATH": [], "DT_RUNPATH": []}
    audited = False
    for tag in itertools.islice(dynamic.iter_tags(), _TAGS):
        name = tag.entry.d_tag
        audited |= name in ("DT_AUDIT", "DT_DEPAUDIT")
        if name in found:
            found[name].append(getattr(tag, name.removeprefix("DT_").lower()))
    return Elf(
        path=facts.path,
        interpreter=facts.interpreter,
        starts=facts.starts,
        needed=tuple(found["DT_NEEDED"]),
        rpath=_directories(found["DT_RPATH"]),
        runpath=_directories(found["DT_RUNPATH"]),
        audited=audited,
    )


def _directories(values: list[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(":") if part)
