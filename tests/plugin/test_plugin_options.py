"""Options through pytest: who wins, and errors that name their source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

PLANS = {"marker": 0.11, "command line": 0.22, "environment": 0.33, "ini": 0.44}
ORDER = list(PLANS)


def plan(project: Project, *arguments: str) -> dict[str, Any]:
    """The parameters of the only campaign of a run that has them, but launches nothing."""
    project.run("--repro-max-trials=1", "--repro-inconclusive=pass", *arguments)
    (record,) = project.records("plan")
    return dict(record["parameters"])


@pytest.mark.parametrize("strongest", range(len(ORDER)), ids=ORDER)
def test_precedence_is_marker_command_line_environment_ini(
    project: Project, monkeypatch: pytest.MonkeyPatch, strongest: int
) -> None:
    given = {source: f"{PLANS[source]}" for source in ORDER[strongest:]}
    if "marker" in given:
        project.test(
            f"""
            import pytest

            @pytest.mark.repro(noise={given["marker"]}, min_rate=0.9)
            def test_it(repro, kernel):
                repro.check("ok.c")
            """
        )
    if "environment" in given:
        monkeypatch.setenv("PYTEST_REPRO_NOISE", given["environment"])
    project.write("pytest.ini", f"[pytest]\nrepro_noise = {given['ini']}\n")
    words = [f"--repro-noise={given['command line']}"] if "command line" in given else []
    assert plan(project, "--repro-min-rate=0.9", *words)["noise"] == PLANS[ORDER[strongest]]


def test_the_closest_marker_has_the_last_word(project: Project) -> None:
    project.test(
        """
        import pytest

        pytestmark = pytest.mark.repro(smp=2, memory=128)

        @pytest.mark.repro(smp=3)
        def test_it(repro, kernel):
            repro.check("ok.c")
        """
    )
    parameters = plan(project)
    assert (parameters["smp"], parameters["memory_mib"]) == (3, 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("typo=1", "test_it.py::test_it[[]bzImage[]]: unknown argument 'typo'. Known are: *"),
        ("kernel='x'", "*unknown argument 'kernel'*"),
        ("min_rate=2", "@pytest.mark.repro(min_rate=) on test_it.py::*: expected a number *'2'"),
        ("accel='fast'", "@pytest.mark.repro(accel=)*'fast' is not one of auto, kvm, tcg"),
        ("0.5", "@pytest.mark.repro on test_it.py::* takes keywords only*"),
    ],
    ids=["unknown", "of the run", "bad value", "bad choice", "positional"],
)
def test_a_bad_marker_is_an_error_that_names_test_and_argument(
    project: Project, arguments: str, message: str
) -> None:
    project.test(
        f"""
        import pytest

        @pytest.mark.repro({arguments})
        def test_it(repro, kernel):
            repro.check("ok.c")
        """
    )
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{message}"])
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("command line", "--repro-smp"),
        ("environment", "environment variable PYTEST_REPRO_SMP"),
        ("ini", "ini option repro_smp"),
    ],
)
def test_a_bad_value_is_a_usage_error_that_names_its_source(
    project: Project, monkeypatch: pytest.MonkeyPatch, source: str, name: str
) -> None:
    if source == "environment":
        monkeypatch.setenv("PYTEST_REPRO_SMP", "many")
    if source == "ini":
        project.write("pytest.ini", "[pytest]\nrepro_smp = many\n")
    result = project.run(*["--repro-smp=many"] * (source == "command line"))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {name}: expected a whole number from 1 up, got 'many'"])


def test_an_unknown_class_of_crash_is_a_usage_error(project: Project) -> None:
    """It was an error of each test, and so an exit status of 1."""
    result = project.run("--repro-crash-classes=-lockups")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --repro-crash-classes: expected crash classes, saw 'lockups'; choose from all, *"]
    )


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "workers"])
def test_a_mistyped_variable_is_warned_of_once(
    project: Project, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTEST_REPRO_MINRATE", "0.1")
    result = project.spawn(*workers)
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*PYTEST_REPRO_MINRATE: nothing reads it. *PYTEST_REPRO_MIN_RATE"])


def test_all_names_and_the_short_ones_are_in_the_help(project: Project) -> None:
    text = project.run("--help").stdout.str()
    text = " ".join(text.split())
    assert "--repro-kernel=[NAME=]PATH a kernel (bzImage) to test; repeatable (or --kernel)" in text
    for name in ("--confidence", "--initrd", "--reproducer"):
        assert f"(or {name})" in text


def test_the_marker_is_registered(project: Project) -> None:
    result = project.run("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.repro(min_rate=, trial_time=, ...): *"])


def test_an_environment_can_name_several_kernels(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add_kernel("other")
    monkeypatch.setenv("PYTEST_REPRO_KERNEL", "bzImage, second=other")
    project.run(kernel=False).assert_outcomes(passed=2)


def test_an_ini_file_can_name_kernels_and_a_confidence(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nrepro_kernel = bzImage\nrepro_smp = 2\n")
    result = project.run(kernel=False)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["flaky-repro: accel: tcg, smp 2, *"])


def test_addopts_may_use_the_short_names(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\naddopts = --kernel bzImage\n")
    project.run(kernel=False).assert_outcomes(passed=1)


OWNER = """
    def pytest_addoption(parser):
        parser.addoption("--kernel", dest="theirs", help="somebody else's")
