"""The whole chain on a real kernel and its real bug: examples/vdso_stack_probe.

The first run builds a kernel (minutes); it is kept in the user's cache, as all test kernels are.
"""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.objects.workplace import Inputs
from pytest_flaky_repro.culprit.objects.wrapper import Variant
from pytest_flaky_repro.machine.spec import Emulator

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "vdso_stack_probe"
CULPRIT = "arch/x86/entry/vdso/vclock_gettime.o"
BAD_FLAGS = "-fno-inline -fstack-check -mpreferred-stack-boundary=4"


@dataclass(frozen=True)
class Story:
    """A kernel's source, a configured build of it, and a folder that outlives the tests."""

    source: Path
    build: Path
    kept: Path

    def objects(self, *words: str, folder: Path, work: Path) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pytest_flaky_repro",
            "culprit",
            "objects",
        ]
        command += ["--source", self.source, "--build", self.build, "--work", work]
        command += ["--make-arg", "ARCH=x86_64", f"--bad-flags={BAD_FLAGS}", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def story(smp_kernel: Path, user_cache: Path, tmp_path: Path) -> Story:
    kernels = runpy.run_path(str(ROOT / "tests" / "kernels" / "build.py"))
    source: Path = kernels["_source_tree"](kernels["ensure_source_package"]())
    build = tmp_path / "build"
    build.mkdir()
    shutil.copy(smp_kernel.parent / "config", build / ".config")
    return Story(source, build, user_cache / "culprit-objects")


def test_the_vdso_s_object_is_found_confirmed_and_shown(
    story: Story, emulator: Emulator, tmp_path: Path
) -> None:
    del emulator
    # less of a pause between two calls than in the example: nearly every trial crashes
    reproducer = tmp_path / "often.c"
    reproducer.write_text(f'#define PAUSE 1000\n#include "{EXAMPLE / "race.c"}"\n')
    inputs = Inputs(
        story.source, story.build, Variant("gcc"), Variant("gcc", BAD_FLAGS), ("ARCH=x86_64",)
    )
    done = story.objects(
        *("--only", "arch/x86/entry/*", "--only", "kernel/time/*", "--exclude", "*/vsyscall/*"),
        *("--reproducer", str(reproducer), "--smp", "2", "--trial-time", "4", "--accel", "tcg"),
        "--json",
        folder=tmp_path,
        work=story.kept / inputs.key,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [found["names"] for found in report["culprits"]] == [[CULPRIT]]
    look = report["sections"][f"a look at {CULPRIT}"]
    assert sum(f["bad"]["probes"] for f in look["functions"] if f["bad"]) > 0
    assert sum(f["good"]["probes"] for f in look["functions"] if f["good"]) == 0
    assert "orq $0x0,(%rsp)" in Path(look["listing"]).read_text()
    builds = report["sections"]["the builds"]
    assert all(Path(kernel).is_file() for kernel in builds["kernels"].values())
    assert builds["replayed_link"] != "refused"


@pytest.mark.slow
def test_the_story_is_replayed_from_source_to_answer(
    story: Story, emulator: Emulator, tmp_path: Path
) -> None:
    del emulator
    own = {
        "KERNEL_SOURCE": str(story.source),
        "FLAKY_REPRO": str(Path(sys.executable).with_name("flaky-repro")),
        "PYTEST": str(Path(sys.executable).with_name("pytest")),
    }
    done = subprocess.run(
        [EXAMPLE / "replay", story.kept / "replay"], cwd=tmp_path, env={**os.environ, **own},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "orq $0x0,(%rsp)" in done.stdout
    assert "SAFE (" in done.stdout  # with one CPU
