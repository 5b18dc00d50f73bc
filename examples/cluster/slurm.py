"""A campaign on Slurm nodes, through dask-jobqueue (`pip install dask-jobqueue`).

    python examples/cluster/slurm.py --kernel path/to/bzImage [more words for pytest]

Each job is one Dask worker: `cores` is what it may use, and so how many guests of one CPU run on
it at once. Guests need memory of their own (`--repro-memory`, 256 MiB each, and QEMU's 64): it is
the job's that they take, so ask Slurm for it, and tell Dask (`--memory-limit 0`) not to watch it.
"""

from __future__ import annotations

import subprocess
import sys

from dask_jobqueue import SLURMCluster

NODES = 8
CORES = 16
MEMORY_MIB = CORES * (256 + 64) + 2048


def main() -> int:
    """Pytest's exit status."""
    with SLURMCluster(
        # queue="short", account="kernel",  # as your site wants them
        cores=CORES,
        processes=1,  # one worker a node: its slots are the node's
        memory=f"{MEMORY_MIB}MiB",
        walltime="04:00:00",
        worker_extra_args=["--memory-limit", "0"],
        # every node needs the same environment: this Python with pytest-flaky-repro[dask], and QEMU
        job_script_prologue=["module load qemu || true"],
    ) as cluster:
        cluster.scale(jobs=NODES)  # trials begin with the first job and go on to those that follow
        address = f"--repro-dask={cluster.scheduler_address}"
        command = [sys.executable, "-m", "pytest", address, f"--repro-jobs={NODES * CORES}"]
        return subprocess.run([*command, *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
