"""What a trial costs in each boot mode, in CPU-seconds of QEMU, beside a plain loop and the limits.

    python benchmarks/boot_modes.py tests --trials 16          # the tests' tiny kernel (smp)
    python benchmarks/boot_modes.py path/to/bzImage --smp 2    # any other

All sides run in turn, in one process, and are charged for their children (RUSAGE_CHILDREN, which
counts a child when it has ended); ``self`` is this process's own CPU time. The plain loop is the
command of the story: QEMU's defaults, SeaBIOS, an initramfs whose /init runs the program and
reboots. The limits: QEMU started with -S and told to quit; the leanest boot of this kernel; a copy
of the pages that a restored guest writes.
"""

from __future__ import annotations

import argparse
import mmap
import os
import resource
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.guest import reproducer
from pytest_flaky_repro.guest.cpio import write_archive
from pytest_flaky_repro.guest.entries import File, Node, NodeKind, with_parents
from pytest_flaky_repro.machine.batch import BatchMachine
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.sharing import Seat
from pytest_flaky_repro.machine.slots import Slot, Slots
from pytest_flaky_repro.machine.snapshot import SnapshotMachine
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Machine

PROGRAM = "int main(void) { return 0; }"
PLAIN_INIT = """
    #include <sys/reboot.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main(void) {
        if (!fork()) { execl("/program", "program", (char *)0); _exit(127); }
        wait(0);
        reboot(RB_AUTOBOOT);
        return 0;
    }
"""
TOUCHED_MIB = 8


@dataclass
class Side:
    """One way of running trials: CPU-seconds of all of them, its own and its children's."""

    name: str
    children: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    trials: int = 0

    def measure(self, run: Callable[[], int]) -> None:
        """``run`` returns how many trials it ran."""
        before = _cpu(resource.RUSAGE_CHILDREN), _cpu(resource.RUSAGE_SELF)
        ran = run()
        self.children.append((_cpu(resource.RUSAGE_CHILDREN) - before[0]) / ran)
        self.own.append((_cpu(resource.RUSAGE_SELF) - before[1]) / ran)
        self.trials += ran


