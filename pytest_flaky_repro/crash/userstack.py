"""User-space stacks: Go's, and the ``#N 0xaddress in function`` lines of sanitizers and gdb."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .frames import Frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .records import Record

_NUMBERED = re.compile(
    rb"\s*#\d+ +(?:0x[0-9a-f]+ +)?(?:in +)?(?P<name>[^\s(][^\n]*?)(?: \(.*\)| /\S+| [\w./-]+:\d+\S*| <null>)*$"
)
_GO = re.compile(rb"\s*(?P<name>[A-Za-z_][\w./\-%]*\.[\w.()*\[\]/{}]+?)\((?:[^()]*|\.\.\.|.*)\)$")
_DULL = re.compile(
    r"_*interceptor_\w+|_*interceptor\S*|_*(asan|msan|tsan|ubsan|lsan|hwasan|sanitizer|libc)\w*"
    r"|_start|_*libc_start\w*|start_thread|clone3?|main_impl|(malloc|calloc|realloc|free|strdup)"
    r"|operator (new|delete).*|pthread_create|abort|raise|gsignal|_*assert\w*|mem\w+|str\w+"
    r"|(internal/)?runtime(/\w+)*\..*|panic|testing\.\w+.*|sync(/atomic)?\..*|syscall\..*"
    r"|_*\w+_chk\w*|std::.*|core::panicking.*|rust_begin_unwind|fuzzer::.*|.*Die\(\)"
)
_FUNCTION_END = re.compile(r"\(.*$")


def user_frames(lines: Iterable[Record]) -> list[Frame]:
    """The frames of the first user-space stack that names a function of the program."""
    frames: list[Frame] = []
    for record in lines:
        text = record.text
        numbered = _NUMBERED.match(text)
        match = numbered or _GO.match(text)
        if match is not None:
            name = match["name"].decode("utf-8", "replace")
            if numbered is not None:
                name = _FUNCTION_END.sub("", name)
            if name and not _DULL.fullmatch(name):
                frames.append(Frame(name))
        elif frames and not text.strip():
            break
    return frames
