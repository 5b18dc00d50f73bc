"""Stack frames: which functions a report names, and the first one that means something.

Frame lines are those of ``%pS``/``%pB`` (``lib/vsprintf.c``, ``kernel/kallsyms.c``):
``name+0xoffset/0xsize [module]``; ``?`` in front marks an address found on the stack that the
unwinder does not vouch for (``arch/x86/kernel/dumpstack.c``). Older kernels put ``[<address>]`` in
front, and symbolizers put ``file.c:line [inline]`` behind.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .skips import Skip

_ADDRESS = rb"(?:\(?\[<?[0-9a-fA-Fx]{6,18}>?\]\)?:? *)"
_PLACE = rb" [^\s:()]+\.[a-zA-Z]{1,3}:\d+"
FRAME = re.compile(
    rb"[ \t]*" + _ADDRESS + rb"{0,2}(?P<doubt>\? )?(?:"
    rb"(?P<symbol><?[A-Za-z_$][^\s+()]*(?: as [^\s+()]*)?)\+0x[0-9a-f]+/0x[0-9a-f]+"
    rb"|(?P<inlined>[A-Za-z_]\w*(?:\.\w+)*)" + _PLACE + rb"(?: \[inline\])?$"
    # the form of dump_backtrace_entry in arch/arm/kernel/traps.c
    rb"|\(?(?P<callee>[A-Za-z_][\w.]*)\)? from "
    rb"(?:\[<[0-9a-f]+>\] \()?(?P<caller>[A-Za-z_][\w.]*))"
)
_TRACE = re.compile(
    rb"[ \t]*(?:(?:Kernel )?[Cc]all [Tt]race ?:|NMI backtrace for cpu|Backtrace:"
    rb"|stack backtrace:|page last allocated via|Stack:\s*\[<"
    rb"|backtrace(?: \(crc \w+\))?:)"
)
ASKED_CPU = re.compile(rb"NMI backtrace for cpu \d")  # lib/nmi_backtrace.c
_TRACE_ENDS = re.compile(
    rb"[ \t]*(?:Modules linked in|---\[ end|Allocated by|Freed by|page last free"
    rb"|Last potentially|={20}"
    rb"|The buggy address|Memory state|Kernel Offset|Uninit was|Local variable|CPU: "
    rb"|Showing all locks|Object at|Allocated:|Freed:|task:|Sending NMI|Mem-Info|INFO: )"
)
_COUNTER = re.compile(
    rb"[ \t]*(?:\[<[0-9a-f]+>\] *)?"
    rb"(?:RIP:? +(?:\w{4}:)?|EIP is at |EIP: (?:\d{4}:)?|IP: |PC is at |pc *: |epc *: "
    rb"|NIP \[\w+\] |Krnl PSW : \w+ \w+ |"
    rb"nip *: |PC: |pc=|ea *: )"
    rb"(?:\[<[0-9a-fA-F]+>\] *){0,2}\(?(?P<name>[A-Za-z_<$][^\s+()]*)"
    rb"(?:\+0x[0-9a-f]+/0x[0-9a-f]+| [^\s:()]+\.[a-zA-Z]{1,3}:\d+)"
)
_SUFFIX = re.compile(r"(?:\.(?:isra|constprop|part|cold|llvm|lto_priv)(?:\.\d+)?|\.\d+)+$")


_MANGLED = re.compile(r"_Z(?P<length>[1-9]\d*)")  # Itanium C++ ABI: a plain function


@lru_cache(maxsize=4096)
def plain(name: bytes) -> str:
    """A function's name as the source has it: compiler suffixes cut off.

    >>> plain(b"do_ip_setsockopt.isra.12")
    'do_ip_setsockopt'
    """
    word = _SUFFIX.sub("", name.decode("ascii", "backslashreplace"))
    mangled = _MANGLED.match(word)
    return word if mangled is None else word[mangled.end() :][: int(mangled["length"])]


_CALL = re.compile(
    r"(?:__(?:x64|ia32|x32|arm64|arm|s390x?|riscv|se|do)_(?:compat_)?(?=sys_)"
    r"|compat_SyS_|compat_sys_|SyS_|SYSC_|sys_(?=[a-z]))"
)
_IPI = re.compile(r"smp_call_function_\w+")


def canonical(name: str) -> str:
    """One name for the entry points of a system call, whatever the ABI, and of a cross call.

    >>> canonical("__x64_sys_rmdir"), canonical("__ia32_sys_rmdir")
    ('sys_rmdir', 'sys_rmdir')
    """
    if _IPI.fullmatch(name):
        return "smp_call_function"
    return _CALL.sub("", name, count=1) if _CALL.match(name) else name


class Frame(NamedTuple):
    """One stack frame; ``sure`` is False for an address the unwinder does not vouch for."""

    name: str
    sure: bool = True


@dataclass(frozen=True)
class Trace:
    """What one report says of where it happened, the first stack first."""

    counters: tuple[Frame, ...]  # program counters in kernel mode (RIP, PC is at, ...)
    stacks: tuple[tuple[Frame, ...], ...]

    @property
    def first(self) -> tuple[Frame, ...]:
        """The first stack that holds a frame."""
        return next((stack for stack in self.stacks if stack), ())


def frame_of(text: bytes) -> Frame | None:
    """The frame on one line, or None."""
    match = FRAME.match(text)
    if match is None:
        return None
    return Frame(plain(match["symbol"] or match["inlined"] or match["callee"]), not match["doubt"])


class TraceReader:
    """Takes a report's lines one by one and keeps its program counters and stacks.

    ``bare``: stacks come without a ``Call Trace:`` line in front (KMSAN, KCSAN, KFENCE).
    """

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare
        self._counters: list[Frame] = []
        self._stacks: list[list[Frame]] = []
        self._inside = False

    def take(self, text: bytes) -> bool:
        """Take one line; True when it ended a stack that holds frames."""
        if self._inside or self._bare:
            frame = frame_of(text)
            if frame is not None:
                if not self._inside:
                    self._stacks.append([])
                    self._inside = True
                self._add(text, frame)
                return False
        if _TRACE.match(text):
            ended = self._inside and bool(self._stacks[-1])
            self._stacks.append([])
            self._inside = True
            return ended
        counter = _COUNTER.match(text)
        if counter is not None:
            known = self._stacks[-1] if self._inside and self._stacks[-1] else self._counters
            known.append(Frame(plain(counter["name"])))
        elif self._inside and (not text.strip() or _TRACE_ENDS.match(text)):
            self._inside = not self._stacks[-1]
            return not self._inside
        return False

    def _add(self, text: bytes, frame: Frame) -> None:
        """Add a frame; "a from b" names two, of which the next line names b again."""
        stack = self._stacks[-1]
        match = FRAME.match(text) if b" from " in text else None
        if match is None or match["caller"] is None:
            stack.append(frame)
            return
        if not stack or stack[-1].name != frame.name:
            stack.append(frame)
        stack.append(Frame(plain(match["caller"])))

    def names(self, skip: Skip) -> bool:
        """Whether the newest frame of a stack means something."""
        stack = self._stacks[-1] if self._stacks else []
        return bool(stack) and stack[-1].sure and stack[-1].name not in skip

    @property
    def latest(self) -> Sequence[Frame]:
        """The last stack that holds a frame."""
        return next((stack for stack in reversed(self._stacks) if stack), ())

    @property
    def trace(self) -> Trace:
        """All that was read so far."""
        return Trace(tuple(self._counters), tuple(tuple(stack) for stack in self._stacks))


def first_meaning(frames: Sequence[Frame], skip: Skip) -> str | None:
    """The first function that is sure and not on the skip list."""
    return next((f.name for f in frames if f.sure and f.name not in skip), None)
