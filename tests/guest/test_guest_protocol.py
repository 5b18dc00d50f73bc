"""Result frames: what is sent is read, however it is cut up; what is damaged or forged is not."""

from __future__ import annotations

import itertools
import re
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.guest import protocol
from pytest_flaky_repro.guest.protocol import Damaged, Frame, Kind, Scanner

printable = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
frames = st.builds(
    Frame,
    nonce=st.text(printable, min_size=1, max_size=64),
    sequence=st.integers(0, 10**12 - 1),
    kind=st.sampled_from(Kind),
    fields=st.dictionaries(
        st.from_regex(r"[a-z_]{1,12}", fullmatch=True), st.text(printable, max_size=40), max_size=5
    ),
)
noise = st.binary(max_size=60).filter(lambda raw: b"@FR1 " not in raw)
END = Frame("a0b1", 7, Kind.END, {"how": "exit", "code": "0"})


def scan(*chunks: bytes) -> list[Frame | Damaged]:
    scanner = Scanner()
    return [found for chunk in chunks for found in scanner.feed(chunk)]


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges)]


@given(frames)
def test_a_frame_that_is_sent_is_read_back(frame: Frame) -> None:
    assert protocol.decode(protocol.encode(frame).rstrip(b"\n")) == frame


@given(frames)
def test_the_checksum_is_zlibs_crc32_from_the_nonce_on(frame: Frame) -> None:
    line = protocol.encode(frame)
    body, _, crc = line[len(b"@FR1 ") : -1].rpartition(b" ")
    assert int(crc, 16) == zlib.crc32(body)


@given(st.lists(st.tuples(noise, frames), max_size=5), st.lists(st.integers(0, 2000), max_size=12))
def test_how_the_stream_is_cut_changes_nothing(
    sent: list[tuple[bytes, Frame]], cuts: list[int]
) -> None:
    stream = b"".join(before + b"\n" + protocol.encode(frame) for before, frame in sent)
    assert scan(*pieces(stream, cuts)) == [frame for _, frame in sent]


@given(frames, noise.filter(lambda raw: b"\n" not in raw))
def test_console_text_may_stick_to_a_frames_front(frame: Frame, text: bytes) -> None:
    glued = text + protocol.encode(frame)
    assert scan(glued) == [frame]


@given(frames, st.data())
def test_a_torn_frame_is_damaged_and_nothing_else(frame: Frame, data: st.DataObject) -> None:
    line = protocol.encode(frame)
    at = data.draw(st.integers(len(b"@FR1 "), len(line) - 1), label="torn at")
    (found,) = scan(line[:at] + b"[    0.1] printk spoke here\n")
    assert isinstance(found, Damaged)


@given(frames, st.data())
def test_one_flipped_bit_is_noticed(frame: Frame, data: st.DataObject) -> None:
    line = bytearray(protocol.encode(frame)[:-1])
    at = data.draw(st.integers(len(b"@FR1 "), len(line) - 1), label="byte")
    line[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    found = scan(bytes(line) + b"\n")
    assert frame not in found


def test_a_wrong_checksum_is_damage() -> None:
    line = re.sub(rb"[0-9a-f]{8}\n$", b"00000000\n", protocol.encode(END))
    assert scan(line) == [Damaged(line[:-1])]


def test_a_forged_nonce_is_read_as_what_it_says() -> None:
    """Whose nonce it is, is for the machine to judge: the frame itself is whole."""
    forged = Frame("f" * 16, 1, Kind.END, {"how": "exit", "code": "0"})
    assert scan(protocol.encode(forged)) == [forged]


def test_an_unknown_kind_is_damage() -> None:
    body = b"a0b1 7 VICTORY"
    line = b"@FR1 " + body + b" %08x" % zlib.crc32(body)
    assert scan(line + b"\n") == [Damaged(line)]


@pytest.mark.parametrize("length", [protocol.LINE_MAX, 40 * protocol.LINE_MAX])
def test_a_line_without_end_costs_bounded_memory(length: int) -> None:
    scanner = Scanner()
    for _ in range(0, length, 4096):
        assert list(scanner.feed(b"x" * 4096)) == []
    assert len(scanner._line) <= 2 * protocol.LINE_MAX
    assert list(scanner.feed(protocol.encode(END))) == [END]


@given(st.binary(max_size=200))
def test_bytes_survive_packing(data: bytes) -> None:
    assert protocol.unpack(protocol.pack(data)) == data


def test_what_is_not_base64_unpacks_to_nothing() -> None:
    assert protocol.unpack("not base64!") == b""


@pytest.mark.parametrize("bad", [{"key": "two words"}, {"Key": "x"}, {"key": "new\nline"}])
def test_what_would_break_the_grammar_cannot_be_sent(bad: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="not a frame"):
        protocol.encode(Frame("a0", 1, Kind.RUN, bad))
