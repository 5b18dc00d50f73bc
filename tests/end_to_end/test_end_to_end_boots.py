"""``--repro-boot`` on real kernels: verdicts, resuming, killing, and crashes that boots decide."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Project, Tools

QUESTION = ("--repro-min-rate=0.3", "--confidence=0.8")  # five boots are safe
MODES = pytest.mark.parametrize("mode", ["batch", "snapshot"])

# Decided once a boot, by a word on the kernel's command line that is drawn for each.
BY_BOOT = """
    #include <fcntl.h>
    #include <stdlib.h>
    #include <string.h>
    #include <unistd.h>
    int main(void) {
        char line[4096] = {0}, *drawn;
        if (read(open("/proc/cmdline", O_RDONLY), line, sizeof line - 1) < 0) return 9;
        drawn = strstr(line, "FLAKY_REPRO_BOOT=");
        if (!drawn) return 8;
        drawn[17 + 4] = 0;
        if (strtoul(drawn + 17, 0, 16) % 1000 < PER_MILLE) *(volatile int *)0 = 1;
        return 0;
    }
"""
MINDS = """
    #include <stdlib.h>
    #include <unistd.h>
    int main(void) {
        if (!access("/proc/self", F_OK) && strtoul(getenv("REPRO_SEED"), 0, 16) % 10 < 4)
            *(volatile int *)0 = 1;
        return 0;
    }
