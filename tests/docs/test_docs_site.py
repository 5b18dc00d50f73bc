"""The site builds without a warning, leaves nothing out, and links to what is there."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_flaky_repro.cli import COMMANDS
from pytest_flaky_repro.settings import OPTIONS

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)[^)]*\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as CI does, with warnings for errors."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_option_is_on_its_page(site: Path) -> None:
    page = (site / "options.html").read_text()
    missing = [option.option for option in OPTIONS if option.option not in page]
    assert missing == []


def test_each_option_is_shown_once() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "hooks" / "generated.py"))
    text = generated["on_page_markdown"]((ROOT / "docs" / "options.md").read_text())
    rows = re.findall(r"^\| .*?`(--repro-[a-z-]+)[ `]", text, re.MULTILINE)
    assert sorted(rows) == sorted(option.option for option in OPTIONS)


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="since 3.13 argparse words -o otherwise")
@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_pages_hold_what_is_generated_for_them(page: str) -> None:
    """python docs/hooks/generated.py writes it."""
    generated = runpy.run_path(str(ROOT / "docs" / "hooks" / "generated.py"))
    text = (ROOT / "docs" / page).read_text()
    assert generated["on_page_markdown"](text) == text


def test_every_command_shows_its_help(site: Path) -> None:
    pages = "".join(path.read_text() for path in site.glob("*.html"))
    missing = [name for name in COMMANDS if f"flaky-repro {name}" not in pages]
    assert missing == []


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    sources = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?://[^\" >]+)")
    found = {
        match[1]
        for path in site.glob("*.html")
        for match in sources.finditer(path.read_text())
        if "rel=canonical" not in match[0]
    }
    assert found == set()


def test_every_page_is_in_the_menu() -> None:
    generated = runpy.run_path(str(ROOT / "docs" / "hooks" / "generated.py"))
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    config = generated["on_config"]({"docs_dir": str(ROOT / "docs"), "nav": nav})
    named = set(re.findall(r"[a-z-]+\.md", yaml.safe_dump(config["nav"])))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    gone = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert gone == []
