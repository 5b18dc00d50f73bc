"""A known-bad kernel gives the rate, stays as a control, and can be compared with another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

MACHINES = """
    from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine

    RATES = {rates}
    asked = {{}}

    def pytest_repro_machine(config, experiment, settings):
        name = experiment.kernel.path.name
        asked[name] = asked.get(name, 0) + 1
        rates = RATES[name]
        rate = rates[min(asked[name], len(rates)) - 1]
        return FakeMachine(Behaviour(crash=rate))
"""
CHECK = """
    def test_fix_holds(repro, kernels):
        bad = repro.measure("ok.c", kernel=kernels["bad"], crashes=10)
        assert bad.calibration is not None
        assert bad.crashes == 10
        repro.check("ok.c", kernel=kernels["fixed"], calibrated_on=bad)
"""


@pytest.fixture
def two(project: Project) -> Project:
    """A project with a kernel called bad and one called fixed."""
    project.add_kernel("bad")
    project.add_kernel("fixed")
    project.test(CHECK)
    return project


def rates(project: Project, **of: tuple[float, ...]) -> None:
    """Crash rates of each kernel's machines, in the order in which they are asked for."""
    project.write("conftest.py", MACHINES.format(rates=of))


def run(project: Project, *args: str) -> pytest.RunResult:
    words = ("--kernel=bad", "--kernel=fixed", "--confidence=0.9", "--repro-accel=tcg", *args)
    return project.pytester.runpytest_inprocess(*words)


def test_the_known_bad_kernel_gives_the_rate_to_rule_out(two: Project) -> None:
    rates(two, bad=(0.5,), fixed=(0.0,))
    result = run(two)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*SAFE*", "*from the known-bad kernel bad: 10 crashes in*", "*it still crashes here*"]
    )


def test_a_kernel_that_still_crashes_as_often_is_caught(two: Project) -> None:
    rates(two, bad=(0.5,), fixed=(0.5,))
    result = run(two)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*CRASHES*"])


def test_safe_is_refused_where_the_control_no_longer_crashes(two: Project) -> None:
    """The bad kernel crashes in its calibration and never again: something hides the crash."""
    rates(two, bad=(0.5, 0.0), fixed=(0.0,))
    result = run(two)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*INCONCLUSIVE*", "*something here hides the crash*"])


def test_without_controls_the_verdict_says_that_there_were_none(two: Project) -> None:
    rates(two, bad=(0.5,), fixed=(0.0,))
    result = run(two, "--repro-control-every=0")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*No trials of the known-bad kernel were run*"])


def test_controls_are_on_record_as_what_they_are(two: Project) -> None:
    rates(two, bad=(0.5,), fixed=(0.0,))
    run(two)
    files = Path(two.path, ".repro").rglob("trials-*.jsonl")
    records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    arms = {(r["arm"], r["experiment"]) for r in records if r["type"] == "trial"}
    assert {arm for arm, _ in arms} == {"test", "control"}
    experiments = {arm: {e for a, e in arms if a == arm} for arm, _ in arms}
    assert len(experiments["control"]) == 1
    assert experiments["control"] < experiments["test"]  # the calibration's own trials


def test_a_calibration_can_be_asked_for_on_the_command_line(two: Project) -> None:
    rates(two, bad=(0.5,), fixed=(0.0,))
    two.test("def test_it(repro, kernel): repro.check('ok.c')")
    result = two.pytester.runpytest_inprocess(
        "--kernel=fixed", "--repro-calibrate=old=bad", "--confidence=0.9", "--repro-accel=tcg"
    )
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*from the known-bad kernel old: 10 crashes in*"])


def test_a_kernel_that_hardly_crashes_gives_no_rate(two: Project) -> None:
    rates(two, bad=(0.0,), fixed=(0.0,))
    two.test("def test_it(repro, kernel): repro.check('ok.c')")
    result = two.pytester.runpytest_inprocess(
        "--kernel=fixed",
        "--repro-calibrate=bad",
        "--repro-calibrate-trials=20",
        "--repro-accel=tcg",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "inconclusive: 0 crashed of 20 trials: the known-bad kernel bad gave no crash rate: *",
            "To learn its rate, allow it more trials (--repro-calibrate-trials) or longer ones, *",
            f"known-bad kernel: {two.path / 'bad'} (sha256 *",
        ]
    )
    result.stdout.no_fnmatch_line("*e-values*")  # against a rate that nobody asked about


def test_the_known_bad_kernel_s_own_test_says_that_nothing_was_calibrated(two: Project) -> None:
    """It was silent, and the verdict looked like one against a rate that was learned."""
    rates(two, bad=(0.0,), fixed=(0.0,))
    two.test("def test_it(repro, kernel): repro.check('ok.c')")
    result = run(two, "--repro-calibrate=old=bad", "--repro-min-rate=0.5", "-k", "bad")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*Nothing was calibrated, for bad is the known-bad kernel of --repro-calibrate itself: *"]
    )


def test_a_known_bad_kernel_that_is_not_there_is_told_by_its_option(two: Project) -> None:
    """It was told as one of --kernel."""
    rates(two, bad=(0.0,), fixed=(0.0,))
    two.test("def test_it(repro, kernel): repro.check('ok.c')")
    result = run(two, "--repro-calibrate=gone", "-k", "fixed")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--repro-calibrate gone: */gone: no such file. *"])


def test_another_reproducer_has_nothing_to_do_with_the_rate(two: Project) -> None:
    rates(two, bad=(0.5,), fixed=(0.0,))
    two.write("other.c", "int main(void) { return 1 - 1; }")
    two.test(CHECK.replace('repro.check("ok.c"', 'repro.check("other.c"'))
    result = run(two)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*their crash rates have nothing in common*"])


def test_a_comparison_says_which_kernel_crashes_more(two: Project) -> None:
    rates(two, bad=(0.8,), fixed=(0.0,))
    two.test(
        """
        def test_it(repro, kernels):
            found = repro.compare("ok.c", kernels["fixed"], kernels["bad"])
            assert found.difference.value == "b crashes more"
            assert found.crashes_a == 0 < found.crashes_b
        """
    )
    result = run(two, "--repro-max-trials=200")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["bad CRASHES MORE THAN fixed*"])


def test_a_comparison_without_a_difference_ends_with_its_budget(two: Project) -> None:
    rates(two, bad=(0.3,), fixed=(0.3,))
    two.test(
        """
        def test_it(repro, kernels):
            found = repro.compare("ok.c", kernels["fixed"], kernels["bad"])
            assert found.difference.value == "not shown"
            assert found.pairs == 20
        """
    )
    result = run(two, "--repro-max-trials=20", "--confidence=0.99")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["NO DIFFERENCE SHOWN*", "*Not shown is not equal*"])


def test_a_comparison_that_could_last_for_ever_is_refused(two: Project) -> None:
    rates(two, bad=(0.3,), fixed=(0.3,))
    two.test("def test_it(repro, kernels): repro.compare('ok.c', kernels['bad'], kernels['fixed'])")
    result = run(two)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--repro-max-trials*"])
