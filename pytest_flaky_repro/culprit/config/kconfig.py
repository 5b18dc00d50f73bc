"""What the Kconfig files say about their symbols, as far as an order of options needs it.

Only names are read: which symbols have a prompt, what each one mentions in its dependencies, what
selects what, which ones share a choice. No expression is evaluated, and it need not be: the order
made from this says which option to change first, and the kernel's own ``make olddefconfig``
settles what each configuration really is. The language is that of
Documentation/kbuild/kconfig-language.rst and kconfig-macro-language.rst.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pytest_flaky_repro.errors import UsageError

# SRCARCH where it is not ARCH itself (the kernel's top Makefile)
_SOURCE_ARCH = {"i386": "x86", "x86_64": "x86", "sparc32": "sparc", "sparc64": "sparc",
                "parisc64": "parisc"}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9_]+")
_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'')
_NOT_SYMBOLS = frozenset({"y", "m", "n", "if", "on"})
_TYPES = frozenset({"bool", "tristate", "int", "hex", "string"})
_TWO_STATES = frozenset({"bool", "tristate"})


@dataclass
class Symbol:
    """One symbol, over all the places that define it."""

    name: str
    place: int  # 0, 1, 2... in the order in which the files are read
    kind: str = ""  # bool, tristate, int, hex, string
    prompt: bool = False
    choice: int | None = None  # which choice it is a member of
    needs: set[str] = field(default_factory=set)  # named in its dependencies
    shown_if: set[str] = field(default_factory=set)  # named in its prompt's condition: X, or !X
    selects: set[str] = field(default_factory=set)  # selected or implied by it
    defaults: set[str] = field(default_factory=set)  # named in its default values

    @property
    def is_switch(self) -> bool:
        """Whether it is off when it has no value."""
        return self.kind in _TWO_STATES


Symbols = dict[str, Symbol]


def read_kconfig(source: Path, arch: str) -> Symbols:
    """All symbols that the tree's top ``Kconfig`` leads to, in the order they are met."""
    top = source / "Kconfig"
    if not top.is_file():
        raise UsageError(f"--source {source}: expected a kernel's source tree, there is no {top}")
    variables = {"SRCARCH": _SOURCE_ARCH.get(arch, arch), "ARCH": arch, "HEADER_ARCH": "x86"}
    reader = _Reader(source, variables)
    reader.file(top)
    return reader.symbols


@dataclass
class _Block:
    """An ``if``, ``menu`` or ``choice``: what holds for all symbols inside."""

    needs: set[str] = field(default_factory=set)
    shown_if: set[str] = field(default_factory=set)


class _Reader:
    """Reads files one within another, knowing which ``if``, ``menu`` and ``choice`` are open."""

    def __init__(self, source: Path, variables: dict[str, str]) -> None:
        self.symbols: Symbols = {}
        self._source = source
        self._variables = variables
        self._around: list[_Block] = []  # the open ones
        self._choices: list[int] = []  # the open ones
        self._choices_seen = 0
        self._entry: _Block | Symbol = _Block()  # what attribute lines belong to

    def file(self, path: Path) -> None:
        if not path.is_file():
            return  # a file that make will complain about, if it matters
        for text in _statements(path.read_text(encoding="utf-8", errors="replace")):
            keyword, _, rest = text.partition(" ")
            self._statement(keyword, rest.strip())

    def _statement(self, keyword: str, rest: str) -> None:
        if keyword in ("config", "menuconfig"):
            self._entry = self._symbol(rest)
        elif keyword in ("if", "menu", "choice"):
            self._open(keyword, rest)
        elif keyword in ("endif", "endmenu", "endchoice"):
            self._close(keyword)
        elif keyword == "source":
            self._entry = _Block()
            self.file(self._source / _expand(rest.strip("\"'"), self._variables))
        elif keyword in ("comment", "mainmenu"):
            self._entry = _Block()
        elif isinstance(self._entry, Symbol):
            _attribute(self._entry, keyword, rest)
        elif keyword == "depends":
            self._entry.needs |= names(rest)
        elif keyword in ("visible", "prompt", *_TYPES):
            self._entry.shown_if |= signed_names(_condition(rest))

    def _symbol(self, name: str) -> Symbol:
        symbol = self.symbols.setdefault(name, Symbol(name, len(self.symbols)))
        for block in self._around:
            symbol.needs |= block.needs
            symbol.shown_if |= block.shown_if
        if self._choices:
            symbol.choice = self._choices[-1]
        return symbol

    def _open(self, keyword: str, rest: str) -> None:
        self._entry = _Block(names(rest) if keyword == "if" else set())
        self._around.append(self._entry)
        if keyword == "choice":
            self._choices.append(self._choices_seen)
            self._choices_seen += 1

    def _close(self, keyword: str) -> None:
        self._entry = _Block()
        if self._around:
            self._around.pop()
        if keyword == "endchoice" and self._choices:
            self._choices.pop()


