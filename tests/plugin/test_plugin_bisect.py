"""``--repro-exit=bisect``: what ``git bisect run`` is told.

git takes 0 for good, 125 for untestable, and 1 to 124 for bad: pytest's own 2 to 5 would blame a
commit for a typing mistake.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

GOOD, BAD, SKIP = 0, 1, 125


@pytest.mark.parametrize(
    ("behaviour", "arguments", "status"),
    [
        ("", (), GOOD),
        ("crash=1.0", (), BAD),
        ("", ("--repro-max-trials=3",), SKIP),
        ("", ("--repro-max-trials=3", "--repro-inconclusive=pass"), SKIP),
        ("", ("--repro-max-trials=3", "--repro-inconclusive=skip"), SKIP),
        ("setup_fault='no console'", (), SKIP),
    ],
    ids=["safe", "crashes", "inconclusive", "passed-inconclusive", "skipped", "infrastructure"],
)
def test_each_verdict_has_its_status(
    project: Project, behaviour: str, arguments: tuple[str, ...], status: int
) -> None:
    project.machine(behaviour)
    assert project.run("--repro-exit=bisect", *arguments).ret == status


def test_one_crash_of_several_tests_is_bad(project: Project) -> None:
    project.machine("crash=1.0 if 'other' in experiment.kernel.path.name else 0.0")
    project.add_kernel("other")
    assert project.run("--repro-exit=bisect", "--kernel=other").ret == BAD


def test_a_crash_on_an_xdist_worker_is_bad(project: Project) -> None:
    project.machine("crash=1.0")
    assert project.spawn("--repro-exit=bisect", "-n1").ret == BAD


@pytest.mark.parametrize(
    "arguments",
    [
        ("--repro-smp=none",),
        ("--repro-min-rate=2",),
        ("--kernel=a=x", "--kernel=a=y"),
        ("no_such_test.py",),
        ("test_it.py::test_gone",),
        ("-k", "nothing"),
        ("--kernel=gone",),
        ("--reproducer=gone.c",),
    ],
    ids=" ".join,
)
def test_what_cannot_be_tested_is_skipped(project: Project, arguments: tuple[str, ...]) -> None:
    words = ("-k", "gone", *arguments) if arguments == ("--kernel=gone",) else arguments
    assert project.run("--repro-exit=bisect", *words).ret == SKIP


def test_a_usage_error_is_still_shown(project: Project) -> None:
    result = project.run("--repro-exit=bisect", "--repro-smp=none")
    result.stderr.fnmatch_lines(["ERROR: --repro-smp: expected a whole number*got 'none'"])


def test_a_test_that_does_not_import_is_skipped(project: Project) -> None:
    project.test("import no_such_module")
    assert project.run("--repro-exit=bisect").ret == SKIP


def test_an_interrupted_run_is_skipped(project: Project) -> None:
    project.test("def test_it(): raise KeyboardInterrupt")
    assert project.spawn("--repro-exit=bisect").ret == SKIP


def test_an_ordinary_failing_test_does_not_blame_the_commit(project: Project) -> None:
    project.test("def test_it(): assert 0")
    assert project.run("--repro-exit=bisect").ret == SKIP


@pytest.mark.parametrize("source", ["environment", "ini"])
def test_it_can_be_asked_for_elsewhere(
    project: Project, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    if source == "ini":
        project.write("pytest.ini", "[pytest]\nrepro_exit = bisect\n")
    else:
        monkeypatch.setenv("PYTEST_REPRO_EXIT", "bisect")
    assert project.run("--repro-smp=none").ret == SKIP


def test_without_it_pytest_s_own_status_stays(project: Project) -> None:
    assert project.run("--repro-smp=none").ret == pytest.ExitCode.USAGE_ERROR
    assert project.run("-k", "nothing").ret == pytest.ExitCode.NO_TESTS_COLLECTED
