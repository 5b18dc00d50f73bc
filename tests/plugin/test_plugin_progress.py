"""Progress: sparse lines in a log, one rewritten line on a terminal, nothing anywhere else."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

HUNDRED = ("--repro-min-rate=0.0201",)  # at 90%: safe after 114 survivals


def trials(result: pytest.RunResult) -> list[int]:
    """The trial counts of the progress lines."""
    return [int(n) for n in re.findall(r"^  .*: (\d+) trials,", result.stdout.str(), re.MULTILINE)]


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "xdist"])
def test_a_log_has_a_line_at_1_10_and_100_trials(
    project: Project, workers: tuple[str, ...]
) -> None:
    result = project.spawn(*HUNDRED, *workers)
    result.assert_outcomes(passed=1)
    assert trials(result) == [1, 10, 100]


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "xdist"])
def test_a_log_has_a_line_at_each_new_crash_title(
    project: Project, workers: tuple[str, ...]
) -> None:
    project.machine("crash=1.0")
    project.test(
        """
        def test_it(repro, kernel):
            repro.check("ok.c", crash="something else")
        """
    )
    words = ("--repro-other=count", "--repro-noise=0.01", "--repro-min-rate=0.5", *workers)
    result = project.spawn(*words)
    result.stdout.fnmatch_lines(["  test_it.py::*: 1 trials, 1 crashed*; new: kernel panic: *"])
    assert result.stdout.str().count("; new: ") == 1


def test_quiet_runs_have_no_progress(project: Project) -> None:
    result = project.run("-q", *HUNDRED)
    result.assert_outcomes(passed=1)
    assert trials(result) == []


def test_captured_output_of_the_test_stays_captured(project: Project) -> None:
    project.test(
        """
        def test_it(repro, kernel):
            print("mine")
            repro.check("ok.c")
            print("mine too")
            assert 0
        """
    )
    result = project.spawn()
    result.stdout.fnmatch_lines(["*Captured stdout call*", "mine", "mine too"])
    assert result.stdout.str().count("mine too") == 2  # in the source shown, and captured


def test_progress_is_not_counted_as_a_test(project: Project) -> None:
    result = project.run(*HUNDRED)
    assert result.outlines[-1].strip("= ").startswith("1 passed in")


def test_last_failed_knows_only_the_test(project: Project) -> None:
    project.machine("crash=1.0")
    project.run()
    known = json.loads((project.path / ".pytest_cache/v/cache/lastfailed").read_text())
    assert list(known) == ["test_it.py::test_it[bzImage]"]
    project.machine()
    result = project.run("--lf")
    result.assert_outcomes(passed=1)
    assert not (project.path / ".pytest_cache/v/cache/lastfailed").exists() or not json.loads(
        (project.path / ".pytest_cache/v/cache/lastfailed").read_text()
    )


def test_other_plugins_see_one_result_a_test(project: Project) -> None:
    project.write(
        "conftest.py",
        project.conftest
        + """
    def pytest_terminal_summary(terminalreporter):
        counted = {k: len(v) for k, v in terminalreporter.stats.items() if k}
        print("counted", counted)
""",
    )
    project.run(*HUNDRED).stdout.fnmatch_lines(["counted {'passed': 1}"])


def test_without_a_terminal_reporter_all_goes_on(project: Project) -> None:
    result = project.spawn("-p", "no:terminal", *HUNDRED)
    assert result.ret == pytest.ExitCode.OK
    assert len(project.records("trial")) == 114


def read(terminal: int) -> bytes:
    """What has come, or nothing when the last writer is gone (Linux says EIO then)."""
    assert select.select([terminal], [], [], 60)[0]
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


def screen(project: Project, *args: str) -> str:
    """What pytest writes to a terminal of 80 columns, escape sequences and all."""
    words = ["-mpytest", "--kernel=bzImage", "--repro-accel=tcg", "--confidence=0.9", *args]
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"COLUMNS": "80", "TERM": "xterm"}
        os.chdir(project.path)
        os.execv(sys.executable, [sys.executable, *words])
    shown = b"".join(iter(lambda: read(terminal), b""))
    os.waitpid(child, 0)
    os.close(terminal)
    return shown.decode()


def test_a_terminal_has_one_line_that_is_rewritten(project: Project) -> None:
    shown = screen(project, *HUNDRED)
    (line,) = [line for line in shown.split("\n") if " trials, " in line and "\r" in line]
    states = re.findall(r"\r\s*test_it\.py::test_it\[bzImage\]: (\d+) trials,", line)
    assert len(states) >= 3
    assert [int(state) for state in states] == sorted(map(int, states))
    assert "1 passed" in shown


def test_the_line_never_wraps(project: Project) -> None:
    project.test(f"def test_{'long' * 30}(repro, kernel): repro.check('ok.c')")
    shown = screen(project, *HUNDRED)
    states = [part for part in re.split(r"[\r\n]+", shown) if part.startswith("  test_it.py::")]
    assert states
    assert {len(state) <= 79 for state in states} == {True}


def test_the_line_is_gone_when_the_test_ends(project: Project) -> None:
    shown = screen(project, "--repro-min-rate=0.1")
    after = shown[shown.rindex(" trials, ") :]
    assert re.match(r"[^\r\n]*\r *\r?[^\n]*\.", after)
