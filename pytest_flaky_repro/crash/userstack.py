"""User-space stacks: Go's, Python's, and the ``#N`` lines of sanitizers and debuggers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .frames import Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .records import Record

# sanitizer_stacktrace_printer.cpp: "#0 0x55ac in name file:line:column (module+0xoffset)"
_NUMBERED = re.compile(rb"\s*#\d+:? +(?:0x[0-9a-f]+,? +)?(?:in +)?(?P<name>[^\n]*)$")
# runtime/traceback.go: "package/path.(*Type).method(arguments)"
_GO = re.compile(rb"\s*(?P<name>[A-Za-z_][\w./\-%]*\.[\w.()*\[\]/{}]+?)\((?:[^()]*|.*)\)$")
_PYTHON = re.compile(rb'\s+File "[^"]+", line \d+, in (?P<name>\S+)$')
_WHERE = re.compile(
    r"\s+(?:\([^()]*\+0x[0-9a-f]+\)|\(BuildId: \w+\)|\S*:\d+\S*|\?\?:\S*|<null>|_asan_rtl_"
    r"|(?:[A-Za-z]:)?[\\/]\S+|at|from)$"
)
_ARGUMENTS = re.compile(r"(?:\s*\(.*$| const$)")
# What a program's own function is called through, or dies in.
_DULL = re.compile(
    r"_*interceptor\S*|_*(asan|msan|tsan|ubsan|lsan|hwasan|sanitizer|libc|pthread)\w*|0x[0-9a-f]+"
    r"|_start|start_thread|clone3?|(mm|re|c|std::)?(malloc|calloc|realloc|free|strn?dup)"
    r"|operator (new|delete).*|operator|operator->|abort|raise|g?signal|kill|mem\w+|str\w+|poll"
    r"|_*assert\w*|g_assert\w*|_*\w+_chk\w*|__?cxa_\w+|V8_Fatal|WTFCrash\w*|.*Die\(\)"
    r"|(internal/)?runtime(/\w+)*\..*|panic|testing\.\w+.*|sync(/atomic)?\..*|syscall\..*"
    r"|std::.*|core::panicking.*|rust_begin_unwind|fuzzer::.*|base::debug::.*|logging::\w*Log\w*.*"
    r"|testing::.*|fuzztest::.*|\(?<null>|<unknown.*|\?\?"
)


# runtime/traceback.go: "goroutine 37 gp=0x... m=3 [running, locked to thread]:"
_GOROUTINE = re.compile(rb"(?:goroutine \d+ .*\[(?P<state>[^\]]+)\]|(?P<runtime>runtime stack)):")
_DYING = re.compile(
    r"runtime\.(throw|fatal\w*|sigpanic\w*|gopanic|panic\w*|goPanic\w*|systemstack\w*|morestack\w*)"
    r"|internal/runtime/maps\.fatal|panic"
)


def user_frames(lines: Sequence[Record]) -> list[Frame]:
    """The frames of the user-space stack that a report is about, the program's own first.

    Python's stack is printed outermost first, so its frames come back in reverse.
    """
    if any(_GOROUTINE.match(record.text) for record in lines):
        return _goroutine_frames(lines)
    return _first_frames(lines)


def _goroutine_frames(lines: Sequence[Record]) -> list[Frame]:
    """The running goroutine's frames; the runtime's own count where it has none of the program.

    Without a running goroutine the runtime's stack speaks, and in a deadlock the first one.
    """
    stacks: list[tuple[str, list[Frame]]] = []
    for record in lines:
        head = _GOROUTINE.match(record.text)
        if head is not None:
            state = "runtime" if head["runtime"] else head["state"].decode("utf-8", "replace")
            stacks.append((state, []))
            continue
        name = _name(record.text) if stacks else None
        if name is not None and not _DYING.fullmatch(name):
            stacks[-1][1].append(Frame(name))
    running = [frames for state, frames in stacks if state.startswith("running")]
    chosen = running or [frames for _, frames in stacks[:1]]
    own = [f for frames in chosen[:1] for f in frames if not _DULL.fullmatch(f.name)]
    return own or [f for _, frames in stacks[:1] for f in frames]


def _first_frames(lines: Sequence[Record]) -> list[Frame]:
    frames: list[Frame] = []
    inner: list[Frame] = []
    for record in lines:
        text = record.text
        python = _PYTHON.match(text)
        if python is not None:
            inner.insert(0, Frame(python["name"].decode("utf-8", "replace")))
            continue
        name = _name(text)
        if name is not None and not _DULL.fullmatch(name):
            frames.append(Frame(name))
        elif frames and not text.strip():
            break
    return inner or frames


def _name(text: bytes) -> str | None:
    numbered = _NUMBERED.match(text)
    if numbered is None:
        go = _GO.match(text)
        return None if go is None else go["name"].decode("utf-8", "replace")
    name = numbered["name"].decode("utf-8", "replace").rstrip()
    shorter = _WHERE.sub("", name)
    while shorter != name:
        name, shorter = shorter, _WHERE.sub("", shorter)
    if name.startswith("("):
        return None
    return _ARGUMENTS.sub("", name).strip() or None
