"""Which accelerator really runs a guest here: found out by running one."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.conversation import GuestGone
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.spec import Accel, Deadlines, Emulator, GuestSpec
from pytest_flaky_repro.machine.stop import StopSignal

LOOP_LIMIT_MS = 250  # a million instructions take about 1 ms where KVM works
CHILD_LIMIT_S = 3.0
BOOT_LIMITS = Deadlines(boot_cpu_s=20.0, idle_s=5.0, wall_cap_s=30.0)


@dataclass(frozen=True)
class Probe:
    """Whether KVM can be used; ``problem`` is None if it can."""

    problem: str | None


@functools.lru_cache(maxsize=1)
def probe_loop() -> Probe:
    """Runs guest code for at most a few seconds, in a child that can be killed."""
    if not Path("/dev/kvm").exists():
        return Probe("there is no /dev/kvm")
    program = Path(__file__).with_name("kvm_probe.py")
    command = [sys.executable, "-I", str(program)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CHILD_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Probe(f"/dev/kvm opens, but guest code did not get on in {CHILD_LIMIT_S:g} s")
    said = (done.stdout or done.stderr).strip()
    if done.returncode:
        return Probe(said[-300:] or f"the KVM probe ended with status {done.returncode}")
    if int(said) > LOOP_LIMIT_MS:
        return Probe(
            f"/dev/kvm opens, but a million instructions of guest code took {said} ms "
            f"(limit {LOOP_LIMIT_MS} ms): long mode is emulated, and a guest would hang"
        )
    return Probe(None)


@dataclass(frozen=True)
class Choice:
    """The accelerator to use, and why not the other one."""

    accel: Accel
    reason: str


def choose_accel(
    wanted: str,
    emulator: Emulator,
    spec_for: Callable[[Accel], GuestSpec],
    kernel_sha256: str,
    cache: Path,
) -> Choice:
    """``wanted`` is ``auto``, ``kvm`` or ``tcg``; ``spec_for`` makes the guest to try.

    UsageError when KVM was demanded and does not work.
    """
    if wanted == "tcg":
        return Choice(Accel.TCG, "asked for")
    problem = probe_loop().problem or _boot_problem(emulator, spec_for, kernel_sha256, cache)
    if problem is None:
        return Choice(Accel.KVM, "a guest booted under KVM")
    if wanted == "kvm":
        msg = f"--repro-accel kvm: {problem}. Use --repro-accel auto or tcg (slower, but it works)."
        raise UsageError(msg)
    return Choice(Accel.TCG, problem)


def describe_quickly(wanted: str) -> str:
    """For a header, before any kernel was booted."""
    if wanted == "tcg":
        return "tcg"
    problem = probe_loop().problem
    if problem is None:
        return "kvm (a guest loop ran)"
    return f"tcg (no KVM: {problem})" if wanted == "auto" else f"kvm is unusable: {problem}"


def _boot_problem(
    emulator: Emulator, spec_for: Callable[[Accel], GuestSpec], kernel_sha256: str, cache: Path
) -> str | None:
    """Boots once under KVM; remembers the answer until the host or QEMU changes."""
    host = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    key = hashlib.sha256(f"{host} {emulator} {kernel_sha256}".encode()).hexdigest()[:24]
    kept = cache / "kvm" / f"{key}.json"
    if kept.is_file():
        answer: str | None = json.loads(kept.read_text())["problem"]
        return answer
    with spec_for(Accel.KVM) as spec:
        problem = _try_boot(emulator, replace(spec, smp=1))
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps({"problem": problem}))
    return problem


def _try_boot(emulator: Emulator, spec: GuestSpec) -> str | None:
    stop = StopSignal()
    guest = Guest(emulator, spec, stop=stop, limits=BOOT_LIMITS)
    try:
        guest.boot()
    except GuestGone as gone:
        return f"KVM runs code, but this kernel does not boot under it: {gone.detail}"
    finally:
        guest.kill()
        stop.close()
    return None