"""


@pytest.mark.parametrize("where", ["conftest", "plugin"])
def test_another_owner_of_a_short_name_keeps_it(
    project: Project, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    if where == "conftest":
        project.write("conftest.py", project.conftest + OWNER)
        words: list[str] = []
    else:
        monkeypatch.syspath_prepend(project.path)
        project.write("owner.py", OWNER)
        words = ["-p", "owner"]
    project.test(
        """
        def test_it(repro, kernel, pytestconfig):
            assert pytestconfig.getoption("theirs") == "anything"
            assert kernel.name == "bzImage"
            repro.check("ok.c")
        """
    )
    result = project.run("--kernel=anything", "--repro-kernel=bzImage", *words, kernel=False)
    result.assert_outcomes(passed=1)


def test_an_unused_plugin_leaves_another_owner_of_a_short_name_alone(project: Project) -> None:
    project.write("conftest.py", OWNER)
    project.test("def test_it(pytestconfig): assert pytestconfig.getoption('theirs') == 'x'")
    result = project.pytester.runpytest_inprocess("--kernel=x", "-p", "no:hypothesispytest")
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            'check("ok.c", smp=2)',
            "*unknown argument 'smp'. It is a setting: @pytest.mark.repro(smp=*",
        ),
        ('measure("ok.c", crahs="KASAN")', "*unknown argument 'crahs'. Known are: crash, ok_exit*"),
    ],
)
def test_an_unknown_word_in_a_call_is_no_verdict(project: Project, call: str, said: str) -> None:
    """It was ignored once, and a race on one CPU was safe."""
    project.test(f"def test_it(repro, kernel): repro.{call}")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said])


STATUSES = "expected an exit status or several, from 0 to 255, such as {0, 3}, got"
VARIABLES = "expected a mapping of names to text, such as {'THREADS': '4'}, got"
WORDS = "expected a list of words, such as ['-O2', '-pthread'], got"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("ok_exit='0'", f"ok_exit='0': {STATUSES} a str"),
        ("ok_exit={0, '3'}", f"ok_exit=*: {STATUSES} '3'"),
        ("ok_exit=256", f"ok_exit=256: {STATUSES} 256"),
        ("ok_exit=[True]", f"ok_exit=[[]True[]]: {STATUSES} True"),
        ("ok_exit=1.0", f"ok_exit=1.0: {STATUSES} a float"),
        ("env='A=1'", f"env='A=1': {VARIABLES} a str"),
        ("env={'A': 1}", f"env={{'A': 1}}: {VARIABLES} 'A': 1"),
        ("env={'A=B': '1'}", f"env={{'A=B': '1'}}: {VARIABLES} 'A=B': '1'"),
        ("cflags='-O2'", "cflags='-O2': " + WORDS.replace("[", "[[]").replace("']", "'[]]")),
        ("crash=5", "crash=5: expected a regular expression for a crash title, got a int"),
    ],
)
@pytest.mark.parametrize("call", ["check('ok.c', ", "compare('ok.c', kernel, kernel, "])
def test_a_word_of_the_wrong_kind_is_an_error_that_names_it(
    project: Project, call: str, words: str, said: str
) -> None:
    """``ok_exit="0"`` made a crash of exit status 0, others ended in AttributeErrors."""
    project.test(f"def test_it(repro, kernel): repro.{call}{words})")
    result = project.run("--repro-max-trials=3")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{said}*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    assert project.records("trial") == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            "check('ok.c', calibrated_on='x')",
            "calibrated_on='x': expected what repro.measure(..., crashes=10) returned, got a str",
        ),
        (
            "measure('ok.c', crashes='5')",
            "crashes='5': expected a whole number from 1 up, got '5'",
        ),
        (
            "compare('ok.c', kernel, None)",
            "kernel=None: expected one of the fixture kernels, such as kernels['fixed']",
        ),
    ],
)
def test_an_argument_of_the_wrong_kind_is_an_error_that_names_it(
    project: Project, call: str, said: str
) -> None:
    project.test(f"def test_it(repro, kernel): repro.{call}")
    result = project.run("--repro-max-trials=3")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([said.replace("[", "[[]")])


@pytest.mark.parametrize("given", ["0", "3", "(0, 3)", "range(4)", "iter([3])"])
def test_ok_exit_is_one_status_or_several(project: Project, given: str) -> None:
    project.test(f"def test_it(repro, kernel): repro.check('ok.c', ok_exit={given})")
    statuses = {"0": [0], "3": [3], "(0, 3)": [0, 3], "range(4)": [0, 1, 2, 3], "iter([3])": [3]}
    assert plan(project)["ok_exit"] == statuses[given]


def test_a_missing_archive_is_an_error_with_its_name(project: Project) -> None:
    result = project.run("--initrd=nosuch.cpio")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--initrd: cannot read the archive *nosuch.cpio: No such file*"])


@pytest.mark.parametrize(
    ("marker", "arguments", "named"),
    [
        ("", ("--repro-noise=0.6",), "--repro-noise and --repro-min-rate"),
        (
            "noise=0.6",
            (),
            "@pytest.mark.repro(noise=) on test_it.py::test_it[[]bzImage[]] and --repro-min-rate",
        ),
    ],
    ids=["command line", "marker"],
)
def test_a_question_that_cannot_be_is_told_by_what_asked_it(
    project: Project, marker: str, arguments: tuple[str, ...], named: str
) -> None:
    project.test(
        f"""
        import pytest

        @pytest.mark.repro({marker})
        def test_it(repro, kernel):
            repro.check("ok.c")
        """
    )
    result = project.run(*arguments)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"{named}: noise must be at least 0 and below min_rate (0.5), *"])