"""


@MODES
def test_safe_takes_as_many_boots_as_cold_trials(
    project: Project, tools: Tools, bare_kernel: Path, mode: str
) -> None:
    """Nothing is known of how crashes would cluster, so nothing less would be honest."""
    project.write(ok_c=tools.never)
    status, text = project.pytest(
        "--kernel", bare_kernel, "--reproducer", "ok.c", f"--repro-boot={mode}", *QUESTION, "-v",
        "--repro-batch=3",
    )  # fmt: skip
    assert status == 0, text
    found = re.search(r"SAFE \(0/5 boots, (\d+) trials, <= 28% of boots at 80%\)", text)
    assert found, text
    assert 5 <= int(found[1]) <= 15
    assert len({record["boot"] for record in project.records()}) == 5


def test_trials_said_to_be_independent_are_answered_in_trials(
    project: Project, tools: Tools, bare_kernel: Path
) -> None:
    project.write(ok_c=tools.never)
    status, text = project.pytest(
        "--kernel", bare_kernel, "--reproducer", "ok.c", "--repro-boot=batch", *QUESTION, "-v",
        "--repro-correlation=0",
    )  # fmt: skip
    assert status == 0, text
    found = re.search(r"SAFE \(0/1 boot, (\d+) trials, rate <= ([\d.]+)% at 80%\)", text)
    assert found, text
    assert float(found[2]) <= 30
    assert "taken on your word" in text


@MODES
def test_a_crash_that_only_the_boot_decides_is_not_overlooked(
    project: Project, smp_kernel: Path, mode: str
) -> None:
    """Three boots in five crash in every trial, the others never do, however often they try."""
    project.write(boot_c=BY_BOOT.replace("PER_MILLE", "600"))
    status, text = project.pytest(
        "--kernel", smp_kernel, "--reproducer", "boot.c", f"--repro-boot={mode}",
        "--repro-min-rate=0.3", "--confidence=0.999", "--repro-batch=4",
    )  # fmt: skip
    assert status == 1, text
    assert re.search(r"^CRASHES \(1/\d+ boots?", text, re.MULTILINE), text
    dead = [record for record in project.records() if record["outcome"] == "crashed"]
    assert dead
    assert {record["boot"] for record in dead if record["place"] == 1} == {
        record["boot"] for record in dead
    }  # two boots, or two trials of one, may be under way


def test_crashes_that_cluster_by_boot_send_a_calibration_back_to_cold_boots(
    project: Project, tools: Tools, smp_kernel: Path, bare_kernel: Path
) -> None:
    del tools
    project.write(
        boot_c=BY_BOOT.replace("PER_MILLE", "400")
        .replace("return 8", "return 0")
        .replace("return 9", "return 0")
    )
    status, text = project.pytest(
        "--kernel", f"fixed={bare_kernel}", f"--repro-calibrate=bad={smp_kernel}", "-v",
        "--reproducer=boot.c", "--repro-boot=snapshot", "--confidence=0.8", "--repro-batch=12",
        "--repro-calibrate-crashes=6", "--repro-control-every=0",
    )  # fmt: skip
    assert status == 0, text
    assert "cluster by boot so much" in text
    assert re.search(r"^SAFE \(0/\d+, rate", text, re.MULTILINE), text
    after = project.records("plan")[-1]
    parameters = after["parameters"]
    assert isinstance(parameters, dict)
    assert "boot" not in parameters


@MODES
def test_a_calibration_counts_whole_boots(
    project: Project, smp_kernel: Path, bare_kernel: Path, mode: str
) -> None:
    project.write(minds_c=MINDS)
    status, text = project.pytest(
        "--kernel", f"fixed={bare_kernel}", f"--repro-calibrate=bad={smp_kernel}", "-v",
        "--reproducer=minds.c", f"--repro-boot={mode}", "--confidence=0.8", "--repro-batch=4",
        "--repro-calibrate-crashes=4",
    )  # fmt: skip
    assert status == 0, text
    found = re.search(r"SAFE \(0/(\d+) boots?, (\d+) trials?", text)
    assert found, text
    boots, trials = int(found[1]), int(found[2])
    assert trials == 4 * boots
    assert boots < 8
    assert "of up to 4 trials showed a crash, as the known-bad kernel's do" in text.replace(
        "\n    ", " "
    )


@MODES
def test_killed_and_resumed(project: Project, tools: Tools, bare_kernel: Path, mode: str) -> None:
    marker = f"marker={project.folder.name}"
    project.write(ok_c=tools.never)
    arguments = (
        "--kernel", bare_kernel, "--reproducer=ok.c", f"--repro-append={marker}", "--repro-batch=3",
        f"--repro-boot={mode}", *QUESTION,
    )  # fmt: skip
    run = project.start(*arguments)
    run.until(lambda: len(project.records()) >= 4 and bool(tools.qemus(marker)))
    os.kill(run.process.pid, signal.SIGKILL)
    run.wait()
    assert tools.left_over(marker) == []
    before = len(project.records())
    status, text = project.pytest(*arguments, "--repro-resume")
    assert status == 0, text
    assert re.search(r"SAFE \(0/5 boots", text), text
    assert before < len(project.records()) <= 18
    assert tools.left_over(marker) == []


def test_noise_sends_an_uncalibrated_check_to_cold_boots(
    project: Project, tools: Tools, bare_kernel: Path
) -> None:
    project.write(ok_c=tools.never)
    status, text = project.pytest(
        "--kernel", bare_kernel, "--reproducer=ok.c", "--repro-boot=batch", "-v",
        "--repro-min-rate=0.5", "--repro-noise=0.01", "--confidence=0.7",
    )  # fmt: skip
    assert status == 0, text
    assert "further trials of a boot prove nothing either way" in text
    assert {record["place"] for record in project.records()} == {1}


def test_a_comparison_pairs_boots(project: Project, smp_kernel: Path, bare_kernel: Path) -> None:
    project.write(
        minds_c=MINDS,
        test_compare_py="""
            def test_compare(repro, kernels):
                found = repro.compare("minds.c", kernels["bad"], kernels["fixed"])
                assert found.difference.name == "A_CRASHES_MORE"
        """,
    )
    status, text = project.pytest(
        f"--kernel=bad={smp_kernel}", f"--kernel=fixed={bare_kernel}", "--repro-boot=batch",
        "--repro-batch=4", "--confidence=0.8", "--repro-max-trials=400", "test_compare.py",
    )  # fmt: skip
    assert status == 0, text
    assert re.search(r"bad CRASHES MORE THAN fixed", text), text
