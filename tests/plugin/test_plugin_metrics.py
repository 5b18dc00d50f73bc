"""Metrics, read back by the client library's own parser."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pytest_flaky_repro.machine.conversation import STOPPED

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

METRICS = "--repro-metrics=flaky.prom"
Sample = tuple[str, str, str]


def samples(path: Path) -> dict[Sample, float]:
    """(name, test and kernel, verdict) -> value."""
    return {
        (
            sample.name.removeprefix("flaky_repro_"),
            f"{sample.labels.get('test', '')} {sample.labels.get('kernel', '')}".strip(),
            sample.labels.get("verdict", ""),
        ): sample.value
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


SAFE = "test_it.py::test_it[bzImage] bzImage"
BAD = "test_it.py::test_it[bad] bad"


@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["here", "xdist"])
def test_the_file_has_the_figures_of_every_test_and_kernel(
    project: Project, workers: tuple[str, ...]
) -> None:
    project.machine("crash=1.0 if 'bad' in experiment.kernel.path.name else 0.0")
    project.add_kernel("bad")
    result = project.spawn("--kernel=bad", METRICS, *workers)
    seen = samples(project.path / "flaky.prom")
    assert (seen["trials", SAFE, ""], seen["trials", BAD, ""]) == (4, 1)
    assert (seen["crashes", SAFE, ""], seen["crashes", BAD, ""]) == (0, 1)
    assert (seen["verdict", SAFE, "safe"], seen["verdict", SAFE, "crashes"]) == (1, 0)
    assert (seen["verdict", BAD, "safe"], seen["verdict", BAD, "crashes"]) == (0, 1)
    assert seen["rate_upper", SAFE, ""] == pytest.approx(1 - 0.1 ** (1 / 4))
    assert seen["rate_lower", BAD, ""] > 0
    assert seen["needed", SAFE, ""] == 0
    result.stdout.fnmatch_lines(["flaky-repro: metrics: flaky.prom"])


def test_what_was_void_and_lost_is_counted_apart(project: Project) -> None:
    """Less what was still running when the campaign ended: nobody counts that any more."""
    project.machine("void=0.06, lost=0.06")
    project.spawn(METRICS, "--repro-min-rate=0.1")
    seen = samples(project.path / "flaky.prom")
    ended = [trial for trial in project.records("trial") if trial["detail"] != STOPPED]
    votes = [trial["outcome"] for trial in ended]
    assert seen["void", SAFE, ""] == votes.count("boot_failed")
    assert seen["lost", SAFE, ""] == votes.count("lost")


def test_a_file_that_cannot_be_written_costs_no_verdict(project: Project) -> None:
    project.test(
        """
        from pathlib import Path

        def test_it(repro, kernel):
            Path("textfile").write_text("in the way")
            repro.check("ok.c")
        """
    )
    result = project.spawn("--repro-metrics=textfile/flaky.prom")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["flaky-repro: the metrics could not be written: *textfile*"])
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR


def test_nothing_else_is_left_beside_the_file(project: Project) -> None:
    (project.path / "textfile").mkdir()
    project.spawn("--repro-metrics=textfile/flaky.prom")
    assert [path.name for path in (project.path / "textfile").iterdir()] == ["flaky.prom"]


def test_a_running_campaign_is_in_the_file(project: Project) -> None:
    project.machine("seconds=0.01")
    words = ("--kernel=bzImage", "--repro-accel=tcg", "--repro-min-rate=0.000001", METRICS)
    path = project.path / "flaky.prom"
    with subprocess.Popen([sys.executable, "-mpytest", *words], stdout=subprocess.PIPE) as run:
        while not path.exists() or not samples(path).get(("trials", SAFE, "")):
            assert run.poll() is None
            time.sleep(0.05)
        seen = samples(path)
        run.terminate()
        run.communicate(timeout=60)
    assert seen["verdict", SAFE, "running"] == 1
    assert seen["needed", SAFE, ""] > 1000


def test_a_name_with_quotes_is_read_back_as_it_is(project: Project) -> None:
    project.write("test_it.py", "")
    project.write(
        "test_odd.py",
        r"""
        import pytest

        @pytest.mark.parametrize("odd", ['a"b'])
        def test_it(repro, kernel, odd):
            repro.check("ok.c")
        """,
    )
    project.spawn(METRICS)
    names = {name for _, name, _ in samples(project.path / "flaky.prom") if name}
    assert names == {'test_odd.py::test_it[bzImage-a"b] bzImage'}


def test_a_missing_library_is_said_before_the_first_trial(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_flaky_repro.report import metrics

    monkeypatch.setattr(metrics, "find_spec", lambda _: None)
    result = project.run(METRICS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pip install pytest-flaky-repro[[]metrics[]]"])