def _cpu(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def compiled(source: str, folder: Path, name: str) -> bytes:
    path = folder / f"{name}.c"
    path.write_text(source)
    command = ["cc", "-static", "-O2", "-o", str(folder / name), str(path)]
    subprocess.run(command, check=True)
    return (folder / name).read_bytes()


def plain_loop(kernel: Path, folder: Path, smp: int, extra: tuple[str, ...]) -> list[str]:
    """The story's command, its initramfs made here."""
    entries = [
        File("init", compiled(PLAIN_INIT, folder, "init"), mode=0o755),
        File("program", compiled(PROGRAM, folder, "program"), mode=0o755),
        Node("dev/console", NodeKind.CHARACTER, 5, 1, mode=0o600),
    ]
    initrd = folder / "initrd"
    initrd.write_bytes(write_archive(with_parents(entries)))
    return [
        "qemu-system-x86_64", "-kernel", str(kernel), "-initrd", str(initrd), "-smp", str(smp),
        "-m", "256", "-no-reboot", "-append", "console=ttyS0 panic=-1", *extra,
    ]  # fmt: skip


def once(command: list[str]) -> int:
    quiet = subprocess.DEVNULL
    subprocess.run(command, check=True, stdin=quiet, stdout=quiet, stderr=quiet, timeout=600)
    return 1


def start_and_quit() -> int:
    command = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-S", "-m", "256"]
    subprocess.run(
        [*command, "-monitor", "stdio"], input=b"quit\n", check=True, stdout=subprocess.DEVNULL
    )
    return 1


def copy_pages() -> int:
    """In a child, as QEMU does it: so many pages of a private mapping are written."""
    size = TOUCHED_MIB << 20
    code = (
        "import mmap, os, time; f = os.memfd_create('m'); os.ftruncate(f, 256 << 20);"
        f"os.pwrite(f, bytes({size}), 0); m = mmap.mmap(f, 256 << 20, mmap.MAP_PRIVATE);"
        "a = time.process_time();"
        f"[m.__setitem__(i, 1) for i in range(0, {size}, {mmap.PAGESIZE})];"
        "print(time.process_time() - a)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    copies.append(float(done.stdout))
    return 1


copies: list[float] = []


def ours(machine: Machine, experiment: Experiment, mode: str, trials: int) -> int:
    """One boot of ``trials`` trials, or so many cold ones."""
    stop, name = StopSignal(), f"boot {time.monotonic_ns()}"
    for place in range(1, trials + 1):
        order = experiment.order(f"{name} {place}", None)
        if mode != "cold":
            order = replace(order, seat=Seat(name, place, trials))
        held = mode == "batch" and place > 1
        with nullcontext(Slot(())) if held else machine.slot(stop) as slot:
            assert slot is not None
            facts = machine.run(order, slot, stop, lambda: None)
        assert facts.end is not None, facts.detail
    if isinstance(machine, SnapshotMachine):
        machine.retire(name)
    stop.close()
    return trials


def table(sides: list[Side], base: float) -> str:
    rows = ["| way | trials | CPU-s a trial (median; min) | own CPU ms | of the plain loop |"]
    rows.append("|---|---|---|---|---|")
    for side in sides:
        cost = statistics.median(side.children)
        rows.append(
            f"| {side.name} | {side.trials} | {cost:.3f}; {min(side.children):.3f} | "
            f"{1000 * statistics.median(side.own):.1f} | {cost / base:.3f} |"
        )
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kernel", help="a bzImage, or 'tests' for the tests' smp kernel")
    parser.add_argument("--smp", type=int, default=1)
    parser.add_argument("--trials", type=int, default=16, help="trials a boot")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    build = Path(__file__).parent.parent / "tests" / "kernels" / "build.py"
    is_ours = options.kernel == "tests"
    kernel = runpy.run_path(str(build))["kernel"]("smp") if is_ours else Path(options.kernel)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        story = plain_loop(kernel, folder, options.smp, ("-nographic",))
        lean = plain_loop(
            kernel, folder, options.smp,
            ("-nodefaults", "-display", "none", "-bios", "qboot.rom", "-serial", "null"),
        )  # fmt: skip
        lean[lean.index("-append") + 1] = "panic=-1 quiet"
        payload = reproducer.prepare(folder / "program.c", cache=cache_folder())
        how = Conditions(options.smp, 256, "pc", "", 10.0)
        experiment = assemble(read_kernel(kernel), payload, how, [], cache_folder(), os.environ)
        with experiment.guest_spec(Accel.TCG) as spec:
            # slots of its own: CPU time is measured, and others may keep the machine's for long
            cold = QemuMachine(find_emulator(), spec, Slots(folder / "slots"))
            few = max(1, options.trials // 4)
            ways: list[tuple[Side, Callable[[], int]]] = [
                (Side("plain loop (the story's command)"), lambda: once(story)),
                (Side("cold"), lambda: ours(cold, experiment, "cold", few)),
                (
                    Side(f"batch of {options.trials}"),
                    lambda: ours(BatchMachine(cold), experiment, "batch", options.trials),
                ),
                (
                    Side(f"snapshot of {options.trials}, its boot included"),
                    lambda: ours(SnapshotMachine(cold), experiment, "snapshot", options.trials),
                ),
                (Side("limit: QEMU -S, quit"), start_and_quit),
                (Side("limit: leanest boot, no console"), lambda: once(lean)),
                (Side("(a process that copies pages)"), copy_pages),
            ]
            for _ in range(options.rounds):
                for side, run in ways:
                    side.measure(run)
    sides = [side for side, _ in ways]
    load = os.getloadavg()[0]
    print(f"{kernel}, {options.smp} CPU(s), {os.cpu_count()} cores, load {load:.1f}\n")
    print(table(sides, statistics.median(sides[0].children)))
    print(f"\ncopying {TOUCHED_MIB} MiB of touched pages: {1000 * min(copies):.1f} ms of CPU")


if __name__ == "__main__":
    main()
