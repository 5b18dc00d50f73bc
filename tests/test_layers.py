"""The layout is a promise: imports go down only, and each outside thing has one owner."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

PACKAGE = "pytest_flaky_repro"
ROOT = Path(__file__).parent.parent / PACKAGE

LAYERS: dict[str, tuple[int, str]] = {
    **dict.fromkeys(
        (
            *("plugin", "hooks", "fixtures", "repro", "collect", "vm", "rootdir", "shortnames"),
            *("cli", "commands", "__main__"),
        ),
        (7, "surface"),
    ),
    **dict.fromkeys(
        (
            *("settings", "session", "kernels", "request", "question", "cache", "bench"),
            *("conduct", "unstarted", "progress", "xdist", "report", "culprit_guests", "boots"),
        ),
        (6, "presentation"),
    ),
    "campaign": (5, "campaign"),
    "culprit": (5, "campaign"),
    **dict.fromkeys(("evidence", "journal"), (4, "evidence")),
    "machine": (3, "machine"),
    "guest": (2, "guest"),
    **dict.fromkeys(("stats", "crash"), (1, "pure")),
    **dict.fromkeys(("errors", "outcomes"), (0, "words")),
}
FACADE = ""  # the package's own __init__: re-exports lazily, and may name anything
VAGUE = {"utils", "util", "helpers", "common", "manager", "misc", "base"}

# a module from outside -> the rooms that may import it
OWNERS: dict[str, set[str]] = {
    "pytest": {"surface", "presentation"},
    "_pytest": {"rootdir"},
    "xdist": set(),
    "pytest_timeout": set(),
    "argparse": {"cli", "commands"},
    "numpy": {"stats"},
    "scipy": {"stats"},
    "elftools": {"guest"},
    "ctypes": {"machine"},
    "fcntl": {"machine", "journal", "culprit"},
    "subprocess": {"machine", "guest", "commands", "culprit"},
    "selectors": {"machine"},
    "socket": {"machine", "journal"},
    "threading": {"machine", "campaign"},
    "asyncio": {"machine"},  # on a cluster's workers only
    "distributed": {"machine"},
    "sqlite3": set(),
    "matplotlib": {"report"},
    "jinja2": {"report"},
    "markupsafe": {"report"},
    "prometheus_client": {"report"},
    "pytest_html": {"report"},
}


@dataclass(frozen=True)
class Import:
    """One import statement: who names what. ``typing`` when only type checkers see it."""

    importer: str
    imported: str
    line: int
    typing: bool

    def __str__(self) -> str:
        return f"{self.importer or PACKAGE}:{self.line} imports {self.imported or PACKAGE}"


def modules() -> dict[str, Path]:
    """Each module's name, without the package's, and its file."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def imports_of(name: str) -> list[tuple[str, int, bool]]:
    """Absolute names of all that a module imports, wherever in the file, with line and typing."""
    return list(_imports_of(name))


def _imports_of(name: str) -> Iterator[tuple[str, int, bool]]:
    tree = ast.parse(MODULES[name].read_text())
    typing = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno, id(node) in typing
        elif isinstance(node, ast.ImportFrom):
            source = _source(name, node)
            for alias in node.names:
                full = f"{source}.{alias.name}"
                is_module = full.removeprefix(f"{PACKAGE}.") in MODULES
                yield full if is_module else source, node.lineno, id(node) in typing


def _source(name: str, node: ast.ImportFrom) -> str:
    """The full name of what ``from X import`` names; dots count from the importer's package."""
    if node.level == 0:
        return node.module or ""
    package = [PACKAGE, *name.split(".")]
    if MODULES[name].name != "__init__.py":
        package.pop()
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


def inner_imports() -> list[Import]:
    """All imports of the package's modules by each other."""
    return [
        Import(name, imported.removeprefix(PACKAGE).lstrip("."), line, typing)
        for name in MODULES
        for imported, line, typing in imports_of(name)
        if imported.split(".")[0] == PACKAGE
    ]


def room(module: str) -> str:
    return module.partition(".")[0]


@pytest.mark.parametrize("name", [name for name in MODULES if name != FACADE])
def test_every_module_belongs_to_a_layer(name: str) -> None:
    assert room(name) in LAYERS, f"{name} is new: give its room a layer in {Path(__file__).name}"


def test_every_room_with_a_layer_is_still_there() -> None:
    gone = set(LAYERS) - {room(name) for name in MODULES}
    assert not gone


def test_imports_never_go_up() -> None:
    upward = [
        str(found)
        for found in inner_imports()
        if found.importer != FACADE
        and LAYERS[room(found.importer)][0] < LAYERS[room(found.imported)][0]
    ]
    assert upward == []


def test_pure_rooms_do_not_know_each_other() -> None:
    pure = {name for name, (level, _) in LAYERS.items() if level == 1}
    acquainted = [
        str(found)
        for found in inner_imports()
        if {room(found.importer), room(found.imported)} <= pure
        and room(found.importer) != room(found.imported)
    ]
    assert acquainted == []


def test_no_module_imports_the_package_s_front() -> None:
    assert [str(i) for i in inner_imports() if i.imported == FACADE] == []


def test_there_are_no_import_cycles() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for found in inner_imports():
        if not found.typing and found.importer not in (FACADE, found.imported):
            graph[found.importer].add(found.imported)
    while graph:  # take away what imports nothing that is left
        leaves = {name for name, imported in graph.items() if not imported & graph.keys()}
        assert leaves, f"a cycle runs through some of: {sorted(graph)}"
        graph = {name: imported for name, imported in graph.items() if name not in leaves}


@pytest.mark.parametrize("name", MODULES)
def test_no_module_has_a_vague_name(name: str) -> None:
    assert not VAGUE & set(name.split("."))


@pytest.mark.parametrize("outside", OWNERS)
def test_what_comes_from_outside_has_its_owners(outside: str) -> None:
    strangers = [
        f"{name}:{line}"
        for name in MODULES
        if name != FACADE
        for imported, line, typing in imports_of(name)
        if imported.split(".")[0] == outside
        and not typing
        and not {room(name), LAYERS[room(name)][1]} & OWNERS[outside]
    ]
    assert strangers == [], f"{outside} is for {sorted(OWNERS[outside]) or 'nobody'}"


def test_scipy_stats_is_never_imported() -> None:
    """It costs three times what scipy.special does, and the plugin's users would wait for it."""
    guilty = [
        f"{name}:{line}"
        for name in MODULES
        for imported, line, _ in imports_of(name)
        if imported.startswith("scipy.stats")
    ]
    assert guilty == []


@pytest.mark.parametrize("name", [name for name in MODULES if name != FACADE])
def test_every_module_postpones_its_annotations(name: str) -> None:
    text = MODULES[name].read_text()
    defines = (ast.FunctionDef, ast.ClassDef, ast.AnnAssign)
    has_annotations = any(isinstance(node, defines) for node in ast.walk(ast.parse(text)))
    assert not has_annotations or "from __future__ import annotations" in text
