# ruff: noqa: INP001  # a file that MkDocs loads by its path
"""Fills in what the program itself knows best: its options, and its commands' own help.

    python docs/hooks/generated.py      writes it into the pages, for whoever reads them as they are

A page says ``<!-- options: NAME, NAME -->`` for a table of these options (``*``: all that no page
has shown before it), and ``<!-- commands -->`` for what each ``flaky-repro COMMAND --help`` says,
and ``<!-- benchmarks -->`` for what is in benchmarks/. What was filled in ends at ``<!-- end -->``.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from pytest_flaky_repro.cli import COMMANDS
from pytest_flaky_repro.settings import OPTIONS, Option

_OPTIONS = re.compile(r"<!-- options: (?P<names>[a-z_, *]+) -->")
_COMMANDS = "<!-- commands -->"
_BENCHMARKS = "<!-- benchmarks -->"
_END = "<!-- end -->"
_FILLED = re.compile(rf"({_OPTIONS.pattern}|{_COMMANDS}|{_BENCHMARKS})\n.*?\n{_END}", re.DOTALL)
_ROOT = Path(__file__).parents[2]
WIDTH = 92


# Pages that parts of the project bring along: in the menu once they are there.
_BROUGHT = {"A real bug, worked through": ("story*.md", "vdso*.md"), "Culprits": ("culprit*.md",)}


def on_config(config: Any) -> Any:
    """Puts into the menu what mkdocs.yml does not name: no page is left out of it."""
    docs, nav = Path(config["docs_dir"]), config["nav"]
    named = set(_pages(nav))
    place = 2
    for title, patterns in _BROUGHT.items():
        found = [p.name for pattern in patterns for p in sorted(docs.glob(pattern))]
        if found:
            nav.insert(place, {title: found})
            place += 1
            named |= set(found)
    rest = sorted({path.name for path in docs.glob("*.md")} - named)
    if rest:
        nav.append({"More": rest})
    return config


def _pages(nav: Any) -> Iterator[str]:
    """The files that a menu names."""
    if isinstance(nav, str):
        yield nav
    for item in nav.values() if isinstance(nav, dict) else nav if isinstance(nav, list) else ():
        yield from _pages(item)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for each page."""
    markdown = _FILLED.sub(lambda match: match[1], markdown)
    shown = {
        name.strip() for match in _OPTIONS.finditer(markdown) for name in match["names"].split(",")
    }
    table = lambda match: _filled(match[0], options_table(match["names"], shown))  # noqa: E731
    markdown = _OPTIONS.sub(table, markdown)
    markdown = markdown.replace(_BENCHMARKS, _filled(_BENCHMARKS, benchmarks_table()))
    commands = "\n".join(map(_section, COMMANDS)).rstrip()
    return markdown.replace(_COMMANDS, _filled(_COMMANDS, commands))


def _filled(marker: str, content: str) -> str:
    return f"{marker}\n\n{content}\n\n{_END}"


def benchmarks_table() -> str:
    """Each program in benchmarks/, by the first line of what it says of itself."""
    rows = []
    for path in sorted(_ROOT.glob("benchmarks/*.py")):
        said = ast.get_docstring(ast.parse(path.read_text())) or ""
        first = said.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        rows.append(f"| `python benchmarks/{path.name}` | {first} |")
    return "\n".join(["| command | what it measures |", "|---|---|", *rows])


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
    value = "" if option.flag else f" {option.value}"
    shown = " or ".join(f"`{name}{value}`" for name in names)
    default = "" if option.default in (None, "", ()) else str(option.default)
    marker = f"`{option.name}=`" if option.in_marker else ""
    cells = (shown, default, option.help, marker)
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


if __name__ == "__main__":
    for page in sorted((_ROOT / "docs").glob("*.md")):
        page.write_text(on_page_markdown(page.read_text()))
