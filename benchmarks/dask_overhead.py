"""What a trial costs more on a Dask cluster, and what a second worker brings: all in one run.

    python benchmarks/dask_overhead.py                       fake trials of 50 ms only
    python benchmarks/dask_overhead.py --kernel bzImage      and real ones
    python benchmarks/dask_overhead.py --trials 20 --rounds 1 --kernel bzImage     a short look

A scheduler and two workers of one thread are started on loopback. Each round runs every side once,
in turn, the same number of surviving trials; the table has medians over the rounds. CPU seconds are
of this process (client CPU) and of all of the machine's Dask processes (Dask CPU), without QEMU.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.campaign.loop import Budget, Campaign
from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.campaign.verdict import Subject
from pytest_flaky_repro.evidence import EvidenceWriter, History, PlanRecord
from pytest_flaky_repro.guest import reproducer
from pytest_flaky_repro.machine.cluster.crew import Crew
from pytest_flaky_repro.machine.cluster.machine import machine_on
from pytest_flaky_repro.machine.cluster.recipe import FakeRecipe, QemuRecipe, Recipe
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.trial import Machine, TrialOrder
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats import Design, plan_for

FAKE = Behaviour(seconds=0.05)
TICKS = os.sysconf("SC_CLK_TCK")
SUBJECT = Subject("benchmark", "k", "0" * 64, "/k", "r", "e", trial_time=1.0)


@dataclass(frozen=True)
class Side:
    """One way of running the trials: how many at once, on which machine."""

    name: str
    jobs: int
    machine: Callable[[ExitStack], Machine]
    order: Callable[[str], TrialOrder]


@dataclass(frozen=True)
class Cost:
    """Seconds a trial."""

    wall: float
    client_cpu: float
    dask_cpu: float


@dataclass
class Loopback:
    """A scheduler and its workers."""

    folder: Path
    pids: list[int]
    address: str = ""

    def cpu(self) -> float:
        """CPU seconds of its processes so far."""
        total = 0.0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
        return total


@contextmanager
def loopback(workers: int) -> Iterator[Loopback]:
    """Starts them, and ends them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = Loopback(folder, [])
        file = folder / "scheduler.json"
        quiet = ("--no-dashboard",)
        _dask(
            stack,
            made,
            "scheduler",
            "--host=127.0.0.1",
            "--port=0",
            *quiet,
            f"--scheduler-file={file}",
        )
        while not file.is_file():
            time.sleep(0.05)
        time.sleep(0.2)
        made.address = json.loads(file.read_text())["address"]
        for _ in range(workers):
            words = ("--nthreads=1", "--no-nanny", "--memory-limit=0", *quiet)
            _dask(stack, made, "worker", made.address, *words, f"--local-directory={folder}")
        yield made


def _dask(stack: ExitStack, made: Loopback, *words: str) -> None:
    with (made.folder / f"{len(made.pids)}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *words], stdout=log, stderr=subprocess.STDOUT
        )
    made.pids.append(process.pid)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def run(side: Side, trials: int, cluster: Loopback) -> Cost:
    """One campaign of ``trials`` surviving trials; getting ready is not counted."""
    design = Design(1 - 0.05 ** (1 / trials) + 1e-9, 0.0, 0.95, 0.95)
    plan = plan_for(design)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        machine = side.machine(stack)
        writer = EvidenceWriter(folder, PlanRecord("e", {}, "benchmark", "k"))
        stack.callback(writer.close)
        campaign = Campaign(
            machine,
            plan,
            side.order,
            subject=SUBJECT,
            rules=Rules(),
            budget=Budget(side.jobs),
            writer=writer,
            history=History(),
        )
        began, cpu, theirs = time.monotonic(), time.process_time(), cluster.cpu()
        verdict = campaign.run()
        wall = time.monotonic() - began
        cost = Cost(wall, time.process_time() - cpu, cluster.cpu() - theirs)
    if verdict.conclusion is not Conclusion.SAFE:
        raise SystemExit(f"{side.name}: {verdict.conclusion.value}: {verdict.why}")
    each = verdict.intact
    return Cost(cost.wall / each, cost.client_cpu / each, cost.dask_cpu / each)


