"""Result frames: how the guest agent and the host talk over a serial line.

One frame is one ASCII line, the same in both directions (the agent's side is ``frames.h``)::

    @FR1 <nonce> <sequence> <KIND> <key=value ...> <crc32: 8 hex digits>

The checksum (CRC-32 as in zlib) covers everything from the nonce to the byte before the space in
front of it. A line may have console text glued to its front; anything after ``@FR1`` must be whole.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

MARK = b"@FR1 "
LINE_MAX = 64 * 1024

_FRAME = re.compile(
    rb"@FR1 (?P<body>(?P<nonce>[!-~]{1,64}) (?P<seq>[0-9]{1,12}) (?P<kind>[A-Z]{2,8})"
    rb"(?P<payload>(?: [a-z_]+=[!-~]*)*)) (?P<crc>[0-9a-f]{8})\r*$"
)


class Kind(enum.Enum):
    """Frame kinds; the first four come from the guest, the last three from the host."""

    READY = "READY"
    START = "START"
    OUT = "OUT"
    END = "END"
    RUN = "RUN"
    ACK = "ACK"
    QUIT = "QUIT"


@dataclass(frozen=True)
class Frame:
    """An intact frame: its grammar and checksum are right. Whose nonce it is, is not checked."""

    nonce: str
    sequence: int
    kind: Kind
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Damaged:
    """A line that begins like a frame and is not one."""

    line: bytes


def encode(frame: Frame) -> bytes:
    """The frame as a line, newline included."""
    words = [frame.nonce, str(frame.sequence), frame.kind.value]
    words += [f"{key}={value}" for key, value in frame.fields.items()]
    body = " ".join(words).encode("ascii")
    line = MARK + body + b" %08x" % zlib.crc32(body)
    if _FRAME.match(line) is None:
        msg = f"not a frame: {line!r}"
        raise ValueError(msg)
    return line + b"\n"


def decode(line: bytes) -> Frame | Damaged | None:
    """One line without its newline: a frame, something that was meant to be one, or neither."""
    at = line.rfind(MARK)
    if at < 0:
        return None
    match = _FRAME.match(line, at)
    if match is None or int(match["crc"], 16) != zlib.crc32(match["body"]):
        return Damaged(line[at:])
    try:
        kind = Kind(match["kind"].decode())
    except ValueError:
        return Damaged(line[at:])
    pairs = (word.split("=", 1) for word in match["payload"].decode().split())
    return Frame(match["nonce"].decode(), int(match["seq"]), kind, dict(pairs))


class Scanner:
    """Finds frames in a stream of bytes; the answer does not depend on how the stream is cut."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, chunk: bytes) -> Iterator[Frame | Damaged]:
        """Frames and damaged frames that these bytes complete, in order."""
        lines = chunk.split(b"\n")
        for part in lines[:-1]:
            self._take(part)
            found = decode(bytes(self._line))
            self._line.clear()
            if found is not None:
                yield found
        self._take(lines[-1])

    def _take(self, part: bytes) -> None:
        """Adds to the line being read; only its last ``LINE_MAX`` bytes can matter."""
        self._line += part[-LINE_MAX:]
        if len(self._line) > 2 * LINE_MAX:
            del self._line[:-LINE_MAX]


def pack(data: bytes) -> str:
    """Bytes as a frame value."""
    return base64.b64encode(data).decode("ascii")


def unpack(value: str) -> bytes:
    """The bytes of a frame value; empty when it is not base64."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""


def console_check(nonce: str) -> bytes:
    """What the agent prints through printk to prove that kernel messages reach the host."""
    return b"flaky-repro: console check " + nonce.encode("ascii")


def run_mark(token: str) -> bytes:
    """What the agent prints through printk right before START: where a trial's console begins.

    The reproducer can read it, so ``token`` tells nothing of the nonce of the run's frames.
    """
    return b"flaky-repro: run " + token.encode("ascii")


def run_end(token: str) -> bytes:
    """What the agent prints through printk right behind a run, at the level of a warning.

    A console that shows it has shown every warning and worse of the run, unless the levels were
    turned down and up again meanwhile.
    """
    return b"flaky-repro: end " + token.encode("ascii")
