"""Under pytest-xdist: the same verdicts, one summary, and an end when the end is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

ENDLESS = ("--repro-min-rate=0.000001", "--confidence=0.9", "--repro-accel=tcg", "--kernel=bzImage")
CRASHES_FIRST = """
    import pathlib

    def test_crashes(repro, kernel):
        while not list(pathlib.Path(".repro").glob("*test_goes_on*/*.jsonl")):
            pass  # the other campaign has to be running
        repro.check("ok.c", ok_exit=[0])

    def test_goes_on(repro, kernel):
        repro.check("ok.c", env={"GO": "on"})
"""


def test_two_kernels_on_two_workers_have_two_verdicts_in_one_summary(project: Project) -> None:
    project.machine("crash=1.0 if 'bad' in experiment.kernel.path.name else 0.0")
    project.add_kernel("bad")
    result = project.spawn("-n2", "--kernel=bad", "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines_random(
        [
            "CRASHES (1/1)  test_it.py::test_it[[]bad[]]",
            "SAFE (0/4, *)  test_it.py::test_it[[]bzImage[]]",
        ]
    )
    assert result.stdout.str().count("= flaky repro =") == 1


def test_infrastructure_is_an_error_on_a_worker_too(project: Project) -> None:
    project.machine("setup_fault='there is no serial console'")
    result = project.spawn("-n1", "-v")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*INFRASTRUCTURE*", "*there is no serial console*"])


def test_x_ends_the_campaigns_of_other_workers(project: Project) -> None:
    """Without the stop file the other campaign would need ten million trials."""
    project.write(
        "conftest.py",
        """
        from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine

        def pytest_repro_machine(config, experiment, settings):
            crash = 0.0 if experiment.conditions.environment else 1.0
            return FakeMachine(Behaviour(crash=crash, seconds=0.01))
        """,
    )
    project.test(CRASHES_FIRST)
    result = project.pytester.runpytest_subprocess(*ENDLESS, "-n2", "-x", timeout=60)
    assert result.ret != pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*test_crashes*", "*stopping after 1 failures*"])
    ended = {trial["outcome"] for trial in project.records("trial")}
    assert ended >= {"crashed", "survived"}


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "xdist"])
def test_ctrl_c_ends_a_campaign_and_keeps_its_trials(
    project: Project, workers: tuple[str, ...]
) -> None:
    project.machine("seconds=0.01")
    command = [sys.executable, "-mpytest", *ENDLESS, *workers]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        while not project.records("trial"):
            assert run.poll() is None
            time.sleep(0.05)
        os.kill(run.pid, signal.SIGINT)
        printed, _ = run.communicate(timeout=60)
    assert "KeyboardInterrupt" in printed
    assert run.returncode == pytest.ExitCode.INTERRUPTED
    ends = [trial["outcome"] for trial in project.records("trial")]
    before = ends.count("survived")  # one more may have been stopped: it is lost
    again = project.run("--repro-min-rate=0.000001", "--repro-resume", "--repro-max-trials=1")
    again.stdout.fnmatch_lines([f"*INCONCLUSIVE (0/{before})*"])


def test_the_stop_file_leaves_nothing_behind(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    project.spawn("-n1").assert_outcomes(passed=1)
    assert [p.name for p in folder.iterdir() if "flaky-repro" in p.name] == []


def test_a_run_without_workers_has_no_stop_file(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = project.path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    project.spawn().assert_outcomes(passed=1)
    assert [p.name for p in folder.iterdir() if "flaky-repro" in p.name] == []
