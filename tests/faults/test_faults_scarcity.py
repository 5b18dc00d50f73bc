"""A host without memory or processes for a real QEMU: infrastructure or lost, and it says why."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.machine.conversation import Gone
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.faults.conftest import Real

ROOT = Path(__file__).parents[2]
UNPROVED = (Outcome.BOOT_FAILED, Outcome.INFRASTRUCTURE, Outcome.LOST)
is_root = os.geteuid() == 0


def wrapped(real: Real, before: str) -> Real:
    """With a QEMU that a shell line precedes, as an administrator's limits do."""
    script = real.folder / "qemu"
    script.write_text(f'#!/bin/sh\n{before}\nexec {real.emulator.path} "$@"\n')
    script.chmod(0o755)
    return replace(real, emulator=replace(real.emulator, path=script))


# ---- memory: allocations fail


def test_a_qemu_that_gets_no_memory_is_no_survivor(real: Real, bare_kernel: Path) -> None:
    """From too little for its libraries up to enough for all (RLIMIT_AS, getrlimit(2))."""
    said: list[str] = []
    mib = 10
    while True:
        trial = wrapped(real, f"ulimit -v {mib << 10}").trial("return 0;", bare_kernel)
        if trial.outcome is Outcome.SURVIVED:
            break
        assert trial.outcome in UNPROVED, trial.told
        assert "QEMU was killed" in trial.told or "QEMU exited" in trial.told
        said.append(trial.told)
        mib = mib * 5 // 4
    assert len(said) > 10  # it needs 1.5 GB, most of it for its translation buffer
    assert any("Cannot allocate memory" in text for text in said), said


# Runs through code that is new to QEMU, whose tables of translated code have to grow for it.
NEW_CODE = r"""
    enum { SIZE = 150 << 20, STEP = 64 };
    unsigned char *code = mmap(0, SIZE, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 79;
    for (long at = 0; at < SIZE; at += STEP) code[at] = 0xc3; /* ret */
    for (long at = 0; at < SIZE; at += STEP) ((void (*)(void))(code + at))();
"""


def test_a_qemu_that_gets_no_more_memory_in_the_run_is_lost(real: Real, bare_kernel: Path) -> None:
    def no_more(guest: Guest) -> None:
        (line,) = (
            line
            for line in Path(f"/proc/{guest.pid}/status").read_text().splitlines()
            if line.startswith("VmSize:")
        )
        now = int(line.split()[1]) << 10
        resource.prlimit(guest.pid, resource.RLIMIT_AS, (now, now))

    trial = real.trial(NEW_CODE, bare_kernel, trial_time=600.0, on_start=no_more)
    assert trial.outcome is Outcome.LOST, trial.told
    assert "allocate" in trial.told


# ---- memory: the kernel's OOM killer

FILLS = r"""
    enum { SIZE = 180 << 20 };
    char *memory = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 79;
    memset(memory, 1, SIZE);
"""


@contextmanager
def control_group(mib: int) -> Iterator[Path]:
    """A control group of so much memory, of either version of cgroups(7)."""
    first = Path("/sys/fs/cgroup/memory")
    root, limit = (
        (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    )
    group = root / f"flaky-repro-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"NOT TRIED: the host's OOM killer: no control group can be made: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip(f"NOT TRIED: the host's OOM killer: {group} has no {limit}")
        (group / limit).write_text(str(mib << 20))
        swap = group / "memory.swap.max"
        if swap.exists():
            swap.write_text("0")
        yield group
    finally:
        group.rmdir()


def kills(group: Path) -> int:
    """How many processes the OOM killer took there."""
    files = [group / "memory.oom_control", group / "memory.events"]
    text = next(path.read_text() for path in files if path.exists())
    (line,) = (line for line in text.splitlines() if line.startswith("oom_kill "))
    return int(line.split()[1])


def join(group: Path) -> Callable[[Guest], None]:
    def act(guest: Guest) -> None:
        (group / "cgroup.procs").write_text(str(guest.pid))

    return act


@pytest.mark.skipif(not is_root, reason="NOT TRIED: OOM killer: only root makes control groups")
def test_a_qemu_that_the_oom_killer_takes_is_lost(real: Real, bare_kernel: Path) -> None:
    with control_group(50) as group:
        trial = real.trial(FILLS, bare_kernel, on_start=join(group))
        assert kills(group) == 1
        assert trial.outcome is Outcome.LOST, trial.told
        assert trial.facts.gone is Gone.KILLED
        assert "SIGKILL" in trial.told
    with control_group(20) as group:
        trial = real.trial("return 0;", bare_kernel, on_boot=join(group))
        assert kills(group) == 1
        assert trial.outcome is Outcome.BOOT_FAILED, trial.told


# ---- whole campaigns, of pytest itself

NEEDED = 7  # survivals of this question
QUESTION = ("--repro-min-rate=0.3", "--confidence=0.9", "--repro-accel=tcg")
STRANGER = 61_234  # a user of whom this machine has no other process
SOMETIMES = r"""
    #include <stdlib.h>
    int main(void) {
        enum { SIZE = 180 << 20 };
        if (strtoul(getenv("REPRO_SEED"), 0, 16) % 2 == 0) return 0;
        volatile char *memory = malloc(SIZE);
        for (int at = 0; at < SIZE; at += 4096) memory[at] = 1;
        return 0;
    }
"""


@dataclass
class Project:
    """A folder of somebody's, and runs of pytest in it."""

    folder: Path
    before: tuple[str, ...]
    python: str

    def pytest(self, *arguments: str, limits: tuple[str, ...] = ()) -> tuple[int, str]:
        """Exit status and output."""
        packages = [str(ROOT), *(path for path in sys.path if "-packages" in path)]
        done = subprocess.run(
            [*limits, *self.before, self.python, "-m", "pytest", "-p", "no:cacheprovider",
             *QUESTION, "--kernel=bzImage", *arguments],
            cwd=self.folder, capture_output=True, text=True, timeout=600, check=False,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.folder),
                "TMPDIR": str(self.folder / "tmp"),
                "PYTEST_REPRO_SLOTS": str(self.folder / "slots"),
                "PYTHONPATH": os.pathsep.join(packages),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
        )  # fmt: skip
        assert list((self.folder / "tmp").iterdir()) == []
        return done.returncode, done.stdout + done.stderr

    def outcomes(self) -> Counter[str]:
        """Of all trials that are on disk."""
        files = self.folder.glob(".repro/*/trials-*.jsonl")
        records = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return Counter(record["outcome"] for record in records if record["type"] == "trial")


