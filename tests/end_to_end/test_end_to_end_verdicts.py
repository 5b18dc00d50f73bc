"""The main job on real kernels: crashes, safe, and as many trials as the formula says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Project, Tools


def test_a_reproducer_that_crashes_a_fifth_of_the_time_is_caught(
    project: Project, tools: Tools, bare_kernel: Path
) -> None:
    project.write(coin_c=tools.coin(0.2))
    status, text = project.pytest(
        "--kernel", bare_kernel, "--reproducer", "coin.c", "--confidence", "0.99"
    )
    assert status == 1, text
    assert tools.verdicts(text) == ["CRASHES"]
    assert "SIGSEGV in reproducer" in text


@pytest.mark.slow
def test_one_that_never_crashes_is_safe_after_exactly_90_intact_trials(
    project: Project, tools: Tools, bare_kernel: Path
) -> None:
    project.write(ok_c=tools.never)
    status, text = project.pytest(
        "--kernel", bare_kernel, "--reproducer", "ok.c", "--confidence", "0.99"
    )
    assert status == 0, text
    assert "SAFE (0/90, rate <= 5.0% at 99%)" in text
    survived = [record for record in project.records() if record["outcome"] == "survived"]
    assert len(survived) == 90


def test_two_kernels_get_two_verdicts_also_side_by_side(
    project: Project, bare_kernel: Path, smp_kernel: Path
) -> None:
    """/proc is on one of the two kernels only, and the reproducer minds."""
    project.write(
        minds_c="""
            #include <unistd.h>
            int main(void) { if (!access("/proc/self", F_OK)) *(volatile int *)0 = 1; return 0; }
        """,
        test_two_py="def test_minds(repro, kernel):\n    repro.check('minds.c')\n",
    )
    kernels = [f"--kernel=bare={bare_kernel}", f"--kernel=smp={smp_kernel}"]
    question = ["--repro-min-rate=0.4", "--confidence=0.8", "-v"]
    for workers in ([], ["-n", "2"]):
        status, text = project.pytest(*kernels, *question, *workers)
        assert status == 1, text
        assert re.search(r"^SAFE \(0/4\b.*\[bare\]", text, re.MULTILINE), text
        assert re.search(r"^CRASHES \(1/1\).*\[smp\]", text, re.MULTILINE), text


def test_a_dynamically_linked_program_brings_its_libraries(
    project: Project, tools: Tools, smp_kernel: Path
) -> None:
    status, text = project.pytest(
        "--kernel", smp_kernel, "--reproducer", "/bin/true",
        "--repro-min-rate=0.9", "--confidence=0.5",
    )  # fmt: skip
    assert status == 0, text
    assert tools.verdicts(text) == ["SAFE"]


def test_the_vm_fixture_runs_commands(project: Project, smp_kernel: Path) -> None:
    project.write(
        test_vm_py="""
            def test_release(vm):
                assert vm.run("uname -r").text.startswith("6.1.")
                done = vm.run("echo out; exit 3")
                assert (done.status, done.text) == (3, "out\\n")

            def test_cpus(vm):
                assert vm.run("grep -c ^processor /proc/cpuinfo").text == "2\\n"
        """
    )
    status, text = project.pytest("--kernel", smp_kernel, "--repro-smp", "2")
    assert status == 0, text
    assert "2 passed" in text
