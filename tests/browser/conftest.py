"""A headless Chromium, and reports to open in it. What is missing is a failure, with the mend."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LOOKS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    "phone": {
        "color_scheme": "light",
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "has_touch": True,
    },
}
COIN = """
    #include <stdlib.h>
    #include <unistd.h>
    int main(void) {
        unsigned long drawn = strtoul(getenv("REPRO_SEED"), 0, 16);
        usleep(drawn % 1000000);
        if (drawn % 10 < 7) *(volatile int *)0 = 1;
        return 0;
    }
"""
TESTS = """
    import pytest

    @pytest.mark.repro(min_rate=0.3, noise=0.05)
    def test_coin(repro, kernel):
        repro.check("coin.c")

    @pytest.mark.repro(min_rate=0.4)
    def test_ok(repro, kernel):
        repro.check("ok.c")
"""


@dataclass
class Opened:
    """A page in the browser, and what it said and asked for while it was opened."""

    page: Page
    said: list[str] = field(default_factory=list)  # console messages and errors
    asked: list[str] = field(default_factory=list)  # requests beyond the file itself


@dataclass(frozen=True)
class Reader:
    """Opens files as different people do."""

    browser: Browser

    def open(self, file: Path, look: str) -> Opened:
        context = self.browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
        opened = Opened(context.new_page())
        own = file.as_uri()
        opened.page.on("console", lambda message: opened.said.append(message.text))
        opened.page.on("pageerror", lambda error: opened.said.append(str(error)))
        opened.page.on("dialog", lambda dialog: opened.said.append(f"dialog {dialog.message}"))
        opened.page.on(
            "request",
            lambda request: opened.asked.append(request.url) if request.url != own else None,
        )
        opened.page.goto(own)
        opened.page.wait_for_load_state("networkidle")
        return opened


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.fail("no Chromium to open reports with: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield Reader(browser)
        browser.close()


@pytest.fixture(scope="session")
def campaign(tmp_path_factory: pytest.TempPathFactory, bare_kernel: Path, user_cache: Path) -> Path:
    """The report of real campaigns in QEMU: one that crashes at times, one that never does."""
    folder = tmp_path_factory.mktemp("campaign")
    files = {"coin.c": COIN, "ok.c": "int main(void) { return 0; }", "test_it.py": TESTS}
    for name, content in files.items():
        (folder / name).write_text(textwrap.dedent(content))
    words = [f"--kernel={bare_kernel}", "--confidence=0.9", "--repro-accel=tcg"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    done = subprocess.run(
        [*command, "--repro-html=report.html"],
        cwd=folder,
        env=clean | {"PYTEST_REPRO_CACHE": str(user_cache)},
        capture_output=True,
        text=True,
        check=False,
    )
    report = folder / "report.html"
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert report.is_file()
    return report
