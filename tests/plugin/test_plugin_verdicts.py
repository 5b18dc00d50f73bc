"""What each verdict looks like: outcome, letter, word, exit status."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

CRASHES = "crash=1.0"
SETUP_FAULT = "setup_fault='there is no serial console'"


def test_safe_passes_with_its_bound(project: Project) -> None:
    result = project.run("-v")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_it*bzImage* SAFE (0/4, rate <= 44% at 90%)*"])
    assert result.ret == pytest.ExitCode.OK


def test_crashes_fails_with_its_counts(project: Project) -> None:
    project.machine(CRASHES)
    result = project.run("-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it*bzImage* CRASHES (1/1)*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_inconclusive_fails_and_says_what_is_still_needed(project: Project) -> None:
    result = project.run("-v", "--repro-max-trials=3")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_it*bzImage* INCONCLUSIVE (0/3)*",
            "inconclusive: 0 crashed of 3 trials: *(--repro-max-trials)*",
            "So far a crash rate above * is ruled out at confidence 90%.",
            "1 more surviving trial would make it safe at 50%*--repro-resume*",
        ]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_resumed_campaign_says_what_it_goes_on_from(project: Project) -> None:
    """Nothing was said, and a run in the wrong folder looked as if it went on."""
    anew = project.run("--repro-resume", "--repro-max-trials=3")
    folder = next(project.path.glob(".repro/*"))
    said = f"--repro-resume: nothing to go on from in {folder}: started anew."
    anew.stdout.fnmatch_lines([f"    {said.replace('[', '[[]')}"])
    again = project.run("--repro-resume")
    again.stdout.fnmatch_lines(["    3 trials are from an earlier run (--repro-resume)."])
    project.run().stdout.no_fnmatch_line("*--repro-resume*")


def test_infrastructure_is_an_error_and_names_the_cause(project: Project) -> None:
    project.machine(SETUP_FAULT)
    result = project.run("-v")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*test_it*bzImage* INFRASTRUCTURE*", "*there is no serial console*"]
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def infrastructure(project: Project, *arguments: str) -> str:
    """Why a guest that never gets to START gave no verdict."""
    project.machine(SETUP_FAULT)
    result = project.run(*arguments)
    result.assert_outcomes(errors=1)
    (line,) = (line for line in result.outlines if line.startswith("infrastructure: "))
    return line


def test_where_no_guest_starts_the_words_it_was_given_are_told(project: Project) -> None:
    """rdinit= was diagnosed as a kernel without CONFIG_BLK_DEV_INITRD."""
    line = infrastructure(project, "--repro-append=quiet rdinit=/x")
    assert "--repro-append: rdinit=/x: the kernel does not start our /init" in line
    assert line.endswith("leave out rdinit=/x. What was seen of it: there is no serial console")


def test_where_no_guest_starts_too_little_memory_is_told(project: Project) -> None:
    line = infrastructure(project, "--repro-memory=8")
    assert "--repro-memory: 8 MiB: the kernel and its initramfs take " in line


def test_where_no_guest_starts_the_doctor_is_named(project: Project) -> None:
    line = infrastructure(project, "--repro-append=quiet loglevel=7", "--repro-smp=2")
    command = f"flaky-repro doctor --kernel {project.kernel} --boot --smp=2"
    assert line.endswith(f"More may be told by: {command} '--append=quiet loglevel=7'")


@pytest.mark.parametrize(
    ("behaviour", "arguments", "letter"),
    [
        ("", (), "."),
        (CRASHES, (), "F"),
        ("", ("--repro-max-trials=3",), "?"),
        (SETUP_FAULT, (), "E"),
    ],
    ids=["safe", "crashes", "inconclusive", "infrastructure"],
)
def test_each_verdict_has_its_letter(
    project: Project, behaviour: str, arguments: tuple[str, ...], letter: str
) -> None:
    project.machine(behaviour)
    result = project.run(*arguments)
    result.stdout.re_match_lines([rf"(test_it\.py )?{re.escape(letter)} +\[100%\]"])


@pytest.mark.parametrize("arguments", [(), ("--repro-max-trials=3",)], ids=["F", "undecided"])
def test_the_short_summary_s_words_may_have_colours(
    project: Project, arguments: tuple[str, ...]
) -> None:
    project.machine("" if arguments else CRASHES)
    result = project.run("--color=yes", *arguments)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    word = "INCONCLUSIVE (0/3)" if arguments else "CRASHES (1/1)"
    result.stdout.re_match_lines([rf"\x1b\[3[13]m{re.escape(word)}\x1b\[0m test_it.py::.*"])


def test_too_many_lost_trials_are_infrastructure_not_safe(project: Project) -> None:
    project.machine("lost=1.0")
    result = project.run("-v")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*10 of 10 trials taught nothing*SIGKILL*"])


def test_who_is_after_hangs_is_told_how_to_count_them(project: Project) -> None:
    project.machine("hang=1.0")
    result = project.run("-v")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*10 trials hung,*--repro-hung crash counts that*"])
    counted = project.run("-v", "--repro-hung=crash")
    counted.assert_outcomes(failed=1)
    counted.stdout.no_fnmatch_line("*--repro-hung crash counts*")


def test_trials_that_only_were_lost_hung_nowhere(project: Project) -> None:
    project.machine("lost=1.0")
    project.run("-v").stdout.no_fnmatch_line("*--repro-hung*")


def test_three_boots_that_never_start_are_infrastructure(project: Project) -> None:
    project.machine("void=1.0")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*3 guests in a row never got to START*"])


def test_measure_returns_what_check_raises(project: Project) -> None:
    project.machine(CRASHES)
    project.test(
        """
        from pytest_flaky_repro import Conclusion

        def test_it(repro, kernel):
            verdict = repro.measure("ok.c")
            assert verdict.conclusion is Conclusion.CRASHES
        """
    )
    project.run().assert_outcomes(passed=1)


def test_check_returns_the_verdict_when_it_is_safe(project: Project) -> None:
    project.test(
        """
        def test_it(repro, kernel):
            assert repro.check("ok.c").intact == 4
        """
    )
    project.run().assert_outcomes(passed=1)


def test_an_expected_crash_is_an_xfail(project: Project) -> None:
    project.machine(CRASHES)
    project.test(XFAIL)
    project.run().assert_outcomes(xfailed=1)


def test_an_expected_crash_that_stays_away_fails_when_strict(project: Project) -> None:
    project.test(XFAIL)
    result = project.run("-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it*bzImage* FAILED*", "*XPASS(strict)*"])


def test_an_expected_crash_that_stays_away_is_an_xpass_otherwise(project: Project) -> None:
    project.test(XFAIL.replace("True", "False"))
    project.run().assert_outcomes(xpassed=1)


def test_a_failed_harness_is_no_expected_crash(project: Project) -> None:
    project.machine(SETUP_FAULT)
    project.test(XFAIL)
    project.run().assert_outcomes(errors=1)


def test_an_undecided_campaign_is_no_expected_crash(project: Project) -> None:
    project.test(XFAIL)
    result = project.run("--repro-max-trials=3")
    result.assert_outcomes(failed=1)


XFAIL = """
    import pytest
    from pytest_flaky_repro import KernelCrashed

    @pytest.mark.xfail(strict=True, raises=KernelCrashed)
    def test_it(repro, kernel):
        repro.check("ok.c")
