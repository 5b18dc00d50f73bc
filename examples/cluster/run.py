"""Starts a Dask scheduler and two workers on this machine and runs a campaign on them.

    python examples/cluster/run.py --kernel path/to/bzImage [more words for pytest]

Needs `pip install 'pytest-flaky-repro[dask]'` and QEMU. What is started here is stopped at the end.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).parent
WORKERS = 2
PATIENCE_S = 60.0


def start(stack: ExitStack, log: Path, *words: str) -> subprocess.Popen[bytes]:
    """A ``dask`` program that ends with this one; what it says goes to ``log``."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words], stdout=file, stderr=subprocess.STDOUT
        )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return process


def main() -> int:
    """Pytest's exit status."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flaky-repro-")))
        file = folder / "scheduler.json"
        words = ("--host=127.0.0.1", "--port=0", "--no-dashboard", f"--scheduler-file={file}")
        start(stack, folder / "scheduler.log", "scheduler", *words)
        limit = time.monotonic() + PATIENCE_S
        while not file.is_file():
            if time.monotonic() > limit:
                sys.exit((folder / "scheduler.log").read_text())
            time.sleep(0.1)
        for number in range(WORKERS):
            # one thread: what this worker offers is one core, so one guest of one CPU at a time
            words = ("--nthreads=1", "--no-dashboard", f"--local-directory={folder}")
            log = folder / f"worker-{number}.log"
            start(stack, log, "worker", f"--scheduler-file={file}", *words)
        command = [sys.executable, "-m", "pytest", str(HERE), f"--repro-dask={file}", "-v"]
        return subprocess.run([*command, *sys.argv[1:]], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
