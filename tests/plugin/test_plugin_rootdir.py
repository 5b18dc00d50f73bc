"""``--kernel PATH`` in two words does not move the rootdir to where the kernel lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


@pytest.fixture
def elsewhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel far from the project, beside an ini file of another project."""
    folder = tmp_path_factory.mktemp("boot")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option-of-the-other\n")
    (folder / "vmlinuz").write_bytes(project.kernel.read_bytes())
    return folder / "vmlinuz"


@pytest.fixture
def far(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kernel that shares no ini file with anything."""
    kernel = tmp_path_factory.mktemp("far") / "vmlinuz"
    kernel.write_bytes(project.kernel.read_bytes())
    return kernel


@pytest.fixture
def configured(project: Project) -> Project:
    """A project whose ini file matters: addopts, python_files, pythonpath, and a setting."""
    project.write(
        "pytest.ini",
        """
        [pytest]
        addopts = -v -p no:cacheprovider
        python_files = check_*.py
        pythonpath = lib
        repro_smp = 3
        """,
    )
    project.write("lib/from_lib.py", "")
    (project.path / "test_it.py").unlink()
    project.write(
        "check_it.py",
        """
        import from_lib

        def test_it(repro, kernel):
            assert repro.check("ok.c").intact == 4
        """,
    )
    return project


WAYS = ["--kernel=", "--kernel ", "--repro-kernel ", "--kernel name="]


@pytest.mark.parametrize("way", WAYS)
def test_rootdir_and_ini_file_are_the_project_s(configured: Project, far: Path, way: str) -> None:
    result = configured.run(*f"{way}{far}".split(), kernel=False)
    result.stdout.fnmatch_lines(
        [
            "flaky-repro: accel: tcg, smp 3, *",
            f"rootdir: {configured.path}",
            "configfile: pytest.ini",
            "*check_it.py::test_it* SAFE*",
        ]
    )
    result.assert_outcomes(passed=1)


def test_an_ini_file_beside_the_kernel_is_not_read(configured: Project, elsewhere: Path) -> None:
    result = configured.run("--kernel", str(elsewhere), kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rootdir: {configured.path}"])


def test_a_project_without_an_ini_file_keeps_its_rootdir_too(project: Project, far: Path) -> None:
    result = project.run("--kernel", str(far), kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rootdir: {project.path}"])


def test_conftest_files_are_those_of_the_tests(project: Project, far: Path) -> None:
    (far.parent / "conftest.py").write_text("raise AssertionError('not this project')")
    result = project.run("--kernel", str(far), kernel=False)
    result.assert_outcomes(passed=1)


def test_test_paths_still_count(configured: Project, far: Path) -> None:
    configured.write("sub/conftest.py", "")
    configured.write("sub/check_sub.py", "def test_sub(kernel): pass")
    result = configured.run("--kernel", str(far), "sub", kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rootdir: {configured.path}", "*sub/check_sub.py::test_sub*"])


def test_other_options_of_ours_take_paths_too(configured: Project, far: Path) -> None:
    words = ("--repro-evidence", str(far.parent), "--initrd", str(far.parent / "x"))
    result = configured.run(*words, "--collect-only")
    result.stdout.fnmatch_lines([f"rootdir: {configured.path}", "configfile: pytest.ini"])


def test_an_ini_file_that_was_named_is_used(configured: Project, far: Path) -> None:
    configured.write("other.ini", "[pytest]\nrepro_smp = 5\npython_files = check_*.py\n")
    words = ("-c", "other.ini", "--kernel", str(far), "--collect-only")
    result = configured.run(*words, kernel=False)
    result.stdout.fnmatch_lines(["flaky-repro: accel: tcg, smp 5, *", "configfile: other.ini"])


def test_a_rootdir_that_was_named_is_used(configured: Project, far: Path) -> None:
    words = (f"--rootdir={far.parent}", "--kernel", str(far), "--collect-only")
    result = configured.run(*words, kernel=False)
    result.stdout.fnmatch_lines([f"rootdir: {far.parent}"])


def test_overrides_are_kept(configured: Project, far: Path) -> None:
    words = ("-o", "repro_smp=7", "--kernel", str(far), "--collect-only")
    result = configured.run(*words, kernel=False)
    result.stdout.fnmatch_lines(
        ["flaky-repro: accel: tcg, smp 7, *", f"rootdir: {configured.path}"]
    )


def test_no_warning_says_that_pytest_has_changed(configured: Project, far: Path) -> None:
    result = configured.run("-W", "error", "--kernel", str(far), kernel=False)
    assert "one word" not in result.stderr.str() + result.stdout.str()
    result.assert_outcomes(passed=1)


def test_xdist_workers_find_the_same(configured: Project, far: Path) -> None:
    result = configured.spawn("--kernel", str(far), "-n1", kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"rootdir: {configured.path}", "configfile: pytest.ini"])
    assert [plan["parameters"]["smp"] for plan in configured.records("plan")] == [3]
