"""Real trials for hours: what was put in comes out again, and this process does not grow.

    python benchmarks/soak.py --minutes 15                 one piece, on the bare kernel
    python benchmarks/soak.py --boots 10000 --jobs 2       so many boots
    python benchmarks/soak.py --minutes 60 --kernel PATH   another kernel

Each trial's end is drawn from its seed before it is run: most survive, some exit with a status, die
of a signal or reset the guest, and of some QEMU is killed or told to quit. The trials run in
campaigns of 100, as in one long session of pytest, and after each campaign this process's memory,
descriptors, threads and children are counted. The last lines are a row for docs/trust.md; the exit
status is 1 if a trial was lost, called something else, or something grew.
"""

from __future__ import annotations

import argparse
import gc
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.campaign.trials import Arm, Budget, Ending, TrialLoop
from pytest_flaky_repro.evidence import EvidenceWriter, History, PlanRecord, Trial, trial_of
from pytest_flaky_repro.guest import reproducer
from pytest_flaky_repro.journal import read_records
from pytest_flaky_repro.machine.conversation import STOPPED
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder, run_trial
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote

TRIALS = 100  # of one campaign
GROWTH_KIB = 4096  # of memory, after the first campaigns: more than that is a leak

# Per mille of trials, in this order; what is left survives.
INJECTED: dict[str, tuple[int, Outcome]] = {
    "exit 3": (60, Outcome.CRASHED),
    "SIGSEGV": (60, Outcome.CRASHED),
    "reset": (40, Outcome.CRASHED),
    "QEMU killed": (30, Outcome.LOST),
    "QEMU terminated": (30, Outcome.LOST),
}
SURVIVAL = "survival"

PROGRAM = r"""
    #include <stdlib.h>
    #include <sys/reboot.h>
    #include <unistd.h>
    int main(void) {
        unsigned long drawn = strtoul(getenv("REPRO_SEED"), 0, 16) % 1000;
        if (drawn < 60) return 3;
        if (drawn < 120) *(volatile int *)0 = 1;
        if (drawn < 160) reboot(RB_AUTOBOOT);
        if (drawn < 220) for (;;) pause();
        return 0;
    }
"""


def drawn(seed: str) -> str:
    """What is done to the trial of this seed."""
    number = int(seed, 16) % 1000
    for name, (share, _) in INJECTED.items():
        if number < share:
            return name
        number -= share
    return SURVIVAL


@dataclass(frozen=True)
class Saboteur:
    """The machine, and somebody who kills some of its QEMUs in mid-run."""

    machine: QemuMachine

    @property
    def accel(self) -> Accel:
        return self.machine.accel

    @property
    def at_once(self) -> int:
        return self.machine.at_once

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        return self.machine.slot(stop)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        guest = self.machine.boot(slot, stop)
        seed = next(word for word in order.command.env if word.startswith("REPRO_SEED="))
        number = {"QEMU killed": signal.SIGKILL, "QEMU terminated": signal.SIGTERM}.get(
            drawn(seed.partition("=")[2])
        )

        def on_start() -> None:
            started()
            if number is not None:
                os.kill(guest.pid, number)

        try:
            return run_trial(guest, order, 1, on_start)
        finally:
            guest.kill()


class Count:
    """Feeds on any trials, until there are enough."""

    def __init__(self, trials: int) -> None:
        self._trials = trials
        self.fed: list[Trial] = []

    def arm_for(self, ticket: int) -> int:
        del ticket
        return 0

    def feed(self, arm: int, trial: Trial, vote: Vote) -> None:
        del arm, vote
        self.fed.append(trial)

    def reached(self) -> Ending | None:
        return Ending(Conclusion.SAFE, "enough") if len(self.fed) >= self._trials else None

    def ends_at_once(self, arm: int, trial: Trial, vote: Vote) -> bool:
        del arm, trial, vote
        return False

    def wanted(self) -> int | None:
        return max(0, self._trials - len(self.fed))

    def spent(self) -> int:
        return len(self.fed)


@dataclass(frozen=True)
class Footprint:
    """What this process holds."""

    memory_kib: int
    descriptors: int
    threads: int
    children: int


def footprint() -> Footprint:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    memory = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    tasks = Path("/proc/self/task").glob("*/children")
    return Footprint(
        memory_kib=int(memory.split()[1]),
        descriptors=len(list(Path("/proc/self/fd").iterdir())),
        threads=threading.active_count(),
        children=sum(len(task.read_text().split()) for task in tasks),
    )