def sides(
    kind: str,
    here: Callable[[], Machine],
    recipe: Recipe,
    images: dict[str, bytes],
    order: Callable[[str], TrialOrder],
    crew: Crew,
) -> list[Side]:
    """Without Dask and with it, one trial at once and two."""

    def there(stack: ExitStack) -> Machine:
        return stack.enter_context(machine_on(crew, recipe, images))

    return [
        Side(f"{kind}, here, 1 at once", 1, lambda _: here(), order),
        Side(f"{kind}, Dask, 1 at once", 1, there, order),
        Side(f"{kind}, here, 2 at once", 2, lambda _: here(), order),
        Side(f"{kind}, Dask, 2 workers", 2, there, order),
    ]


def fake_order(seed: str) -> TrialOrder:
    """For the fake machine."""
    return TrialOrder(Command(("r",), 1.0, (), hashlib.sha512(seed.encode()).digest()))


def real(kernel: Path) -> Experiment:
    """A reproducer that ends at once: what is measured is the boot."""
    from pytest_flaky_repro.cache import cache_folder
    from pytest_flaky_repro.machine.kernel_image import read_kernel

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "ok.c"
        source.write_text("int main(void) { return 0; }")
        payload = reproducer.prepare(source, cache=cache_folder())
    how = Conditions(1, 256, "pc", "", 10.0)
    return assemble(read_kernel(kernel), payload, how, [], cache_folder(), os.environ)


def all_sides(crew: Crew, kernel: Path | None) -> list[tuple[str, list[Side]]]:
    """The groups that are compared."""
    behaviour = FAKE
    fake = sides(
        "fake 50 ms",
        lambda: FakeMachine(behaviour, at_once=2),
        FakeRecipe(behaviour),
        {},
        fake_order,
        crew,
    )
    groups = [("fake", fake)]
    if kernel is not None:
        experiment = real(kernel)
        contents = (experiment.kernel.content, experiment.image.archive)
        kernel_digest, initramfs = (hashlib.sha256(content).hexdigest() for content in contents)
        images = {kernel_digest: contents[0], initramfs: contents[1]}
        recipe = QemuRecipe(kernel_digest, initramfs, accel="tcg")
        emulator = find_emulator()
        spec = experiment.guest_spec(Accel.TCG)
        order = lambda seed: experiment.order(seed, None)  # noqa: E731
        here = lambda: QemuMachine(emulator, spec)  # noqa: E731
        groups.append(("real", sides("cold boot", here, recipe, images, order, crew)))
    return groups


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="fake trials a side and round")
    parser.add_argument("--real-trials", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kernel", type=Path)
    options = parser.parse_args()
    print("| trials | wall s a trial | trials/s | client CPU s | Dask CPU s | Dask adds, wall s |")
    print("|---|---|---|---|---|---|")
    with loopback(workers=2) as cluster:
        crew = Crew(cluster.address)
        for kind, group in all_sides(crew, options.kernel):
            count = options.trials if kind == "fake" else options.real_trials
            rounds = [[run(side, count, cluster) for side in group] for _ in range(options.rounds)]
            medians = [
                Cost(*(statistics.median(part) for part in zip(*map(astuple, costs), strict=True)))
                for costs in zip(*rounds, strict=True)
            ]
            for index, (side, cost) in enumerate(zip(group, medians, strict=True)):
                added = f"{cost.wall - medians[index - 1].wall:+.4f}" if index % 2 else ""
                print(
                    f"| {side.name} | {cost.wall:.4f} | {1 / cost.wall:.2f} | "
                    f"{cost.client_cpu:.4f} | {cost.dask_cpu:.4f} | {added} |"
                )
            faster = medians[1].wall / medians[3].wall
            print(f"| {kind}: 2 workers against 1 | | {faster:.2f} x | | | |")
        crew.close()


def astuple(cost: Cost) -> tuple[float, float, float]:
    """Its parts."""
    return cost.wall, cost.client_cpu, cost.dask_cpu


if __name__ == "__main__":
    main()