"""


def test_another_crash_than_the_expected_one_fails_and_says_so(project: Project) -> None:
    project.machine(CRASHES)
    project.test(
        """
        def test_it(repro, kernel):
            repro.check("ok.c", crash="KASAN: .* in foo")
        """
    )
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*another crash than the expected KASAN: .* in foo*"])


@pytest.mark.parametrize(
    ("choice", "outcome"), [("fail", "failed"), ("skip", "skipped"), ("pass", "passed")]
)
def test_repro_inconclusive_chooses_the_outcome(
    project: Project, choice: str, outcome: str
) -> None:
    result = project.run("--repro-max-trials=3", f"--repro-inconclusive={choice}")
    result.assert_outcomes(**{outcome: 1})


def test_a_skip_for_want_of_a_verdict_names_the_test_and_the_reason(project: Project) -> None:
    result = project.run("--repro-max-trials=3", "--repro-inconclusive=skip", "-rs")
    result.stdout.fnmatch_lines(["SKIPPED * test_it.py:*inconclusive: 0 crashed of 3 trials*"])


def test_a_pass_for_want_of_a_verdict_still_says_inconclusive(project: Project) -> None:
    result = project.run("--repro-max-trials=3", "--repro-inconclusive=pass", "-v")
    result.stdout.fnmatch_lines(["*test_it*bzImage* INCONCLUSIVE (0/3)*"])


def test_an_ordinary_test_is_left_alone(project: Project) -> None:
    project.test("def test_it(): assert 1 == 2")
    result = project.run("-v", kernel=False)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it FAILED*", "*assert 1 == 2*"])
    result.stdout.no_fnmatch_line("*flaky repro*")


def test_an_ordinary_failure_after_a_verdict_keeps_its_traceback(project: Project) -> None:
    project.test(
        """
        def test_it(repro, kernel):
            verdict = repro.check("ok.c")
            assert verdict.intact == 5
        """
    )
    result = project.run("-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it*bzImage* FAILED*", "*assert 4 == 5*"])


def test_the_summary_tells_each_verdict_with_what_it_means(project: Project) -> None:
    project.machine(CRASHES)
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            "*= flaky repro =*",
            "CRASHES (1/1)  test_it.py::test_it[[]bzImage[]]",
            "    With a noise floor of 0 (--repro-noise), one crash is proof.",
            "    *1 x *panic*(*% of trials at 90%; first: trial 1)",
            "    evidence: *.jsonl",
        ]
    )
