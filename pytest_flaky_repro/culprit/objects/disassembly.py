"""Both variants of one object, side by side: which functions differ, their stacks, their probes."""

from __future__ import annotations

import difflib
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import UsageError

# objdump: `0000000000000010 <__vdso_clock_gettime>:`
_HEAD = re.compile(r"^[0-9a-f]+ <(?P<name>[^>]+)>:$")
# ... and `  1c:\tsub    $0x1008,%rsp`, or a relocation: `\t\t\t1d: R_X86_64_PLT32\tfoo-0x4`
_INSTRUCTION = re.compile(r"^\s*[0-9a-f]+:\t(?P<text>.*)$")
_RELOCATION = re.compile(r"^\s+[0-9a-f]+: (?P<kind>R_\S+)\t(?P<symbol>.*)$")
_FRAME = re.compile(r"^sub\s+\$0x(?P<bytes>[0-9a-f]+),%[re]sp$")
_PUSH = re.compile(r"^push\s")
_PROBE = re.compile(r"^(?:lock )?or[lq]\s+\$0x0,(?P<where>-?(?:0x[0-9a-f]+)?\(%[re]sp[^)]*\))$")
_ADDRESS = re.compile(r"\b[0-9a-f]+ (?=<)")
_OFFSET = re.compile(r"<(?P<name>[^>+]+)\+0x[0-9a-f]+>")


@dataclass(frozen=True)
class Function:
    """One function's instructions, with nothing in them that only says where they lie."""

    name: str
    instructions: tuple[str, ...]

    @property
    def stack(self) -> int:
        """Bytes by which it moves the stack pointer down in its code: pushes and every ``sub``.

        An upper bound of what one call takes by itself (a probing function goes down and up again).
        """
        frames = (_FRAME.match(text) for text in self.instructions)
        pushes = sum(1 for text in self.instructions if _PUSH.match(text))
        return 8 * pushes + sum(int(match["bytes"], 16) for match in frames if match)

    @property
    def probes(self) -> int:
        """How often it touches the stack without changing it: ORs with 0 at the stack pointer.

        GCC's -fstack-check and -fstack-clash-protection make them.
        """
        return sum(1 for text in self.instructions if _PROBE.match(text))


@dataclass(frozen=True)
class Difference:
    """One function in both variants; None where it is not there (inlined, say).

    ``host`` is, for a function that only the bad variant has, what it seems to be inlined into in
    the good one: the nearest of its callers that is there.
    """

    name: str
    good: Function | None
    bad: Function | None
    host: Function | None = None

    @property
    def weight(self) -> tuple[int, int, int]:
        """What to show first: more probes, more stack, more code."""
        return (
            _count(self.bad, "probes") - _count(self.good, "probes"),
            _count(self.bad, "stack") - _count(self.good, "stack"),
            len(self.bad.instructions if self.bad else ())
            - len(self.good.instructions if self.good else ()),
        )

    def columns(self) -> tuple[str, str, str]:
        """Instructions, stack bytes and probes, as "good -> bad"."""
        sizes = [str(len(f.instructions)) if f else "-" for f in (self.good, self.bad)]
        stacks = [str(f.stack) if f else "-" for f in (self.good, self.bad)]
        probes = [str(f.probes) if f else "-" for f in (self.good, self.bad)]
        return " -> ".join(sizes), " -> ".join(stacks), " -> ".join(probes)


def _count(function: Function | None, what: str) -> int:
    return int(getattr(function, what)) if function else 0


def disassemble(path: Path, objdump: str = "objdump") -> Mapping[str, Function]:
    """The functions of an object file. Raises UsageError when objdump cannot read it."""
    command = [objdump, "--disassemble", "--reloc", "--no-show-raw-insn", str(path)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise UsageError(f"{path}: objdump could not disassemble it: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(text: str) -> Mapping[str, Function]:
    """The functions in what ``objdump -dr --no-show-raw-insn`` printed, in its order."""
    functions: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        head, instruction = _HEAD.match(line), _INSTRUCTION.match(line)
        relocation = _RELOCATION.match(line)
        if head:
            lines = functions.setdefault(head["name"], [])
        elif relocation and lines:
            lines[-1] = f"{lines[-1].partition('<')[0].rstrip()} [{relocation['symbol'].strip()}]"
        elif instruction:
            lines.append(_placeless(instruction["text"]))
    return {name: Function(name, tuple(code)) for name, code in functions.items()}


def _placeless(text: str) -> str:
    text = _ADDRESS.sub("", text.partition("#")[0])
    return re.sub(r"\s+", " ", _OFFSET.sub(r"<\g<name>>", text)).strip()


def differences(good: Mapping[str, Function], bad: Mapping[str, Function]) -> list[Difference]:
    """The functions whose instructions differ; what gained most comes first."""
    names = dict.fromkeys([*good, *bad])
    found = [
        Difference(
            name, good.get(name), bad.get(name), None if name in good else _host(name, good, bad)
        )
        for name in names
    ]
    different = [
        d for d in found if not (d.good and d.bad and d.good.instructions == d.bad.instructions)
    ]
    return sorted(different, key=lambda d: d.weight, reverse=True)


def _host(name: str, good: Mapping[str, Function], bad: Mapping[str, Function]) -> Function | None:
    seen, front = {name}, [name]
    while front:
        marks = {f"<{called}>" for called in front} | {f"[{called}-0x4]" for called in front}
        front = [
            caller.name
            for caller in bad.values()
            if caller.name not in seen
            and any(mark in text for text in caller.instructions for mark in marks)
        ]
        for caller in front:
            if caller in good:
                return good[caller]
        seen |= set(front)
    return None


def side_by_side(difference: Difference, width: int = 46) -> Iterator[str]:
    """Good left, bad right; ``!`` marks another instruction, ``<`` and ``>`` one-sided ones."""
    known = difference.good or difference.host
    left = known.instructions if known else ()
    right = difference.bad.instructions if difference.bad else ()
    matcher = difflib.SequenceMatcher(None, left, right, autojunk=False)
    for what, i1, i2, j1, j2 in matcher.get_opcodes():
        ours, theirs = left[i1:i2], right[j1:j2]
        for number in range(max(len(ours), len(theirs))):
            yield _row(_at(ours, number), _at(theirs, number), same=what == "equal", width=width)


def _at(texts: Sequence[str], number: int) -> str | None:
    return texts[number] if number < len(texts) else None


def _row(good: str | None, bad: str | None, *, same: bool, width: int) -> str:
    mark = " " if same else ">" if good is None else "<" if bad is None else "!"
    return f"{_cut(good or '', width):{width}} {mark} {_cut(bad or '', width)}".rstrip()


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