def _attribute(symbol: Symbol, keyword: str, rest: str) -> None:
    """A line below ``config``."""
    if keyword in _TYPES or keyword == "prompt":
        symbol.kind = keyword if keyword in _TYPES else symbol.kind
        symbol.prompt = symbol.prompt or rest[:1] in ('"', "'")
        symbol.shown_if |= signed_names(_condition(rest))
    elif keyword in ("def_bool", "def_tristate"):
        symbol.kind = keyword.removeprefix("def_")
        symbol.defaults |= names(rest)
    elif keyword == "default":
        symbol.defaults |= names(rest)
    elif keyword == "depends":
        symbol.needs |= names(rest)
    elif keyword in ("select", "imply"):
        symbol.selects |= names(rest.partition(" if ")[0])


def _condition(rest: str) -> str:
    """The expression in ``bool "prompt" if EXPR`` and in ``visible if EXPR``."""
    return _QUOTED.sub("", rest).partition("if ")[2]


def names(expression: str) -> set[str]:
    """The symbols that an expression mentions."""
    bare = _QUOTED.sub(" ", _without_macros(expression))
    return {name for name in _NAME.findall(bare) if name not in _NOT_SYMBOLS and not name.isdigit()}


def signed_names(expression: str) -> set[str]:
    """The symbols that an expression mentions, with ``!`` before those that it denies."""
    found = names(expression)
    denied = {name for name in found if re.search(rf"!\s*{name}\b", expression)}
    return (found - denied) | {f"!{name}" for name in denied}


def _without_macros(text: str) -> str:
    """Leaves out ``$(...)``, which may hold further ones."""
    kept, depth, at = [], 0, 0
    while at < len(text):
        if text.startswith("$(", at):
            depth += 1
            at += 2
            continue
        if depth:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
        else:
            kept.append(text[at])
        at += 1
    return "".join(kept)


def _expand(path: str, variables: dict[str, str]) -> str:
    return re.sub(r"\$\((\w+)\)", lambda match: variables.get(match[1], match[0]), path)


def _statements(text: str) -> Iterator[str]:
    """Lines that say something: joined at backslashes, without comments and help texts."""
    lines = iter(text.replace("\\\n", " ").splitlines())
    pending = next(lines, None)
    while pending is not None:
        words = _without_comment(pending).split()
        pending = None
        if words and words[0] in ("help", "---help---"):
            pending = _after_help(lines)
        elif words:
            yield " ".join(words)
        if pending is None:
            pending = next(lines, None)


def _after_help(lines: Iterator[str]) -> str | None:
    """The first line that no longer belongs to a help text: it is indented less than that."""
    indent = None
    for text in lines:
        if not text.strip():
            continue
        here = _indent(text)
        if indent is None:
            if here == 0:
                return text
            indent = here
        elif here < indent:
            return text
    return None


def _indent(text: str) -> int:
    expanded = text.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


def _without_comment(text: str) -> str:
    if "#" not in text:
        return text
    covered = _QUOTED.sub(lambda match: "_" * len(match[0]), text)
    return text[: covered.index("#")] if "#" in covered else text
