"""The README and the pages speak of what there is: options, commands, tests that are collected."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_flaky_repro.cli import COMMANDS
from pytest_flaky_repro.settings import OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = {option.option for option in OPTIONS}
    named = set(re.findall(r"(?<![\w-])--repro-[a-z][a-z-]*[a-z]", page.read_text()))
    assert named <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_named_exists(page: Path) -> None:
    named = set(
        re.findall(r"(?:^\s*|`|\$ )flaky-repro ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)
    )
    assert named <= set(COMMANDS)


def test_every_variable_that_is_named_exists() -> None:
    known = {option.variable for option in OPTIONS} | {"PYTEST_REPRO_CACHE", "PYTEST_REPRO_SLOTS"}
    named = {
        name
        for page in PAGES
        for name in re.findall(r"PYTEST_REPRO_[A-Z_]+[A-Z]", page.read_text())
    }
    assert named <= known


def test_the_tests_in_the_readme_are_collected(tmp_path: Path, bare_kernel: Path) -> None:
    """With the kernels that the text names; nothing is booted by that."""
    blocks = PYTHON.findall((ROOT / "README.md").read_text())
    for number, block in enumerate(blocks):
        (tmp_path / f"test_readme_{number}.py").write_text(block)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    kernels = [f"--kernel={name}={bare_kernel}" for name in ("bad", "fixed")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", *kernels],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for number in range(len(blocks)):
        assert f"test_readme_{number}.py::" in done.stdout


def test_the_ordinary_guest_of_the_readme_boots(tmp_path: Path, bare_kernel: Path) -> None:
    blocks = [
        block for block in PYTHON.findall((ROOT / "README.md").read_text()) if "(vm)" in block
    ]
    (tmp_path / "test_vm.py").write_text("\n".join(blocks))
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    words = [f"--kernel={bare_kernel}", "--repro-accel=tcg", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert len(blocks) == 1
    assert done.returncode == 0, done.stdout
