# ruff: noqa: INP001  # a file that MkDocs loads by its path
"""Fills in what the program itself knows best: its options, and its commands' own help.

A page says ``<!-- options: NAME, NAME -->`` for a table of these options (``*``: all that no page
has shown before it), and ``<!-- commands -->`` for what each ``flaky-repro COMMAND --help`` says.
"""

from __future__ import annotations

import argparse
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_flaky_repro.cli import COMMANDS
from pytest_flaky_repro.settings import OPTIONS, Option

_OPTIONS = re.compile(r"<!-- options: (?P<names>[a-z_, *]+) -->")
_COMMANDS = "<!-- commands -->"
WIDTH = 92


# Pages that a part of the project brings along: in the menu once they are there.
_OPTIONAL = {"The story's own bug": "story*.md", "Finding the culprit": "culprit*.md"}


def on_config(config: Any) -> Any:
    """Puts the optional pages into the menu, each at its place."""
    docs = Path(config["docs_dir"])
    for title, pattern in reversed(_OPTIONAL.items()):
        found: list[Any] = sorted(path.name for path in docs.glob(pattern))
        if found:  # behind the tutorial
            config["nav"].insert(2, {title: found[0] if len(found) == 1 else found})
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for each page."""
    shown = {
        name.strip() for match in _OPTIONS.finditer(markdown) for name in match["names"].split(",")
    }
    markdown = _OPTIONS.sub(lambda match: options_table(match["names"], shown), markdown)
    return markdown.replace(_COMMANDS, "\n".join(map(_section, COMMANDS)))


def options_table(names: str, shown: set[str]) -> str:
    """A Markdown table of the named options; KeyError for one that does not exist."""
    known = {option.name: option for option in OPTIONS}
    wanted = [name.strip() for name in names.split(",")]
    if wanted == ["*"]:
        wanted = [name for name in known if name not in shown]
    rows = [_row(known[name]) for name in wanted]
    head = "| option | default | meaning | marker |\n|---|---|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def _row(option: Option) -> str:
    names = [option.alias] * bool(option.alias) + [option.option]
    value = "" if option.flag else f" {option.metavar}"
    shown = " or ".join(f"`{name}{value}`" for name in names)
    default = "" if option.default in (None, "", ()) else str(option.default)
    choices = f" ({', '.join(option.choices)})" if option.choices else ""
    marker = f"`{option.name}=`" if option.in_marker else ""
    cells = (shown, default, f"{option.help}{choices}", marker)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _section(name: str) -> str:
    return f"### {name}\n\n{COMMANDS[name].capitalize()}.\n\n```text\n{help_of(name)}\n```\n"


def help_of(name: str) -> str:
    """What the command says of itself, at a fixed width."""
    parser = argparse.ArgumentParser(
        prog=f"flaky-repro {name}",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=WIDTH),
    )
    import_module(f"pytest_flaky_repro.commands.{name}").add(parser)
    return parser.format_help().rstrip()
