"""With other plugins, and without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

ENDLESS = "--repro-min-rate=0.000001"


@pytest.mark.parametrize(
    "words",
    [("--timeout=3",), ("--timeout=3", "--timeout-method=thread")],
    ids=["signal", "thread"],
)
def test_a_campaign_ends_before_its_timeout_with_what_it_has(
    project: Project, words: tuple[str, ...]
) -> None:
    project.machine("seconds=0.02")
    result = project.spawn(ENDLESS, *words)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["inconclusive: 0 crashed of * trial*: the test's timeout is near"])
    assert len(project.records("trial")) == len(project.records("launch"))


def test_a_timeout_that_is_far_changes_nothing(project: Project) -> None:
    project.run("--timeout=600").assert_outcomes(passed=1)


def test_a_timeout_marker_counts_too(project: Project) -> None:
    project.machine("seconds=0.02")
    project.test(
        """
        import pytest

        @pytest.mark.timeout(3)
        def test_it(repro, kernel):
            repro.check("ok.c")
        """
    )
    result = project.spawn(ENDLESS)
    result.stdout.fnmatch_lines(["*the test's timeout is near"])


@pytest.mark.parametrize("absent", ["xdist", "timeout", "cacheprovider", "terminal", "junitxml"])
def test_it_works_without(project: Project, absent: str) -> None:
    result = project.run("-p", f"no:{absent}")
    assert result.ret == pytest.ExitCode.OK
    assert len(project.records("trial")) == 4


def test_it_works_alone(project: Project) -> None:
    words = [
        word for name in ("xdist", "timeout", "cacheprovider") for word in ("-p", f"no:{name}")
    ]
    project.machine("crash=1.0")
    result = project.run(*words)
    result.assert_outcomes(failed=1)


def test_a_project_goes_on_with_the_plugin_switched_off(project: Project) -> None:
    project.write("conftest.py", "")
    project.test("def test_it(): pass")
    result = project.pytester.runpytest_inprocess(
        "-p", "no:flaky-repro", "-p", "no:hypothesispytest"
    )
    result.assert_outcomes(passed=1)


def test_a_run_that_does_not_use_it_shows_nothing_of_it(project: Project) -> None:
    project.write("conftest.py", "")
    project.test("def test_it(): pass")
    result = project.pytester.runpytest_inprocess("-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)
    text = result.stdout.str()
    plugins = next(line for line in result.outlines if line.startswith("plugins:"))
    assert "flaky" not in text.replace(plugins, "")
    assert {path.name for path in project.path.iterdir()} & {".repro"} == set()


def test_strict_markers_and_strict_config_are_fine(project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.mark.repro(trial_time=1)
        def test_it(repro, kernel):
            repro.check("ok.c")
        """
    )
    project.write("pytest.ini", "[pytest]\nrepro_smp = 1\n")
    project.run("--strict-markers", "--strict-config").assert_outcomes(passed=1)


def test_warnings_as_errors_are_fine(project: Project) -> None:
    project.run("-W", "error").assert_outcomes(passed=1)