def make_project(folder: Path, kernel: Path, source: str) -> None:
    """Its reproducer is compiled: what is short here is to be short for QEMU, not for cc."""
    shutil.copy(kernel, folder / "bzImage")
    (folder / "tmp").mkdir()
    (folder / "program.c").write_text(source)
    cc = ["cc", "-static", "-O1", "-o", f"{folder}/program", f"{folder}/program.c"]
    subprocess.run(cc, check=True)
    (folder / "test_it.py").write_text("def test_it(repro): repro.check('program')\n")


@pytest.mark.slow
@pytest.mark.skipif(not is_root, reason="NOT TRIED: OOM killer: only root makes control groups")
def test_a_campaign_under_the_oom_killer_is_never_safe(
    real: Real, bare_kernel: Path, tmp_path: Path
) -> None:
    """Every other guest fills its memory, which its group has not: those trials are lost."""
    folder = tmp_path / "project"
    folder.mkdir()
    make_project(folder, bare_kernel, SOMETIMES)
    with control_group(160) as group:
        qemu = wrapped(real, f"echo $$ > {group}/cgroup.procs || exit 99").emulator.path
        project = Project(folder, (), sys.executable)
        status, text = project.pytest(f"--repro-qemu={qemu}", "--repro-jobs=1")
        outcomes = project.outcomes()
        # the campaign's end may have cut one more trial short, or kept one from being counted
        assert abs(kills(group) - outcomes["lost"]) <= 1, text
    assert status != 0
    assert "SAFE (" not in text
    assert "SIGKILL" in text
    assert outcomes["lost"] > 1
    assert set(outcomes) <= {"survived", "lost", "boot_failed"}
    assert "INFRASTRUCTURE" in text
    status, text = project.pytest("--repro-resume")
    assert f"SAFE (0/{NEEDED}," in text
    assert status == 0
    assert project.outcomes()["survived"] == NEEDED


@pytest.fixture
def strangers(bare_kernel: Path) -> Iterator[Project]:
    """A project of a user whom RLIMIT_NPROC binds, as it does not bind root (getrlimit(2))."""
    folder = Path(tempfile.mkdtemp(prefix="flaky-repro-stranger-", dir="/tmp"))
    try:
        make_project(folder, bare_kernel, "int main(void) { return 0; }")
        for path in (folder, *folder.iterdir()):
            os.chown(path, STRANGER, STRANGER)
        become = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
        pythons = [sys.executable, "/usr/bin/python3"]  # the first may be in a folder of root's
        python = next(
            path
            for path in pythons
            if subprocess.run([*become, "test", "-x", path], check=False).returncode == 0
        )
        yield Project(folder, become, python)
    finally:
        shutil.rmtree(folder)


def processes_of(user: int) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError):  # it has ended meanwhile
            found += [path.name] if path.stat().st_uid == user else []
    return found


ONLY_ROOT = pytest.mark.skipif(
    not is_root, reason="NOT TRIED: process limits: only root becomes a user without processes"
)


def runs_short(strangers: Project, allowed: int) -> str | None:
    """What pytest says with so many processes and threads; None if they are enough."""
    status, text = strangers.pytest(limits=("prlimit", f"--nproc={allowed}"))
    assert processes_of(STRANGER) == []
    if status == 0:
        assert f"SAFE (0/{NEEDED}," in text
        return None
    assert "SAFE (" not in text
    assert "INFRASTRUCTURE" in text, text
    reasons = ("Resource temporarily unavailable", "start new thread", "too many processes")
    assert any(reason in text for reason in reasons), text
    return text


@ONLY_ROOT
def test_a_compiler_that_may_not_start_is_not_told_to_be_installed(strangers: Project) -> None:
    said = runs_short(strangers, 1)
    assert said is not None
    assert "could not be started" in said
    assert "apt-get install gcc" not in said


@ONLY_ROOT
def test_a_campaign_that_may_start_no_qemu(strangers: Project) -> None:
    assert runs_short(strangers, 1000) is None  # and what is compiled once is compiled
    said = runs_short(strangers, 4)
    assert said is not None
    assert "QEMU could not be started" in said
    assert "ulimit -u" in said


@ONLY_ROOT
@pytest.mark.slow
def test_processes_run_out_at_every_point(strangers: Project) -> None:
    """One more process or thread each time, until there are enough."""
    assert runs_short(strangers, 1000) is None  # and what is compiled once is compiled
    said: list[str] = []
    for allowed in range(1, 30):
        text = runs_short(strangers, allowed)
        if text is None:
            break
        said.append(text)
    else:
        pytest.fail("thirty processes and threads were not enough")
    assert len(said) > 4
    assert any("QEMU could not be started" in text for text in said)
    assert any("qemu_thread_create" in text for text in said)
    outcomes = strangers.outcomes()
    assert outcomes["survived"] >= 2 * NEEDED
    assert outcomes["crashed"] == 0
