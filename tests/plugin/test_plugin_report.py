"""What a person reads about a failed campaign, and what to do with it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project


@pytest.fixture
def crashing(project: Project) -> Project:
    project.machine("crash=1.0")
    return project


def test_a_crash_is_told_without_a_python_traceback(crashing: Project) -> None:
    result = crashing.run()
    text = result.stdout.str()
    assert "Traceback" not in text
    assert ".py:" not in text.replace("test_it.py::", "")
    assert "KernelCrashed" not in text


def test_a_crash_shows_the_end_of_the_console(crashing: Project) -> None:
    crashing.machine("crash=1.0, console='\\n'.join(f'line {i}' for i in range(40)) + PANIC")
    crashing.write("conftest.py", "from pytest_flaky_repro.machine.fake import PANIC\n"
                   + (crashing.path / "conftest.py").read_text())  # fmt: skip
    result = crashing.run()
    result.stdout.fnmatch_lines(["console of the trial (its end):", "    line 38", "    line 39*"])
    result.stdout.no_fnmatch_line("*line 3")


def test_a_console_cannot_move_the_terminal_s_cursor(crashing: Project) -> None:
    crashing.machine(r"crash=1.0, console='\x1b[2Jgone\nKernel panic - not syncing: \x1b]0;t\x07'")
    result = crashing.run()
    assert "\x1b" not in result.stdout.str()
    result.stdout.fnmatch_lines([r"*\x1b*2Jgone"])


def test_a_crash_names_an_evidence_file_that_is_there(crashing: Project) -> None:
    result = crashing.run()
    found = re.search(r"^evidence: (.*)$", result.stdout.str(), re.MULTILINE)
    assert found is not None
    assert Path(found[1]).read_text().startswith('{"schema": 1, "type": "plan"')


@pytest.mark.parametrize("words", [(), ("--repro-smp=2", "--repro-append=quiet splash")])
def test_the_command_to_run_it_again_works(crashing: Project, words: tuple[str, ...]) -> None:
    first = crashing.run(*words)
    again = crashing.again(first)
    again.assert_outcomes(failed=1)
    plans = crashing.records("plan")
    assert len(plans) == 2
    assert plans[0]["hash"] == plans[1]["hash"]


def test_the_command_for_a_reproducer_without_a_test_works_too(crashing: Project) -> None:
    first = crashing.run("--reproducer=ok.c")
    crashing.again(first).assert_outcomes(failed=1)
    plans = crashing.records("plan")
    assert [plan["item"] for plan in plans] == ["ok.c[bzImage]"] * 2


def test_the_command_runs_one_kernel_s_test_of_several(crashing: Project) -> None:
    crashing.add_kernel("other")
    first = crashing.run("--kernel=fixed=other", "-k", "fixed")
    crashing.again(first).assert_outcomes(failed=1)
    assert {plan["kernel"] for plan in crashing.records("plan")} == {"fixed"}


def test_settings_from_the_environment_are_in_the_command_too(
    crashing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_REPRO_TRIAL_TIME", "7")
    crashing.run().stdout.fnmatch_lines(["again: *--repro-trial-time=7*"])


def test_the_short_summary_has_one_line_a_failure(crashing: Project) -> None:
    result = crashing.run()
    lines = result.outlines
    start = next(i for i, line in enumerate(lines) if "short test summary" in line)
    assert len(lines[start + 1 : -1]) == 1
    assert lines[start + 1].startswith("CRASHES (1/1) test_it.py::test_it")


def test_quiet_says_a_line_a_verdict(project: Project) -> None:
    text = project.run("-q").stdout.str()
    assert "SAFE (0/4, rate <= 44% at 90%)  test_it.py::test_it[bzImage]" in text
    assert "would have been said" not in text
    assert "flaky-repro: plan" not in text


def test_very_quiet_says_none(project: Project) -> None:
    assert "SAFE" not in project.run("-qq").stdout.str()


def test_a_verdict_prints_as_one_line(project: Project) -> None:
    project.test(
        """
        def test_it(repro, kernel):
            verdict = repro.measure("ok.c")
            print(verdict)
            assert len(repr(verdict)) < 2500
        """
    )
    result = project.run("-s")
    result.stdout.fnmatch_lines(
        ["*SAFE (0/4, rate <= 44% at 90%) test_it.py::test_it[[]bzImage[]]: the safe line was *"]
    )


def test_the_header_says_what_is_tested_and_for_how_long(project: Project) -> None:
    result = project.run()
    result.stdout.fnmatch_lines(
        [
            f"flaky-repro: kernel: {project.kernel}",
            "flaky-repro: accel: tcg, smp 1, 256 MiB, trial time 10 s",
            "flaky-repro: plan: confidence 90%, min rate 50%: safe after 4 trials *",
        ]
    )


def test_the_header_counts_boots_where_trials_share_them(project: Project) -> None:
    result = project.run("--repro-boot=batch", "--repro-batch=3", "--repro-max-trials=12")
    result.stdout.fnmatch_lines(
        [
            "*: plan: *: safe after 4 boots of up to 3 trials without a crash; about 2 boots to *",
            "*: plan: budget 12 trials: 'safe' takes 4 boots, so 4 to 12 trials",
        ]
    )


def test_the_header_of_a_calibrated_run_names_no_rate_that_is_not_asked_about(
    project: Project,
) -> None:
    bad = f"bad={project.kernel}"
    result = project.run(f"--repro-calibrate={bad}", "--repro-reduction=2", "--collect-only")
    said = f"the rate to rule out is that of {bad} over 2, learned first: from 10 crashed trials"
    result.stdout.fnmatch_lines(
        [f"flaky-repro: plan: confidence 90%: {said} of at most 10000 trials"]
    )
    result.stdout.no_fnmatch_line("*min rate*")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--repro-max-trials=1",), "budget 1 trial cannot reach 'safe': that takes 4 trials"),
        (
            ("--repro-max-trials=3", "--repro-boot=batch"),
            "budget 3 trials cannot reach 'safe': that takes 4 boots, so 4 to 64 trials",
        ),
        (("--repro-max-trials=4",), "budget 4 trials: inconclusive with probability at most 0%*"),
    ],
)
def test_the_header_says_what_a_budget_cannot_reach(
    project: Project, arguments: tuple[str, ...], said: str
) -> None:
    project.run(*arguments).stdout.fnmatch_lines([f"flaky-repro: plan: {said}"])


def test_a_missing_kernel_is_an_error_that_names_it(project: Project) -> None:
    result = project.run("--kernel=gone=no/such/file", "-k", "gone")
    result.assert_outcomes(errors=1, deselected=1)
    result.stdout.fnmatch_lines(["--kernel gone: */no/such/file: no such file. *bzImage."])


def test_a_missing_reproducer_is_an_error_without_a_traceback(project: Project) -> None:
    project.test("def test_it(repro, kernel): repro.check('gone.c')")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*gone.c*"])
    result.stdout.no_fnmatch_line("*def test_it*")
