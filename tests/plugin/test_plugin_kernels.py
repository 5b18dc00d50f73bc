"""``--kernel``, and the fixtures ``kernel`` and ``kernels``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


@pytest.fixture
def two(project: Project) -> Project:
    project.add_kernel("a/bzImage")
    project.add_kernel("b/bzImage")
    return project


def names(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if line.startswith("test_it.py::")]


def test_a_test_that_asks_for_kernel_runs_once_for_each(two: Project) -> None:
    result = two.run("--kernel=bad=a/bzImage", "--kernel", "good=b/bzImage", kernel=False)
    result.assert_outcomes(passed=2)
    assert {plan["kernel"] for plan in two.records("plan")} == {"bad", "good"}


def test_kernels_of_the_same_file_name_are_told_apart_by_their_folders(two: Project) -> None:
    result = two.run(
        "--kernel=a/bzImage", "--kernel=b/bzImage", "--collect-only", "-q", kernel=False
    )
    assert names(result) == ["test_it.py::test_it[a/bzImage]", "test_it.py::test_it[b/bzImage]"]


@pytest.mark.parametrize(
    "words", [("--kernel=x=a/bzImage", "--kernel=x=b/bzImage"), ("--kernel=a/bzImage",) * 2]
)
def test_two_kernels_of_one_name_are_a_usage_error(two: Project, words: tuple[str, ...]) -> None:
    result = two.run(*words, kernel=False)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kernel: 2 kernels are called *give each a name*"])


@pytest.mark.parametrize("text", ["=bzImage", "name=", ""])
def test_half_a_kernel_is_a_usage_error(project: Project, text: str) -> None:
    result = project.run(f"--kernel={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --kernel '{text}': expected PATH or NAME=PATH"])


def test_a_test_that_asks_for_kernel_without_any_is_an_error(project: Project) -> None:
    result = project.run(kernel=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["this test needs a kernel: pytest --kernel PATH/TO/bzImage"])


def test_check_without_any_kernel_is_an_error_too(project: Project) -> None:
    project.test("def test_it(repro): repro.check('ok.c')")
    result = project.run(kernel=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["no kernel was given: pytest --kernel PATH/TO/bzImage"])


def test_check_uses_the_only_kernel_there_is(project: Project) -> None:
    project.test("def test_it(repro): repro.check('ok.c')")
    project.run().assert_outcomes(passed=1)


def test_check_does_not_choose_among_several_kernels(two: Project) -> None:
    two.test("def test_it(repro): repro.check('ok.c')")
    result = two.run("--kernel=other=a/bzImage")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*which kernel? 2 were given.*"])


BOTH = """
    def test_it(repro, kernels):
        repro.measure("ok.c", kernel=kernels["bad"])
        repro.check("ok.c", kernel=kernels["fixed"])
"""


def test_one_test_may_use_several_kernels_by_name(two: Project) -> None:
    two.machine("crash=1.0 if '/a/' in str(experiment.kernel.path) else 0.0")
    two.test(BOTH)
    result = two.run("--kernel=bad=a/bzImage", "--kernel=fixed=b/bzImage", kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "CRASHES (1/1)  test_it.py::test_it[[]bad[]]",
            "SAFE (0/4*  test_it.py::test_it[[]fixed[]]",
        ]
    )


def test_an_unknown_name_is_an_error_that_says_which_there_are(two: Project) -> None:
    two.test(BOTH)
    result = two.run("--kernel=fixed=b/bzImage", kernel=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["this test needs a kernel named 'bad': give --kernel bad=PATH. There are: fixed"]
    )


def test_a_path_in_kernel_s_place_is_refused(project: Project) -> None:
    project.test("def test_it(repro): repro.check('ok.c', kernel='bzImage')")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["kernel='bzImage': expected one of the fixture kernels*"])


def test_a_test_may_parametrise_kernel_itself(project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.mark.parametrize("kernel", ["6.1", "6.6"])
        def test_it(kernel):
            assert kernel in {"6.1", "6.6"}
        """
    )
    project.run().assert_outcomes(passed=2)


def test_a_project_may_have_a_kernel_fixture_of_its_own(project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.fixture
        def kernel():
            return "mine"

        def test_it(kernel):
            assert kernel == "mine"
        """
    )
    project.run().assert_outcomes(passed=1)


def test_a_fixture_may_ask_for_the_kernel_too(project: Project) -> None:
    project.test(
        """
        import pytest

        @pytest.fixture
        def checked(repro, kernel):
            return repro.check("ok.c")

        def test_it(checked, kernel):
            assert checked.subject.kernel == kernel.name == str(kernel)
        """
    )
    project.run().assert_outcomes(passed=1)


def test_collecting_neither_reads_a_kernel_nor_boots_it(project: Project) -> None:
    project.write("conftest.py", "def pytest_repro_machine(): raise AssertionError('asked')")
    result = project.run("--kernel=gone=no/such/kernel", "--collect-only", "-q")
    assert names(result) == ["test_it.py::test_it[bzImage]", "test_it.py::test_it[gone]"]
    assert not (project.path / ".repro").exists()
    assert result.ret == pytest.ExitCode.OK
