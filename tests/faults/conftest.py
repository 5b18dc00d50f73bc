"""A stage for bad endings: a program that plays QEMU and its guest, and a census around each test.

The host's side is all as shipped: processes, sockets, frames, clocks, crash reading, the campaign's
loop, evidence. Only the program at the far end of the sockets is ours (``false_qemu.c``).
"""

from __future__ import annotations

import gc
import runpy
import subprocess
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_flaky_repro.campaign.experiment import Conditions, assemble
from pytest_flaky_repro.campaign.loop import Campaign
from pytest_flaky_repro.campaign.rules import Rules, outcome_of, read_facts
from pytest_flaky_repro.campaign.trials import Budget
from pytest_flaky_repro.campaign.verdict import Subject, Verdict
from pytest_flaky_repro.commands.fetch import fetch_kernel
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, load_history
from pytest_flaky_repro.guest import reproducer
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.slots import Capacity, Slot, Slots
from pytest_flaky_repro.machine.spec import Accel, Deadlines, Emulator, GuestSpec, memory_files
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder, run_trial
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.stats import Design, plan_for

SOURCE = Path(__file__).with_name("false_qemu.c")
KERNELS = Path(__file__).parents[1] / "kernels" / "build.py"
# What hangs is given up soon; the rest is generous, since other load must not change an outcome.
LIMITS = Deadlines(
    boot_cpu_s=60.0, run_grace_cpu_s=0.5, leave_cpu_s=0.5, idle_s=4.0, wall_cap_s=600.0
)
TRIAL_TIME_S = 0.5
DESIGN = Design(min_rate=0.2, confidence_safe=0.9)  # eleven survivals are safe
SUBJECT = Subject(
    item="test_x",
    kernel="k",
    kernel_sha256="0" * 64,
    kernel_path="/k",
    reproducer="r",
    experiment="e",
    trial_time=TRIAL_TIME_S,
)


# ---- the census


@dataclass(frozen=True)
class Census:
    """What a test could leave behind in this process, on its disk, and among its children."""

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    children: tuple[str, ...]
    temporary: tuple[str, ...]
    slots: Capacity


def take_census(slots: Slots) -> Census:
    gc.collect()
    return Census(
        descriptors=tuple(sorted(_descriptors())),
        threads=tuple(sorted(thread.name for thread in threading.enumerate())),
        children=tuple(sorted(_children())),
        temporary=tuple(sorted(path.name for path in Path(tempfile.gettempdir()).iterdir())),
        slots=slots.occupancy(),
    )


def _descriptors() -> Iterator[str]:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = entry.readlink()
        except FileNotFoundError:
            continue  # the one that this very look was made through
        yield f"{entry.name} {target}"


def _children() -> Iterator[str]:
    for path in Path("/proc/self/task").glob("*/children"):
        for pid in path.read_text().split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            yield f"{pid} {words[0].decode(errors='replace') or 'a zombie'}"


