"""The files in examples/cluster do what their README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"


@pytest.mark.usefixtures("emulator")
def test_the_script_runs_a_campaign_on_workers_of_its_own(
    tmp_path: Path, bare_kernel: Path
) -> None:
    script = FOLDER / "run.py"
    words = (f"--kernel={bare_kernel}", "--repro-accel=tcg", "-p", "no:cacheprovider")
    done = subprocess.run(
        [sys.executable, str(script), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on the workers of" in done.stdout
    assert "SAFE (0/11" in done.stdout


def test_the_kubernetes_file_describes_a_scheduler_and_workers() -> None:
    import yaml

    made = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    assert made["kind"] == "DaskCluster"
    (worker,) = made["spec"]["worker"]["spec"]["containers"]
    threads = worker["args"][worker["args"].index("--nthreads") + 1]
    assert threads == worker["resources"]["limits"]["cpu"]  # Python would see the node's cores
    name = made["metadata"]["name"]
    assert made["spec"]["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == name


@pytest.mark.parametrize("name", ["slurm.py", "kubernetes.yaml", "Dockerfile", "run.py"])
def test_the_readme_tells_of_each_file(name: str) -> None:
    assert (FOLDER / name).is_file()
    assert f"`{name}`" in (FOLDER / "README.md").read_text()
