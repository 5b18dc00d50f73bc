"""Trials per second and core, memory per guest, and what pytest's own process costs.

    python benchmarks/throughput.py --kernel bzImage [--trials 16] [--fake-trials 10000]
    python benchmarks/throughput.py --kernel vmlinuz --tables memory --memory 128 256 1024

Five tables from one run, on one kernel and one reproducer that survives at once:

* trials per second and per core with 1 to 8 guests at once in one pytest process, for each boot
  mode; more guests than cores only wait for slots, which the table shows;
* seconds to a *safe* verdict, which here takes 12 boots, by the number of slots in use;
* the same trials as 1 to 4 tests over ``pytest -n 1`` to ``-n 4``;
* memory of a running guest (PSS of its QEMU, in MiB), beside the memory it was given;
* CPU time and memory (RSS) of the pytest process itself over many trials of a fake machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SURVIVOR = "int main(void) { return 0; }\n"
SLEEPER = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
MODES = ("cold", "batch", "snapshot")
TABLES = ("guests", "verdict", "workers", "memory", "fake")

FAKE_CONFTEST = """
import json, os, resource, threading
import pytest
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine

def pytest_repro_machine(config, experiment, settings):
    return FakeMachine(Behaviour(), at_once=2)

def rss_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096 / 2**20

samples = []

@pytest.fixture(autouse=True)
def watched():
    over = threading.Event()
    def watch():
        while not over.wait(0.5):
            samples.append(rss_mib())
    thread = threading.Thread(target=watch)
    before = resource.getrusage(resource.RUSAGE_SELF)
    thread.start()
    yield
    over.set()
    thread.join()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with open(os.environ["MEASURED"], "w") as file:
        json.dump({"cpu_s": cpu, "rss": samples}, file)
"""


@dataclass(frozen=True)
class Spent:
    """One command: wall time and CPU time of it and all its children, in seconds."""

    wall: float
    cpu: float


def run(command: list[str], folder: Path, **environment: str) -> Spent:
    before, began = os.times(), time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout.decode()}")
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Spent(time.monotonic() - began, cpu)


def pytest_command(kernel: Path, trials: int, *more: str) -> list[str]:
    """A campaign of exactly so many trials, all of which survive."""
    return [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--kernel={kernel}"),
        *("--repro-inconclusive=pass", f"--repro-max-trials={trials}", "--repro-min-rate=1e-6"),
        *more,
    ]


def guests_table(kernel: Path, trials: int, folder: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    print(f"\n### {trials} trials in one test, {cores} cores\n")
    print("| boot | jobs | trials/s | trials/s and core | CPU s per trial | wall s |")
    print("|---|---|---|---|---|---|")
    for mode in MODES:
        for jobs in (1, 2, 4, 8):
            more = (f"--repro-jobs={jobs}", f"--repro-boot={mode}", "--reproducer=survivor.c")
            spent = run(pytest_command(kernel, trials, *more), folder)
            speed = trials / spent.wall
            print(
                f"| {mode} | {jobs} | {speed:.2f} | {speed / cores:.2f} "
                f"| {spent.cpu / trials:.2f} | {spent.wall:.1f} |",
                flush=True,
            )


def verdict_table(kernel: Path, folder: Path) -> None:
    print("\n### To a safe verdict of 12 boots (rate at most 20% at 93%)\n")
    print("| boot | wall s with 1 slot | 2 slots | 4 jobs |")
    print("|---|---|---|---|")
    question = ("--repro-min-rate=0.2", "--confidence=0.93", "--reproducer=survivor.c")
    for mode in MODES:
        walls = [
            run(
                pytest_command(
                    kernel, 1000, *question, f"--repro-jobs={n}", f"--repro-boot={mode}"
                ),
                folder,
            ).wall
            for n in (1, 2, 4)
        ]
        print(f"| {mode} | {' | '.join(f'{wall:.1f}' for wall in walls)} |", flush=True)


def workers_table(kernel: Path, trials: int, folder: Path) -> None:
    print(f"\n### 4 tests of {trials} trials each over xdist\n")
    print("| workers | trials/s | CPU s per trial | wall s |")
    print("|---|---|---|---|")
    (folder / "test_four.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('i', range(4))\n"
        "def test_one(repro, kernel, i):\n"
        "    repro.check('survivor.c')\n"
    )
    for workers in (0, 1, 2, 3, 4):
        more = ("test_four.py", f"-n{workers}", "--dist=worksteal")
        spent = run(pytest_command(kernel, trials, *more), folder)
        print(
            f"| {workers} | {4 * trials / spent.wall:.2f} | {spent.cpu / (4 * trials):.2f} "
            f"| {spent.wall:.1f} |",
            flush=True,
        )


def memory_table(kernel: Path, memory: list[int], folder: Path) -> None:
    print("\n### Memory of a running guest\n")
    print("| given, MiB | PSS of QEMU, MiB |")
    print("|---|---|")
    for given in memory:
        more = (f"--repro-memory={given}", "--reproducer=sleeper.c", "--repro-trial-time=6")
        found: list[float] = []
        watch = threading.Thread(target=watch_pss, args=(f"{given}M", found))
        watch.start()
        run(pytest_command(kernel, 1, *more), folder)
        watch.join()
        print(f"| {given} | {max(found):.0f} |", flush=True)


def watch_pss(memory: str, found: list[float]) -> None:
    """Looks for this machine's QEMU with that much memory until it has come and gone."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        pids = [path.name for path in Path("/proc").glob("[0-9]*") if is_guest(path.name, memory)]
        if found and not pids:
            return
        found += [pss_mib(pid) for pid in pids]
        time.sleep(0.3)


def is_guest(pid: str, memory: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"qemu" in words[0] and memory.encode() in words


def pss_mib(pid: str) -> float:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) / 1024


def fake_table(kernel: Path, trials: int, folder: Path) -> None:
    print(f"\n### The pytest process over {trials} trials of a fake machine\n")
    (folder / "conftest.py").write_text(FAKE_CONFTEST)
    measured = folder / "measured.json"
    (folder / "test_fake.py").write_text(
        "def test_fake(repro, kernel):\n    repro.check('survivor.c')\n"
    )
    more = ("test_fake.py", "--repro-jobs=2")
    spent = run(pytest_command(kernel, trials, *more), folder, MEASURED=str(measured))
    figures = json.loads(measured.read_text())
    rss = figures["rss"]
    quarter = len(rss) // 4
    print("| trials | own CPU, ms per trial | RSS at 25% / 50% / 100%, MiB | wall s |")
    print("|---|---|---|---|")
    print(
        f"| {trials} | {1000 * figures['cpu_s'] / trials:.2f} "
        f"| {rss[quarter]:.0f} / {rss[2 * quarter]:.0f} / {rss[-1]:.0f} | {spent.wall:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--fake-trials", type=int, default=10_000)
    parser.add_argument("--memory", type=int, nargs="+", default=[64, 256, 1024], metavar="MIB")
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    options = parser.parse_args()
    kernel = options.kernel.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "survivor.c").write_text(SURVIVOR)
        (folder / "sleeper.c").write_text(SLEEPER)
        tables = {
            "guests": lambda: guests_table(kernel, options.trials, folder),
            "verdict": lambda: verdict_table(kernel, folder),
            "workers": lambda: workers_table(kernel, options.trials // 2, folder),
            "memory": lambda: memory_table(kernel, options.memory, folder),
            "fake": lambda: fake_table(kernel, options.fake_trials, folder),
        }
        for name in options.tables:
            tables[name]()


if __name__ == "__main__":
    main()
