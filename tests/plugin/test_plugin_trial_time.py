"""``--repro-trial-time auto``: the known-bad kernel's times to crash choose the trials' length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

# crashes one trial in two, in the given second of it, if the trial is long enough for that
MACHINES = """
    import hashlib
    from dataclasses import replace

    from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine

    class Slow(FakeMachine):
        def run(self, order, slot, stop, started):
            facts = super().run(order, slot, stop, started)
            is_long_enough = order.command.time_s >= {at}
            if facts.end is None and is_long_enough:
                return replace(facts, exposure_s={at}, boot_s=1.0)
            if facts.end is None:
                return FakeMachine(Behaviour()).run(order, slot, stop, lambda: None)
            return replace(facts, exposure_s=order.command.time_s)

    def pytest_repro_machine(config, experiment, settings):
        bad = experiment.kernel.path.name == "bad"
        return Slow(Behaviour(crash=0.5 if bad else 0.0))
"""
CHECK = """
    def test_fix_holds(repro, kernels):
        bad = repro.measure("ok.c", kernel=kernels["bad"], crashes=10)
        assert bad.crashes == bad.calibration.crashes == 10
        repro.check("ok.c", kernel=kernels["fixed"], calibrated_on=bad)
"""


@pytest.fixture
def two(project: Project) -> Project:
    """A project with a kernel called bad and one called fixed."""
    project.add_kernel("bad")
    project.add_kernel("fixed")
    project.test(CHECK)
    return project


def run(project: Project, *args: str, crash_at: float) -> pytest.RunResult:
    project.write("conftest.py", MACHINES.format(at=crash_at))
    words = ("--kernel=bad", "--kernel=fixed", "--confidence=0.9", "--repro-accel=tcg", *args)
    return project.pytester.runpytest_inprocess(*words)


def trial_times(project: Project) -> list[float]:
    """Those of the plans, in the order of their campaigns."""
    plans = sorted(project.records("plan"), key=lambda plan: str(plan["created"]))
    return [plan["parameters"]["trial_time"] for plan in plans]


def test_early_crashes_make_trials_short(two: Project) -> None:
    result = run(two, "--repro-trial-time=auto", crash_at=0.4)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*trial time auto (up to 10 s)*",
            "*The trial time, 0.5 s, was chosen by 5 crashes in trials of up to 10 s*",
            "*trials of up to 0.5 s*",
        ]
    )
    assert trial_times(two) == [10.0, 0.5, 0.5]  # the choice, the calibration, the check


def test_the_rate_is_learned_from_trials_of_the_chosen_length_only(two: Project) -> None:
    run(two, "--repro-trial-time=auto", crash_at=0.4)
    trials = two.records("trial")
    experiments = {trial["experiment"] for trial in trials}
    crashes = [
        sum(
            t["outcome"] == "crashed" for t in trials if t["experiment"] == e and t["arm"] == "test"
        )
        for e in experiments
    ]
    assert sorted(crashes) == [0, 5, 10]  # of the fixed kernel, the choice, the calibration


def test_late_crashes_keep_the_longest_and_their_trials_count(two: Project) -> None:
    result = run(two, "--repro-trial-time=auto:20", crash_at=19.0)
    result.assert_outcomes(passed=1)
    assert trial_times(two) == [20.0, 20.0]  # the calibration, the check
    result.stdout.fnmatch_lines(["*Crashes come late in a trial*auto:80*"])


def test_the_choice_of_an_interrupted_run_is_resumed(two: Project) -> None:
    run(two, "--repro-trial-time=auto", crash_at=0.4)
    before = len(two.records("trial"))
    result = run(two, "--repro-trial-time=auto", "--repro-resume", crash_at=0.4)
    result.assert_outcomes(passed=1)
    assert len(two.records("trial")) == before


def test_a_calibration_of_fixed_length_advises_a_better_one(two: Project) -> None:
    result = run(two, crash_at=0.4)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["*Trials of 0.5 s would bring 'safe' in about *--repro-trial-time auto*"]
    )


def test_a_calibration_on_the_command_line_chooses_too(two: Project) -> None:
    two.test("def test_it(repro, kernel): repro.check('ok.c')")
    two.write("conftest.py", MACHINES.format(at=0.4))
    result = two.pytester.runpytest_inprocess(
        *("--kernel=fixed", "--kernel=bad", "--repro-calibrate=old=bad", "--confidence=0.9"),
        *("--repro-accel=tcg", "--repro-trial-time=auto"),
    )
    result.assert_outcomes(passed=1, failed=1)  # the known-bad kernel crashes
    result.stdout.fnmatch_lines(["*was chosen by 5 crashes*"])


@pytest.mark.parametrize(
    "call",
    [
        "repro.check('ok.c', kernel=kernels['fixed'])",
        "repro.measure('ok.c', kernel=kernels['bad'])",
        "repro.compare('ok.c', kernels['bad'], kernels['fixed'])",
    ],
)
def test_without_a_calibration_auto_has_nothing_to_go_by(two: Project, call: str) -> None:
    two.test(f"def test_it(repro, kernels): {call}")
    result = run(two, "--repro-trial-time=auto", "--repro-max-trials=5", crash_at=0.4)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*--repro-trial-time: auto needs the times to crash*"])
    assert two.records("launch") == []


@pytest.mark.parametrize("bad", ["auto:", "auto:0", "auto:x", "automatic"])
def test_what_is_no_trial_time_is_refused(two: Project, bad: str) -> None:
    result = run(two, f"--repro-trial-time={bad}", crash_at=0.4)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--repro-trial-time: expected a positive number*auto:S*"])


def test_the_command_to_run_it_again_says_auto(two: Project) -> None:
    two.test("def test_it(repro, kernels): repro.check('ok.c', kernel=kernels['bad'])")
    two.write("conftest.py", MACHINES.format(at=0.4))
    result = two.pytester.runpytest_inprocess(
        *("--kernel=bad", "--repro-calibrate=bad", "--repro-trial-time=auto:4"),
        "--repro-accel=tcg",
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["again:*--repro-trial-time=auto:4*"])


@pytest.mark.parametrize(
    ("crash_at", "arguments", "chosen"), [(0.4, "auto", 0.5), (19.0, "auto:20", 20)]
)
def test_every_verdict_says_which_length_was_chosen(
    two: Project, crash_at: float, arguments: str, chosen: float
) -> None:
    """The longest was chosen without a word, and a check said it only where it was safe."""
    result = run(two, f"--repro-trial-time={arguments}", crash_at=crash_at)
    said = (
        f"    Trials are of up to {chosen:g} s: auto (--repro-trial-time) chose it by the known-bad"
    )
    text = result.stdout.str()
    assert text.count(said) == (2 if chosen == 20 else 1), text  # the calibration has its own
