"""Progress in a real terminal (tmux), as a person sees it."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

QUESTION = ("--kernel=bzImage", "--repro-accel=tcg", "--confidence=0.9", "--repro-min-rate=0.0201")
PATIENCE_S = 120.0
SLOW = "seconds=0.02"


class Terminal:
    """pytest in a terminal of its own; what is on its screen, and above it."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._tmux = ["tmux", "-f/dev/null", "-S", str(project.path / "tmux")]

    def start(self, *words: str, columns: int = 100, rows: int = 30) -> None:
        command = [sys.executable, "-mpytest", "-p", "no:hypothesispytest", *QUESTION, *words]
        size = ["-x", str(columns), "-y", str(rows)]
        script = f"cd {shlex.quote(str(self._project.path))}; {shlex.join(command)}; echo ended"
        script = f"trap : INT; unset COLUMNS LINES; {script}; exec cat"
        self._call("new-session", "-d", *size, "sh", "-c", script)

    def screen(self) -> list[str]:
        """The lines on the screen now."""
        return self._call("capture-pane", "-p").splitlines()

    def all(self) -> list[str]:
        """Every line there is, those that were scrolled away too."""
        text = self._call("capture-pane", "-p", "-J", "-S", "-")  # -J: wrapped lines are one
        return [line.rstrip() for line in text.splitlines()]

    def until(self, what: Callable[[list[str]], bool]) -> list[str]:
        """The first screen of which ``what`` holds."""
        limit = time.monotonic() + PATIENCE_S
        while not what(screen := self.screen()):
            assert time.monotonic() < limit, "\n".join(screen)
            assert "ended" not in screen, "\n".join(self.all())
            time.sleep(0.02)
        return screen

    def wait(self) -> list[str]:
        """Every line, after the end."""
        limit = time.monotonic() + PATIENCE_S
        while "ended" not in self.screen():
            assert time.monotonic() < limit, "\n".join(self.all())
            time.sleep(0.05)
        return self.all()

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)

    def _call(self, *words: str) -> str:
        done = subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True)
        return done.stdout


@pytest.fixture
def terminal(project: Project) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.fail("tmux is not installed: apt-get install tmux", pytrace=False)
    project.machine(SLOW)
    made = Terminal(project)
    yield made
    made.close()


def told(lines: list[str]) -> list[str]:
    """The lines about running campaigns."""
    return [line for line in lines if re.search(" trials?, ", line)]


def test_the_block_stands_below_pytest_s_line(terminal: Terminal) -> None:
    terminal.start()
    screen = terminal.until(lambda lines: bool(told(lines)))
    at = screen.index(told(screen)[0])
    assert screen[at - 1] == "test_it.py"
    assert re.fullmatch(
        r"  test_it\.py::test_it\[bzImage\]: \d+ trials?, 0 crashed, rate <= .*%, safe in \d+.*",
        screen[at],
    )
    assert re.fullmatch(r"  this machine's guests: \d+ of \d+ cores, .* MiB", screen[at + 1])


def test_the_block_is_redrawn_in_place(terminal: Terminal) -> None:
    terminal.start()
    first = terminal.until(lambda lines: bool(told(lines)))
    later = terminal.until(lambda lines: told(lines) not in ([], told(first)))
    assert len(told(later)) == 1
    assert later.index(told(later)[0]) == first.index(told(first)[0])


def test_nothing_of_it_is_left_in_the_end(terminal: Terminal) -> None:
    terminal.start()
    lines = terminal.wait()
    assert told(lines) == []
    assert not any("this machine's guests" in line for line in lines)
    assert any(re.fullmatch(r"test_it\.py \. +\[100%\]", line) for line in lines)


def test_each_worker_has_its_line(terminal: Terminal, project: Project) -> None:
    project.add_kernel("other")
    terminal.start("-n2", "--kernel=other")
    screen = terminal.until(lambda lines: len(told(lines)) == 2)
    starts = [line[:17] for line in told(screen)]
    assert starts == ["  [gw0] test_it.p", "  [gw1] test_it.p"]


def test_under_xdist_the_letters_stay_together(terminal: Terminal, project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.mark.parametrize("i", range(8))
        def test_it(repro, kernel, i):
            repro.check("ok.c")
        """
    )
    terminal.start("-n2", "--repro-min-rate=0.3")
    lines = terminal.wait()
    assert told(lines) == []
    assert any(re.fullmatch(r"\.{8} +\[100%\]", line) for line in lines), "\n".join(lines)


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["here", "xdist"])
def test_at_the_bottom_of_a_small_screen_no_result_is_overwritten(
    terminal: Terminal, project: Project, workers: tuple[str, ...]
) -> None:
    project.test(
        """
        import pytest

        @pytest.mark.parametrize("i", range(9))
        def test_it(repro, kernel, i):
            repro.check("ok.c")
        """
    )
    terminal.start("-v", "--repro-min-rate=0.3", *workers, rows=7)
    lines = terminal.wait()
    word = r"SAFE \(0/7, rate <= 29% at 90%\)"
    plain = re.compile(rf"^test_it\.py::test_it\[bzImage-(\d)\] {word}")
    shared = re.compile(rf"^\[gw\d\] \[[ \d]+%\] {word} test_it\.py::test_it\[bzImage-(\d)\]")
    found = [m[1] for line in lines if (m := (shared if workers else plain).match(line))]
    assert sorted(found) == list("012345678"), "\n".join(lines)
    assert told(lines) == []


def test_a_narrow_terminal_cuts_the_name_and_keeps_the_numbers(
    terminal: Terminal, project: Project
) -> None:
    project.test(f"def test_{'long' * 30}(repro, kernel): repro.check('ok.c')")
    terminal.start(columns=80)
    screen = terminal.until(lambda lines: any("about" in line for line in told(lines)))
    (line,) = told(screen)
    assert len(line) <= 79
    assert re.match(r"  …[long]+\[bzImage\]: \d+ trials?, 0 crashed, rate <= ", line)


def test_ctrl_c_leaves_a_clean_screen(terminal: Terminal) -> None:
    terminal.start("--repro-min-rate=0.00001")
    terminal.until(lambda lines: bool(told(lines)))
    terminal._call("send-keys", "C-c")
    lines = terminal.wait()
    assert told(lines) == []
    assert any("--repro-resume" in line for line in lines), "\n".join(lines)


def test_output_that_is_not_captured_gets_lines_instead(terminal: Terminal) -> None:
    terminal.start("-s")
    lines = terminal.wait()
    assert [re.findall(r"(\d+) trials?", line)[0] for line in told(lines)] == ["1", "10", "100"]
