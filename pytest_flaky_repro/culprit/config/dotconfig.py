"""A kernel's ``.config``: values out of the text, text out of values.

The format is that of Documentation/kbuild/kconfig.rst: ``CONFIG_X=value``, and
``# CONFIG_X is not set`` for a bool or tristate that is off. What is not mentioned has no value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pytest_flaky_repro.errors import UsageError

NOT_SET = "n"
_LINE = re.compile(r"CONFIG_(?P<set>\w+)=(?P<value>.*)|# CONFIG_(?P<unset>\w+) is not set")
_TITLE = re.compile(r"# Linux/(?P<arch>\w+) (?P<version>\S+) Kernel Configuration")

Values = Mapping[str, str]


def parse(text: str) -> dict[str, str]:
    """Values by name without ``CONFIG_``, as written (strings with their quotes); the last wins."""
    values = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            values[match["set"] or match["unset"]] = match["value"] or NOT_SET
    return values


def render(values: Values) -> str:
    """The lines of a .config with these values."""
    return "".join(line(name, value) + "\n" for name, value in values.items())


def line(name: str, value: str) -> str:
    """One option as a .config has it."""
    return f"# CONFIG_{name} is not set" if value == NOT_SET else f"CONFIG_{name}={value}"


def read(path: Path, option: str) -> str:
    """A .config's text; UsageError naming ``option`` when it is none."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{option} {path}: cannot be read: {error.strerror}") from error
    if not parse(text):
        raise UsageError(
            f"{option} {path}: expected a kernel's .config, found no line like CONFIG_X=y in it"
        )
    return text


def architecture(text: str) -> str | None:
    """The ARCH that a .config was made for, if its title line is still there."""
    match = _TITLE.search(text)
    return match["arch"] if match else None
