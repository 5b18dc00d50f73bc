"""``--reproducer PATH``: a campaign without a test file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


def collected(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.endswith("]") and "=" not in line]


def test_it_collects_one_item_a_kernel_and_nothing_else(project: Project) -> None:
    project.add_kernel("other")
    result = project.run("--reproducer=ok.c", "--kernel=other", "--collect-only", "-q")
    assert collected(result) == ["ok.c[bzImage]", "ok.c[other]"]


def test_what_it_collects_is_counted(project: Project) -> None:
    result = project.run("--reproducer=ok.c")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["collected 1 item"])


def test_testpaths_of_the_ini_file_are_left_out(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\ntestpaths = .\n")
    project.run("--reproducer=ok.c").assert_outcomes(passed=1)


def test_paths_that_are_given_are_added_to(project: Project) -> None:
    result = project.run("--reproducer=ok.c", "test_it.py", "--collect-only", "-q")
    assert collected(result) == ["test_it.py::test_it[bzImage]", "ok.c[bzImage]"]


def test_a_path_outside_the_project_works(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("elsewhere") / "ok.c"
    path.write_text("int main(void) { return 0; }")
    result = project.run("--reproducer", str(path))
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rootdir: {project.path}"])


def test_a_crash_fails_it(project: Project) -> None:
    project.machine("crash=1.0")
    result = project.run("--reproducer=ok.c", "-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ok.c[[]bzImage[]] CRASHES (1/1)*"])


def test_a_missing_file_is_an_error(project: Project) -> None:
    result = project.run("--reproducer=gone.c")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--reproducer: cannot read the reproducer */gone.c: *"])


def test_it_needs_a_kernel(project: Project) -> None:
    result = project.run("--reproducer=ok.c", kernel=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --reproducer ok.c needs a kernel*--kernel PATH*"])


def test_k_chooses_among_its_items(project: Project) -> None:
    project.add_kernel("other")
    project.run("--reproducer=ok.c", "--kernel=other", "-k", "other").assert_outcomes(
        passed=1, deselected=1
    )


def test_the_expected_crash_may_be_any(project: Project) -> None:
    """Without a test there is nobody to name one: every crash counts."""
    project.machine("crash=1.0, console='BUG: unable to handle page fault for address: 0'")
    project.run("--reproducer=ok.c").assert_outcomes(failed=1)


def test_xdist_workers_collect_the_same(project: Project) -> None:
    project.add_kernel("other")
    project.spawn("--reproducer=ok.c", "--kernel=other", "-n1").assert_outcomes(passed=2)