@pytest.fixture(autouse=True)
def census(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test here does: no process, thread, descriptor, file or lock is left."""
    own = tmp_path / "tmp"  # other runs on this machine come and go in the usual one
    own.mkdir()
    monkeypatch.setenv("TMPDIR", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    slots = Slots(tmp_path / "slots")
    before = take_census(slots)
    yield
    until = time.monotonic() + 20.0
    after = take_census(slots)
    while after != before and time.monotonic() < until:  # a killed process takes a moment to go
        time.sleep(0.05)
        after = take_census(slots)
    assert after == before


# ---- single trials


@dataclass(frozen=True)
class Trialed:
    """One trial: what was seen, and what it is called."""

    facts: TrialFacts
    outcome: Outcome
    title: str

    @property
    def told(self) -> str:
        return f"{self.outcome.value}: {self.title} {self.facts.detail}"


def play(*words: str) -> str:
    """The kernel command line that makes the false QEMU play these words."""
    return "play=" + ",".join(words)


class Scripted:
    """A machine whose every trial plays the script that ``script_for`` draws from its seed."""

    def __init__(self, stage: Stage, script_for: Callable[[str], Sequence[str]]) -> None:
        self._stage, self._script_for = stage, script_for

    @property
    def accel(self) -> Accel:
        return Accel.TCG

    @property
    def at_once(self) -> int:
        return self._stage.slots.guests_at_once(1, 256)

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        return self._stage.slots.acquire(1, 256, stop)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        script = self._script_for(order.command.argv[0])
        with self._stage.spec(*script) as spec:
            guest = self._stage.guest(spec, stop, slot)
            try:
                return run_trial(guest, order, 1, started)
            finally:
                guest.kill()


@dataclass
class Stage:
    """Plays endings, one trial or one campaign at a time."""

    emulator: Emulator
    folder: Path
    slots: Slots
    limits: Deadlines = LIMITS

    def spec(self, *script: str) -> GuestSpec:
        return GuestSpec(*memory_files(b"", b""), accel=Accel.TCG, append=play(*script))

    def guest(self, spec: GuestSpec, stop: StopSignal, slot: Slot) -> Guest:
        return Guest(self.emulator, spec, stop=stop, limits=self.limits, keep_open=slot.descriptors)

    def trial(
        self,
        *script: str,
        rules: Rules | None = None,
        on_start: Callable[[Guest], None] = lambda _: None,
    ) -> Trialed:
        """One trial; ``on_start`` is called when the reproducer is about to run."""
        with (
            closing(StopSignal()) as stop,
            self.spec(*script) as spec,
            self.slots.acquire(1, 256, stop) as slot,
        ):
            assert slot is not None
            guest = self.guest(spec, stop, slot)
            try:
                facts = run_trial(guest, order("5eed"), 1, lambda: on_start(guest))
            finally:
                guest.kill()
        rules = rules or Rules()
        reading = read_facts(facts, rules)
        return Trialed(facts, outcome_of(facts, reading), reading.title)

    def campaign(
        self,
        script_for: Callable[[str], Sequence[str]],
        *,
        folder: Path | None = None,
        resume: bool = False,
        jobs: int = 1,
        design: Design = DESIGN,
        max_trials: int | None = None,
        seed: str = "5eed",
    ) -> Verdict:
        """A whole campaign; evidence goes to ``folder``."""
        folder = folder or self.folder / "evidence"
        plan = plan_for(design)
        record = PlanRecord("e", {"lines": plan.digest()}, "test_x", "k")
        history = load_history(folder, record) if resume else None
        files = history.files if history is not None else ()
        record = PlanRecord("e", {"lines": plan.digest()}, "test_x", "k", files)
        writer = EvidenceWriter(folder, record)
        try:
            return Campaign(
                Scripted(self, script_for),
                plan,
                order,
                subject=SUBJECT,
                rules=Rules(),
                budget=Budget(jobs, max_trials),
                writer=writer,
                history=history or load_history(self.folder / "none", record),
                seed=seed,
            ).run()
        finally:
            writer.close()


def order(seed: str) -> TrialOrder:
    return TrialOrder(Command((seed,), TRIAL_TIME_S))


@pytest.fixture(scope="session")
def false_qemu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled once a run."""
    program = tmp_path_factory.mktemp("false_qemu") / "false_qemu"
    subprocess.run(["cc", "-O1", "-o", program, SOURCE], check=True)
    return program


@pytest.fixture
def stage(false_qemu: Path, tmp_path: Path) -> Stage:
    capacity = Capacity(cores=16, pieces=64)  # most of what is played here only waits
    slots = Slots(tmp_path / "slots", capacity)
    return Stage(Emulator(false_qemu, "0", sandbox=False, firmware=None), tmp_path, slots)


# ---- real guests


@dataclass
class Real:
    """Single trials of C programs in real guests."""

    emulator: Emulator
    cache: Path
    folder: Path
    slots: Slots

    def trial(
        self,
        body: str,
        kernel: Path,
        *,
        append: str = "",
        trial_time: float = 10.0,
        smp: int = 1,
        memory_mib: int = 256,
        on_boot: Callable[[Guest], None] = lambda _: None,
        on_start: Callable[[Guest], None] = lambda _: None,
    ) -> Trialed:
        """One trial of a program whose ``main`` is ``body``."""
        path = self.folder / "program.c"
        path.write_text(PROGRAM.replace("BODY", textwrap.dedent(body)))
        payload = reproducer.prepare(path, cache=self.cache)
        how = Conditions(smp, memory_mib, "pc", append, trial_time, ())
        experiment = assemble(read_kernel(kernel), payload, how, [], self.cache, {"PATH": ""})
        limits = Deadlines(idle_s=6.0, run_grace_cpu_s=4.0)
        with (
            closing(StopSignal()) as stop,
            experiment.guest_spec(Accel.TCG) as spec,
            self.slots.acquire(smp, memory_mib, stop) as slot,
        ):
            assert slot is not None
            held = slot.descriptors
            guest = Guest(self.emulator, spec, stop=stop, limits=limits, keep_open=held)
            try:
                on_boot(guest)
                made = experiment.order("5eed", None)
                facts = run_trial(guest, made, smp, lambda: on_start(guest))
            finally:
                guest.kill()
        reading = read_facts(facts, Rules())
        return Trialed(facts, outcome_of(facts, reading), reading.title)


PROGRAM = r"""
    #define _GNU_SOURCE
    #include <arpa/inet.h>
    #include <dirent.h>
    #include <errno.h>
    #include <fcntl.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/io.h>
    #include <sys/ioctl.h>
    #include <sys/klog.h>
    #include <sys/mman.h>
    #include <sys/mount.h>
    #include <sys/ptrace.h>
    #include <sys/reboot.h>
    #include <sys/resource.h>
    #include <sys/socket.h>
    #include <sys/stat.h>
    #include <sys/uio.h>
    #include <sys/wait.h>
    #include <termios.h>
    #include <unistd.h>
    static unsigned crc32(const char *s) {
        unsigned crc = ~0u;
        for (; *s; s++) {
            crc ^= (unsigned char)*s;
            for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
        return ~crc;
    }
    /* Says on `port` that the run of this nonce ended well. */
    static void forge(const char *port, const char *nonce) {
        char body[200], line[300];
        snprintf(body, sizeof body, "%s 9 END how=exit code=0 ns=1 stuck=0 output=0", nonce);
        snprintf(line, sizeof line, "\n@FR1 %s %08x\n", body, crc32(body));
        int fd = open(port, O_WRONLY);
        if (fd < 0) _exit(78);
        write(fd, line, strlen(line));
    }
    int main(void) {
        BODY
        return 0;
    }
"""


@pytest.fixture
def real(emulator: Emulator, user_cache: Path, tmp_path: Path) -> Real:
    return Real(emulator, user_cache, tmp_path, Slots(tmp_path / "slots"))


@pytest.fixture(scope="session")
def debian_kernel(user_cache: Path) -> Path:
    """A distribution's kernel, with all that one has: /proc, PCI, ACPI, I/O ports, seccomp."""
    return fetch_kernel(user_cache)


@pytest.fixture(scope="session")
def lkdtm_kernel() -> Path:
    """Fails on demand, and has every checker; built the first time (some minutes)."""
    build = runpy.run_path(str(KERNELS))
    try:
        image: Path = build["kernel"]("lkdtm")
    except build["KernelBuildError"] as error:
        pytest.fail(f"the test kernel 'lkdtm' cannot be built: {error}", pytrace=False)
    return image
