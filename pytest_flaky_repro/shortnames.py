"""The short option names, such as ``--kernel`` for ``--repro-kernel``, where nobody else has them.

A short name may also be an option of the project's own conftest.py, or of another plugin, and
pytest refuses an option that two of them add: a project would break as soon as this plugin is
installed. So short names are never added to pytest's parser; they are spelled out in the words of
the command line, before pytest reads them, unless somebody else has added them by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_flaky_repro.settings import OPTIONS

if TYPE_CHECKING:
    import pytest

SHORT_NAMES = {option.alias: option.option for option in OPTIONS if option.alias is not None}


def spell_out(args: Sequence[str], parser: pytest.Parser) -> list[str]:
    """``args`` with our short names written in full, but for those that somebody has added."""
    used = {word.partition("=")[0] for word in args} & SHORT_NAMES.keys()
    if not used:
        return list(args)
    free = used - set(_option_names(parser))
    return [_spelled(word, free) for word in args]


def _spelled(word: str, free: set[str]) -> str:
    name, equals, value = word.partition("=")
    return f"{SHORT_NAMES[name]}{equals}{value}" if name in free else word


def _option_names(parser: pytest.Parser) -> Iterator[str]:
    """All that anybody has added so far; there is no public way to ask."""
    for group in (*parser._groups, parser._anonymous):  # noqa: SLF001
        for option in group.options:
            yield from option.names()
