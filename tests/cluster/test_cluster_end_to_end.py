"""pytest with --repro-dask, as a user runs it: real kernels in real QEMUs on two workers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.machine.spec import Emulator

if TYPE_CHECKING:
    from tests.cluster.conftest import DaskCluster, Tools

pytestmark = pytest.mark.usefixtures("emulator")
FEW = ("--repro-min-rate=0.5", "--confidence=0.9", "--repro-accel=tcg")  # safe after 4 survivals
NEVER = "int main(void) { return 0; }"
ALWAYS = "int main(void) { *(volatile int *)0 = 1; return 0; }"
SLEEPER = "#include <unistd.h>\nint main(void) { sleep(1000); return 0; }"
TESTS = """
def test_never(repro, kernel):
    repro.check("never.c")

def test_always(repro, kernel):
    repro.check("always.c")
"""


def command(cluster: DaskCluster, *arguments: str | Path) -> list[str]:
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *FEW]
    return [*words, f"--repro-dask={cluster.address}", *map(str, arguments)]


def run(cluster: DaskCluster, folder: Path, *arguments: str | Path) -> str:
    """The output of pytest in ``folder``."""
    done = subprocess.run(
        command(cluster, *arguments), cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    files = folder.glob(".repro/*/*.jsonl")
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    whole = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record for record in whole if record["type"] == kind]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in (("never", NEVER), ("always", ALWAYS), ("sleeper", SLEEPER)):
        (folder / f"{name}.c").write_text(text)
    (folder / "test_it.py").write_text(TESTS)
    return folder


def test_verdicts_of_two_tests(pair: DaskCluster, project: Path, bare_kernel: Path) -> None:
    text = run(pair, project, f"--kernel={bare_kernel}", "-v")
    assert f"on the workers of {pair.address}" in text
    assert "SAFE (0/4" in text, text
    assert "CRASHES (1/1" in text, text
    assert pair.is_idle()
    images = pair.shops(lambda shop: list(shop.images.received.values()))
    assert images == [[1, 1, 1], [1, 1, 1]]  # the kernel, and an initramfs of either test


def test_each_xdist_worker_is_a_client(pair: DaskCluster, project: Path, bare_kernel: Path) -> None:
    text = run(pair, project, f"--kernel={bare_kernel}", "-n2", "-v")
    assert "SAFE (0/4" in text, text
    assert "CRASHES (1/1" in text, text
    assert pair.is_idle()


def test_ctrl_c_stops_the_workers_guests(
    pair: DaskCluster, tools: Tools, project: Path, bare_kernel: Path
) -> None:
    options = (f"--kernel={bare_kernel}", "--reproducer=sleeper.c", "--repro-trial-time=1000")
    with subprocess.Popen(
        command(pair, *options), cwd=project, stdout=subprocess.PIPE, text=True
    ) as process:
        tools.until(lambda: records(project, "start"), "a trial runs")
        assert not pair.is_idle()
        process.send_signal(signal.SIGINT)
        text = process.communicate()[0]
    assert "KeyboardInterrupt" in text
    assert pair.is_idle()
    assert {trial["outcome"] for trial in records(project, "trial")} <= {"lost", "infrastructure"}


@pytest.mark.parametrize("option", ["--repro-pause-on-crash", "--repro-boot=batch"])
def test_what_needs_the_guest_here_is_refused(
    pair: DaskCluster, project: Path, bare_kernel: Path, option: str
) -> None:
    text = run(pair, project, f"--kernel={bare_kernel}", "--reproducer=never.c", option)
    assert "--repro-dask" in text.partition("ERRORS")[2], text
    assert records(project, "launch") == []


def test_a_worker_that_is_killed_leaves_no_qemu_and_costs_no_verdict(
    cluster: DaskCluster, tools: Tools, project: Path, bare_kernel: Path, emulator: Emulator
) -> None:
    del emulator
    doomed, _ = cluster.worker(threads=1), cluster.worker(threads=1)
    options = (f"--kernel={bare_kernel}", "--reproducer=sleeper.c", "--repro-trial-time=5")
    with subprocess.Popen(
        command(cluster, *options), cwd=project, stdout=subprocess.PIPE, text=True
    ) as process:
        tools.until(lambda: len(records(project, "start")) >= 2, "both workers run a trial")
        guests = doomed.qemus()
        assert guests
        doomed.kill()
        text = process.communicate()[0]
    tools.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in guests), "QEMU is gone")
    assert "SAFE (0/4" in text, text
    trials = records(project, "trial")
    tickets = [trial["ticket"] for trial in trials]
    assert len(tickets) == len(set(tickets)) == len(records(project, "launch"))
    lost = [trial for trial in trials if trial["outcome"] != "survived" and trial["ticket"] < 5]
    assert [(trial["outcome"], trial["started"] is not None) for trial in lost] == [("lost", True)]
    assert "was lost" in lost[0]["detail"]
