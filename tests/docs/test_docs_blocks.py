"""What the pages show is what happens: their code blocks are run, in order, page by page.

- a block with a title is a file of that name;
- ``console``: lines that begin with ``$ `` are given to one shell, the others are what it prints,
  with ``...`` for what differs (as in doctest); a command that shows nothing has to succeed;
- ``python`` without a title is run; ``sh`` is only read by the shell (it installs, or builds
  kernels); ``ini``, ``toml``, ``yaml`` and ``json`` have to be well-formed.

Kernels are real, and small: the fetched one is the tests' own, put where a download would be.
"""

from __future__ import annotations

import configparser
import doctest
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.glob("*.md") if "```" in path.read_text())
FENCE = re.compile(
    r"^```(?P<language>[a-z]+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# Pages that need kernels built on the way: tests of their own run them, here only forms count.
ELSEWHERE = ("story", "culprit-", "vdso")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, what it is, what is in it."""

    line: int
    language: str
    title: str | None
    body: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(text.count("\n", 0, m.start()) + 1, m["language"], m["title"], m["body"])
        for m in FENCE.finditer(text)
    ]


@pytest.fixture
def scene(
    tmp_path: Path, smp_kernel: Path, no_console_kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with a kernel in it, and an environment in which only it counts."""
    folder, cache = tmp_path / "scene", tmp_path / "cache"
    (folder / "no_console").mkdir(parents=True)
    shutil.copy(smp_kernel, folder / "bzImage")
    shutil.copy(no_console_kernel, folder / "no_console" / "bzImage")
    (cache / "debian-kernel").mkdir(parents=True)
    shutil.copy(smp_kernel, cache / "debian-kernel" / "vmlinuz-6.1.0-1-cloud-amd64")
    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTEST_REPRO_CACHE", str(cache))
    monkeypatch.setenv("PYTEST_REPRO_SLOTS", str(tmp_path / "slots"))
    monkeypatch.setenv("PYTEST_REPRO_ACCEL", "tcg")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(folder)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_shows_what_happens(page: Path, scene: Path) -> None:
    spoken: dict[str, object] = {}
    for block in blocks_of(page):
        where = f"{page.name}:{block.line}"
        if page.name.startswith(ELSEWHERE) and block.language in ("console", "python"):
            continue
        if block.title is not None:
            path = scene / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.body)
            _check_form(block, where)
        elif block.language == "console":
            _converse(block, where)
        elif block.language == "python":
            exec(compile(block.body, where, "exec"), spoken)
        elif block.language in ("sh", "bash"):
            subprocess.run(["bash", "-n"], input=_included(block.body), text=True, check=True)
        else:
            _check_form(block, where)


def _check_form(block: Block, where: str) -> None:
    if block.language == "json":
        json.loads(block.body)
    elif block.language == "ini":
        configparser.ConfigParser().read_string(block.body)
    elif block.language == "yaml":
        assert yaml.safe_load(_included(block.body)), where
    elif block.language == "python":
        compile(block.body, where, "exec")
    else:
        assert block.language in ("text", "c", "toml", "diff"), f"{where}: {block.language}?"


def _included(body: str) -> str:
    """The block with the files in it that the site's builder would put there."""
    return re.sub(r'--8<-- "(.+)"', lambda m: (ROOT / m[1]).read_text(), body)


def _converse(block: Block, where: str) -> None:
    """Gives the block's commands to one shell and compares what each of them prints."""
    exchanges = list(_exchanges(block.body))
    mark = "@@@"
    script = "".join(f"{command}\n__s=$?; echo; echo {mark}$__s; (exit $__s)\n"
                     for command, _ in exchanges)  # fmt: skip
    done = subprocess.run(
        ["bash"], input=script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        check=False,
    )  # fmt: skip
    heard = re.split(rf"\n{mark}(\d+)\n", done.stdout)
    checker = doctest.OutputChecker()
    for number, (command, wanted) in enumerate(exchanges):
        got, status = heard[2 * number : 2 * number + 2]
        said = f"{where}: {command}\nexit status {status}, printed:\n{got}\nwanted:\n{wanted}"
        if wanted:
            assert checker.check_output(wanted, got.strip("\n") + "\n", SHOWN), said
        else:
            assert status == "0", said


def _exchanges(body: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed.strip("\n") + "\n" if printed.strip("\n") else ""


# ---- the runner itself: a check that cannot fail would be worth nothing


@pytest.mark.parametrize(
    "body",
    ["$ echo one\ntwo\n", "$ false\n", "$ echo one\none\n$ exit 3\n", "$ echo a b\na ... c\n"],
)
def test_a_block_that_lies_is_found(body: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        _converse(Block(1, "console", None, body), "here")


def test_a_block_that_tells_the_truth_passes() -> None:
    body = "$ x=1\n$ echo $? $x\n0 1\n$ echo some $RANDOM\nsome ...\n"
    _converse(Block(1, "console", None, body), "here")
    _converse(Block(1, "console", None, "$ ls nowhere\nls: ...\n$ echo $?\n2\n"), "here")
