"""What can be wrong with a cluster is said in one sentence that names the option and the mend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.errors import ReproError, UsageError
from pytest_flaky_repro.machine.cluster.crew import Crew
from pytest_flaky_repro.machine.cluster.machine import machine_on
from pytest_flaky_repro.machine.cluster.recipe import FakeRecipe, QemuRecipe
from pytest_flaky_repro.machine.fake import Behaviour

if TYPE_CHECKING:
    from tests.cluster.conftest import DaskCluster

FAKE = FakeRecipe(Behaviour())
METADATA = "Metadata-Version: 2.1\nName: pytest-flaky-repro\nVersion: 0.0.1\n"


def said(cluster: DaskCluster, recipe: FakeRecipe | QemuRecipe = FAKE, within_s: float = 60) -> str:
    """Why the cluster will not do."""
    crew = Crew(cluster.address, workers_within_s=within_s)
    try:
        with pytest.raises(ReproError) as caught, machine_on(crew, recipe, {}):
            pass
    finally:
        crew.close()
    text = str(caught.value)
    assert text.startswith(f"--repro-dask {cluster.address}: ")
    return text


def test_no_scheduler() -> None:
    import dask

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(UsageError, match=r"--repro-dask tcp://127.0.0.1:9: no scheduler answers.*"
                                        r"'dask scheduler' prints its address"),
    ):  # fmt: skip
        Crew("tcp://127.0.0.1:9")


def test_an_address_that_is_none() -> None:
    with pytest.raises(UsageError, match="--repro-dask pigeon://post: no scheduler answers"):
        Crew("pigeon://post")


def test_a_scheduler_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no such scheduler file.*--scheduler-file"):
        Crew(str(tmp_path / "scheduler.json"))


def test_a_scheduler_file_is_as_good_as_an_address(pair: DaskCluster) -> None:
    crew = Crew(str(pair.folder / "scheduler.json"))
    with machine_on(crew, FAKE, {}) as machine:
        assert machine.at_once >= 2
    crew.close()


def test_no_worker(cluster: DaskCluster) -> None:
    assert "Start some: dask worker" in said(cluster, within_s=0.5)


def another_version(folder: Path) -> str:
    """A PYTHONPATH on which another version of the package is found first."""
    info = folder / "other" / "pytest_flaky_repro-0.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(METADATA)
    return str(info.parent)


def test_a_worker_with_another_version(cluster: DaskCluster, tmp_path: Path) -> None:
    cluster.worker(PYTHONPATH=another_version(tmp_path))
    text = said(cluster)
    assert "worker tcp://" in text
    assert "has pytest-flaky-repro 0.0.1, and this is" in text
    assert "pip install 'pytest-flaky-repro[dask]==" in text


def test_a_scheduler_with_another_version(pair: DaskCluster, tmp_path: Path) -> None:
    """It looks into the tasks that it is given, so it needs the package too."""
    other = type(pair)(tmp_path)
    try:
        other.start(PYTHONPATH=another_version(tmp_path))
        assert "the scheduler has pytest-flaky-repro 0.0.1, and this is" in said(other)
    finally:
        other.close()


def test_a_worker_without_a_qemu(pair: DaskCluster) -> None:
    text = said(pair, QemuRecipe("0" * 64, "1" * 64, qemu="/nowhere/qemu"))
    assert "worker tcp://" in text
    assert "--repro-qemu /nowhere/qemu: no such program" in text
    assert "mend that worker's host, or stop the worker" in text


def test_dask_is_not_installed() -> None:
    script = """
import sys
sys.modules["distributed"] = None
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.cluster.crew import Crew
try:
    Crew("tcp://127.0.0.1:8786")
except UsageError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "--repro-dask needs Dask" in done.stdout
    assert "pip install 'pytest-flaky-repro[dask]'" in done.stdout