def campaign(
    machine: Saboteur, experiment: Experiment, folder: Path, jobs: int
) -> tuple[list[Trial], int]:
    """One campaign, as read back from its evidence: trials, and launches that left none.

    One that met too many lost trials early on ends as infrastructure, and stops what is running.
    """
    writer = EvidenceWriter(folder, PlanRecord(experiment.digest, {}, "soak", "kernel"))
    arm = Arm("test", machine, lambda s: experiment.order(s, None), experiment.digest, Rules())
    try:
        TrialLoop([arm], Count(TRIALS), budget=Budget(jobs), writer=writer, history=History()).run()
    finally:
        writer.close()
    records = list(read_records(writer.path))
    trials = [trial_of(record) for record in records if record["type"] == "trial"]
    launched = sum(record["type"] == "launch" for record in records)
    return [trial for trial in trials if trial.detail != STOPPED], launched - len(trials)


def soak(args: argparse.Namespace) -> int:
    """Campaigns until the time or the boots are spent; the exit status."""
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    program = folder / "program.c"
    program.write_text(PROGRAM)
    payload = reproducer.prepare(program, cache=cache_folder())
    how = Conditions(1, 128, "pc", "", 10.0, ())
    experiment = assemble(read_kernel(args.kernel), payload, how, [], cache_folder(), {"PATH": ""})
    injected: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    lost, prints, began, disk = 0, [], time.monotonic(), 0
    with experiment.guest_spec(Accel.TCG) as spec:
        machine = Saboteur(QemuMachine(find_emulator(args.qemu), spec))
        print("| boots | minutes | memory KiB | descriptors | threads | children | disk KiB |")
        print("|---|---|---|---|---|---|---|")
        while not is_over(args, sum(injected.values()) + lost, began):
            trials, missing = campaign(machine, experiment, folder / "evidence", args.jobs)
            lost += missing
            for trial in trials:
                name = drawn(trial.seed)
                injected[name] += 1
                expected = INJECTED[name][1] if name in INJECTED else Outcome.SURVIVED
                if trial.outcome is not expected:
                    wrong[f"{name}: {trial.outcome.value} {trial.title} {trial.detail}"] += 1
                    keep(folder / "evidence", trial, args.keep)
            disk = sum(f.stat().st_size for f in (folder / "evidence").iterdir()) >> 10
            prints.append(footprint())
            now, minutes = prints[-1], (time.monotonic() - began) / 60
            print(
                f"| {sum(injected.values())} | {minutes:.1f} | {now.memory_kib} "
                f"| {now.descriptors} | {now.threads} | {now.children} | {disk} |",
                flush=True,
            )
    shutil.rmtree(folder)
    return conclude(injected, wrong, lost, prints)


def keep(evidence: Path, trial: Trial, kept: Path) -> None:
    """The console of a trial that was called wrongly, for whoever looks for the reason."""
    if trial.console:
        kept.mkdir(parents=True, exist_ok=True)
        name = Path(trial.console).name
        shutil.copyfile(evidence / trial.console, kept / f"{trial.boot}-{name}")


def is_over(args: argparse.Namespace, boots: int, began: float) -> bool:
    if args.boots is not None:
        return bool(boots >= args.boots)
    return bool(time.monotonic() - began >= 60 * args.minutes)


def conclude(
    injected: Counter[str], wrong: Counter[str], lost: int, prints: list[Footprint]
) -> int:
    """Prints the row; 1 if anything is wrong."""
    settled = prints[min(2, len(prints) - 1)]
    last = prints[-1]
    grown = last.memory_kib - settled.memory_kib
    leaks = grown > GROWTH_KIB or last.descriptors > settled.descriptors
    leaks = leaks or last.threads > settled.threads or last.children > 0
    kinds = ", ".join(f"{name} {count}" for name, count in injected.most_common())
    print("\n| boots | put in | called wrongly | lost | memory grew | descriptors | threads |")
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {sum(injected.values())} | {kinds} | {sum(wrong.values())} | {lost} | {grown} KiB "
        f"| {settled.descriptors} to {last.descriptors} | {settled.threads} to {last.threads} |"
    )
    for text, count in wrong.items():
        print(f"wrong, {count} times: {text}")
    return 1 if wrong or lost or leaks else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    default = sorted((cache_folder() / "kernels").glob("bare-*/bzImage"))
    parser.add_argument("--minutes", type=float, default=15.0, help="how long (default 15)")
    parser.add_argument("--boots", type=int, help="how many boots, instead")
    parser.add_argument("--jobs", type=int, default=2, help="guests at once (default 2)")
    parser.add_argument("--kernel", type=Path, default=default[-1] if default else None)
    parser.add_argument(
        "--keep", type=Path, default=Path("soak-wrong"), help="wrong ones' consoles"
    )
    parser.add_argument("--qemu", help="the QEMU to use")
    args = parser.parse_args()
    if args.kernel is None:
        parser.error("no kernel: python tests/kernels/build.py bare, or --kernel PATH")
    sys.exit(soak(args))


if __name__ == "__main__":
    main()
