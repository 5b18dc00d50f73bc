"""A real scheduler and real worker processes on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.campaign.loop import Budget, Campaign
from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.campaign.verdict import Subject, Verdict
from pytest_flaky_repro.evidence import EvidenceWriter, History, PlanRecord
from pytest_flaky_repro.machine.cluster.workshop import Workshop
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.trial import Machine, TrialOrder
from pytest_flaky_repro.stats import Design, plan_for

SUBJECT = Subject("test_x", "k", "0" * 64, "/k", "r", "e", trial_time=1.0)
PATIENCE_S = 120.0  # for something that must happen: much longer than it takes


def until(what: Callable[[], Any], why: str) -> None:
    """Waits for something to happen."""
    limit = time.monotonic() + PATIENCE_S
    while not what():
        if time.monotonic() > limit:
            pytest.fail(f"this did not happen in {PATIENCE_S:g} s: {why}")
        time.sleep(0.05)


def order(seed: str) -> TrialOrder:
    return TrialOrder(Command(("/repro/r",), 1.0, (), hashlib.sha512(seed.encode()).digest()))


def campaign(machine: Machine, design: Design, folder: Path, *, jobs: int = 0) -> Verdict:
    """One campaign to its verdict, its seeds the same every time."""
    plan = plan_for(design)
    writer = EvidenceWriter(folder, PlanRecord("e", {"lines": plan.digest()}, "test_x", "k"))
    try:
        return Campaign(
            machine,
            plan,
            order,
            subject=SUBJECT,
            rules=Rules(),
            budget=Budget(jobs or machine.at_once),
            writer=writer,
            history=History(),
            seed="5eed",
        ).run()
    finally:
        writer.close()


@dataclass
class Worker:
    """One ``dask worker``, a process of its own without a nanny that would start it again."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def qemus(self) -> list[int]:
        """The QEMUs that it started, or that a process of its id did."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                name, fields = stat.read_text().rpartition(")")[::2]
            except OSError:
                continue
            if "(qemu-system" in name and int(fields.split()[1]) == self.process.pid:
                found.append(int(stat.parent.name))
        return found


@dataclass
class DaskCluster:
    """A scheduler, and workers as they are asked for."""

    folder: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    address: str = ""

    def start(self, **environment: str) -> None:
        """The scheduler; ``address`` is its."""
        file = self.folder / "scheduler.json"
        words = ("--host=127.0.0.1", "--port=0", f"--scheduler-file={file}")
        self._dask("scheduler", *words, **environment)
        until(lambda: file.is_file() and file.read_text().strip().endswith("}"), "a scheduler")
        self.address = json.loads(file.read_text())["address"]

    def worker(self, threads: int = 2, **environment: str) -> Worker:
        """One more worker, which the scheduler knows when this returns."""
        before = len(self.workers())
        words = [self.address, f"--nthreads={threads}", "--no-nanny", "--memory-limit=0"]
        worker = Worker(
            self._dask("worker", *words, f"--local-directory={self.folder}", **environment)
        )
        until(lambda: len(self.workers()) > before, "a worker")
        return worker

    def workers(self) -> list[str]:
        return list(self.ask(lambda client: client.scheduler_info(n_workers=-1)["workers"]))

    def ask(self, question: Callable[[Any], Any]) -> Any:
        """What a client of its own is told."""
        import distributed

        connected: Any = distributed.Client
        with connected(self.address, set_as_default=False) as client:
            return question(client)

    def shops(self, question: Callable[[Workshop], Any]) -> list[Any]:
        """What each worker's workshop answers."""

        def ask(dask_worker: Any) -> Any:
            return question(dask_worker.plugins["flaky-repro"])

        return list(self.ask(lambda client: client.run(ask)).values())

    def is_idle(self) -> bool:
        """Whether no worker runs a trial."""
        return not any(self.shops(lambda shop: len(shop._running)))

    def close(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()

    def _dask(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{words[0]}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words, "--no-dashboard"],
            env=os.environ | {"PYTEST_REPRO_SLOTS": str(self.folder / "slots")} | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=self.folder,
        )
        log.close()
        self.processes.append(process)
        return process


@dataclass(frozen=True)
class Tools:
    """What the tests need of this file: test modules cannot import it."""

    campaign: Callable[..., Verdict] = campaign
    until: Callable[[Callable[[], Any], str], None] = until


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[DaskCluster]:
    """A scheduler without workers."""
    made = DaskCluster(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    """A scheduler and two workers of two threads, for tests that leave them as they are."""
    made = DaskCluster(tmp_path_factory.mktemp("pair"))
    try:
        made.start()
        made.worker()
        made.worker()
        yield made
    finally:
        made.close()
