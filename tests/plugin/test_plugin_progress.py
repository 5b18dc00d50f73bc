"""Progress: sparse lines in a log, one rewritten line on a terminal, nothing anywhere else."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

HUNDRED = ("--repro-min-rate=0.0201",)  # at 90%: safe after 114 survivals


def trials(result: pytest.RunResult) -> list[int]:
    """The trial counts of the progress lines."""
    return [int(n) for n in re.findall(r"^  .*: (\d+) trials?,", result.stdout.str(), re.MULTILINE)]


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
    result.stdout.fnmatch_lines(["  *test_it.py::*: 1 trial, 1 crashed*; new: kernel panic: *"])
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


def test_letters_of_tests_do_not_stick_to_the_lines_of_others(project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.mark.parametrize("i", range(6))
        def test_it(repro, kernel, i):
            repro.check("ok.c")
        """
    )
    lines = project.spawn(*HUNDRED, "-n2").outlines
    told = [line for line in lines if re.search(" trials?, ", line)]
    assert len(told) == 18
    assert {line[:5] for line in told} == {"  [gw"}


def test_a_line_names_the_bound_and_the_time_to_a_verdict(project: Project) -> None:
    project.machine("seconds=0.01")
    text = project.spawn(*HUNDRED).stdout.str()
    (line,) = re.findall(r"^  .*: 10 trials, .*", text, re.MULTILINE)
    assert re.search(r"0 crashed, rate <= 2\d%, safe in 104, about \d+ s$", line)


def test_where_trials_share_boots_a_line_counts_boots(project: Project) -> None:
    text = project.spawn("--repro-boot=batch", "--repro-batch=4").stdout.str()
    assert re.search(r"^  .*: 1 boot, 0 crashed, ", text, re.MULTILINE)
    assert not re.search(" trials?, 0 crashed", text)


def test_trials_of_an_earlier_run_do_not_hasten_the_forecast(project: Project) -> None:
    """A hundred trials that took no time now would promise the rest in none."""
    project.run("--repro-max-trials=100", *HUNDRED)
    project.machine("seconds=0.3")
    text = project.spawn("--repro-resume", "--repro-max-trials=101", *HUNDRED).stdout.str()
    assert " 100 trials, 0 crashed, rate <= " in text
    assert "about 0 s" not in text
