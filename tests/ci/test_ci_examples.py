"""The CI files of examples/ci: valid, and each of their shell steps does what it says.

Steps run exactly as they are written, under the shells and flags that the vendors document, in
scratch copies, with the matrix in the environment, on real kernels in real guests. Only ``sudo``,
``apt-get`` and ``pip`` are stand-ins that do nothing: they would change this machine.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

EXAMPLES = Path(__file__).parents[2] / "examples" / "ci"
STAND_INS = ("sudo", "apt-get", "pip")
# GitHub: "Workflow syntax", jobs.<job_id>.steps[*].shell; GitLab's shells set the same options.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")
# Smaller promises than in the files, so that a campaign takes seconds: safe after 6 trials.
SMALL = {
    "PYTEST_REPRO_CONFIDENCE": "0.9",
    "PYTEST_REPRO_MIN_RATE": "0.35",
    "PYTEST_REPRO_MAX_TRIALS": "3",
}
CRASHES_WITH_PROCFS = """\
#include <unistd.h>
int main(void) { return access("/proc/version", F_OK) == 0 ? 3 : 0; }
"""


@dataclass(frozen=True)
class Place:
    """A scratch copy of a repository that holds the examples and two kernels."""

    folder: Path
    tools: Path

    def run(self, script: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        path = f"{self.tools}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        kept = {"PYTEST_REPRO_CACHE": os.environ.get("PYTEST_REPRO_CACHE", "")}
        slots = {"PYTEST_REPRO_SLOTS": str(self.tools / "slots"), "PYTEST_REPRO_ACCEL": "tcg"}
        return subprocess.run(
            [*BASH, script],
            cwd=self.folder,
            env={**clean, **{k: v for k, v in kept.items() if v}, **slots, **env, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def asked_of(self, tool: str) -> str:
        log = self.tools / f"{tool}.log"
        return log.read_text() if log.exists() else ""


@pytest.fixture
def place(tmp_path: Path, bare_kernel: Path, smp_kernel: Path) -> Place:
    """Kernel ``stable`` has no procfs, ``next`` has: a reproducer can tell them apart."""
    folder, tools = tmp_path / "repository", tmp_path / "tools"
    shutil.copytree(EXAMPLES, folder)
    for name, kernel in {"stable": bare_kernel, "next": smp_kernel}.items():
        (folder / "kernels" / name).mkdir(parents=True)
        shutil.copy(kernel, folder / "kernels" / name / "bzImage")
    tools.mkdir()
    for tool in STAND_INS:
        script = f'#!/bin/sh\necho "$@" >>"{tools}/{tool}.log"\ncat >/dev/null\n'
        (tools / tool).write_text(script)
        (tools / tool).chmod(0o755)
    (folder / "pytest.ini").write_text("[pytest]\n")
    return Place(folder, tools)


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((EXAMPLES / name).read_text())
    return content


@pytest.mark.parametrize(
    ("name", "schema"),
    [("github-workflow.yml", "github-workflows"), ("gitlab-ci.yml", "gitlab-ci")],
)
def test_the_file_fits_the_vendor_s_schema(name: str, schema: str) -> None:
    """check-jsonschema carries the published schemas: nothing is downloaded."""
    transform = ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    words = ["-m", "check_jsonschema", *transform, "--builtin-schema", f"vendor.{schema}"]
    words.append(str(EXAMPLES / name))
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


# ---- GitHub


class GitHub:
    """Runs the jobs of the workflow, the uploads and downloads between them included."""

    def __init__(self, place: Place, tmp_path: Path) -> None:
        self.workflow = load("github-workflow.yml")
        self.place, self.artifacts = place, tmp_path / "artifacts"
        self.env = {**self.workflow["env"], **SMALL}
        self.summary = tmp_path / "summary"

    def matrix(self) -> list[dict[str, str]]:
        axes = self.workflow["jobs"]["trials"]["strategy"]["matrix"]
        return [
            dict(zip(axes, map(str, values), strict=True))
            for values in itertools.product(*axes.values())
        ]

    def job(self, name: str, matrix: Mapping[str, str]) -> tuple[int, str]:
        """The exit status of the first step that failed, and what all of them printed."""
        job, status, printed = self.workflow["jobs"][name], 0, ""
        own = {k: filled(v, matrix) for k, v in job.get("env", {}).items()}
        env = {**self.env, **own, "GITHUB_STEP_SUMMARY": str(self.summary)}
        for step in job["steps"]:
            if status and "cancelled" not in str(step.get("if", "")):
                continue
            if "run" in step:
                done = self.place.run(filled(step["run"], matrix), env)
                printed += done.stdout
                status = status or done.returncode
            elif step["uses"].startswith("actions/upload-artifact"):
                self._upload(step["with"], matrix)
            elif step["uses"].startswith("actions/download-artifact"):
                shutil.copytree(self.artifacts, self.place.folder / step["with"]["path"])
        return status, printed

    def _upload(self, words: Mapping[str, Any], matrix: Mapping[str, str]) -> None:
        kept = self.artifacts / filled(words["name"], matrix)
        for name in words["path"].split():
            source = self.place.folder / name
            if source.exists():  # the action warns of what is not there, and goes on
                kept.mkdir(parents=True, exist_ok=True)
                shutil.move(source, kept / name)


def filled(text: str, matrix: Mapping[str, str]) -> str:
    return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda m: matrix[m[1]], str(text))


def test_a_github_matrix_in_which_no_kernel_crashes_is_safe(place: Place, tmp_path: Path) -> None:
    github = GitHub(place, tmp_path)
    for row in github.matrix():
        status, printed = github.job("trials", row)
        assert status == 0, printed
        assert "INCONCLUSIVE (0/3)" in printed  # three of the six trials that are needed
    status, printed = github.job("judge", {})
    assert status == 0, printed
    assert printed.count("SAFE  test_regression.py") == 2
    assert "SAFE" in github.summary.read_text()
    report = (github.artifacts / "report" / "report.html").read_text()
    assert "test_release_survives" in report
    parts = sorted(path.name for path in github.artifacts.glob("trials-*"))
    assert parts == ["trials-next-1", "trials-next-2", "trials-stable-1", "trials-stable-2"]
    for part in parts:
        results = github.artifacts / part / "results"
        assert (results / "report.html").is_file()
        assert len(ET.parse(results / "junit.xml").findall(".//testcase")) == 1


def test_a_github_matrix_in_which_one_kernel_crashes_fails(place: Place, tmp_path: Path) -> None:
    (place.folder / "regression.c").write_text(CRASHES_WITH_PROCFS)
    github = GitHub(place, tmp_path)
    came_to = {row["kernel"]: github.job("trials", row)[0] for row in github.matrix()}
    assert came_to == {"stable": 0, "next": 1}
    status, printed = github.job("judge", {})
    assert status == 1, printed
    assert re.search(r"^CRASHES .*\[next\]", printed, re.MULTILINE)
    assert re.search(r"^SAFE .*\[stable\]", printed, re.MULTILINE)
    assert (github.artifacts / "report" / "report.html").is_file()


def test_a_github_matrix_that_is_short_of_trials_fails(place: Place, tmp_path: Path) -> None:
    github = GitHub(place, tmp_path)
    for row in github.matrix():
        if row["part"] == "1":
            github.job("trials", row)
    status, printed = github.job("judge", {})
    assert status == 3, printed
    assert "3 more surviving trials would make it safe" in printed


def test_a_kernel_that_cannot_boot_fails_before_the_trials(place: Place, tmp_path: Path) -> None:
    (place.folder / "kernels" / "next" / "bzImage").write_bytes(b"\x7fELF" + bytes(999))
    github = GitHub(place, tmp_path)
    status, printed = github.job("trials", {"kernel": "next", "part": "1"})
    assert status == 1
    assert "blocks  kernel: --kernel: kernels/next/bzImage is not a bzImage" in printed
    assert "test session starts" not in printed


def test_kvm_is_opened_in_the_documented_way(place: Place, tmp_path: Path) -> None:
    github = GitHub(place, tmp_path)
    steps = github.workflow["jobs"]["trials"]["steps"]
    (step,) = (step for step in steps if "kvm" in step.get("name", ""))
    assert place.run(step["run"], {}).returncode == 0
    assert place.asked_of("sudo").splitlines() == [
        "tee /etc/udev/rules.d/99-kvm4all.rules",
        "udevadm control --reload-rules",
        "udevadm trigger --name-match=kvm",
    ]


# ---- GitLab


def gitlab_job(place: Place, name: str, matrix: Mapping[str, str]) -> tuple[int, str]:
    """before_script and script are one shell script; the first line that fails ends it."""
    pipeline = load("gitlab-ci.yml")
    lines = [*pipeline[name].get("before_script", []), *pipeline[name]["script"]]
    done = place.run("\n".join(lines), {**pipeline["variables"], **SMALL, **matrix})
    return done.returncode, done.stdout


def gitlab_matrix() -> list[dict[str, str]]:
    (axes,) = load("gitlab-ci.yml")["trials"]["parallel"]["matrix"]
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


@pytest.mark.parametrize(
    ("reproducer", "expected"),
    [("int main(void) { return 0; }\n", {"stable": 0, "next": 0}),
     (CRASHES_WITH_PROCFS, {"stable": 0, "next": 1})],
    ids=["safe", "one crashes"],
)  # fmt: skip
def test_a_gitlab_pipeline_judges_its_matrix(
    place: Place, reproducer: str, expected: dict[str, int]
) -> None:
    (place.folder / "regression.c").write_text(reproducer)
    for row in gitlab_matrix():
        status, printed = gitlab_job(place, "trials", row)
        assert status == expected[row["KERNEL"]], printed
    status, printed = gitlab_job(place, "judge", {})
    assert status == max(expected.values()), printed
    assert (place.folder / "report.html").is_file()
    assert len(list((place.folder / "results").glob("*.xml"))) == 4


# ---- git bisect


MAKEFILE = """\
bzImage:
\ttest ! -e broken
\tmkdir -p arch/x86/boot
\tcp "$(KERNELS)/$$(cat kernel)" arch/x86/boot/bzImage
"""


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
        cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_the_bisect_recipe_finds_the_commit(place: Place) -> None:
    """Six commits of a tree whose kernel goes bad in the fourth, and one that does not build."""
    tree = place.folder.parent / "tree"
    tree.mkdir()
    git(tree, "init", "-q", "-b", "main")
    (tree / "Makefile").write_text(MAKEFILE)
    (tree / ".gitignore").write_text("arch/\n.repro/\nbuild.log\n")
    commits = []
    for number, kernel in enumerate(["stable"] * 3 + ["next"] * 3):
        (tree / "kernel").write_text(f"{kernel}/bzImage\n")
        (tree / "number").write_text(str(number))
        (tree / "broken").touch() if number == 4 else (tree / "broken").unlink(missing_ok=True)
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", f"commit {number}")
        commits.append(git(tree, "rev-parse", "HEAD"))
    git(tree, "bisect", "start", commits[-1], commits[0])
    reproducer = place.folder / "tell.c"
    reproducer.write_text(CRASHES_WITH_PROCFS)
    done = place.run(
        f"cd {tree} && git bisect run {place.folder}/bisect.sh",
        {
            "REPRODUCER": str(reproducer),
            "KERNELS": str(place.folder / "kernels"),
            "MIN_RATE": "0.35",
            "CONFIDENCE": "0.9",
        },
    )
    assert f"{commits[3]} is the first bad commit" in done.stdout, done.stdout
