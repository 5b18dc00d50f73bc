"""An experiment: one kernel, one reproducer, one way of running it, and what identifies it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.crash import CrashClass
from pytest_flaky_repro.guest.image import GuestImage, build_image
from pytest_flaky_repro.guest.reproducer import Payload
from pytest_flaky_repro.machine.argv import kernel_command_line
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.kernel_image import KernelImage
from pytest_flaky_repro.machine.spec import Accel, GuestSpec, memory_files
from pytest_flaky_repro.machine.trial import TrialOrder

ENVIRONMENT = (
    "PATH=/repro:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "TERM=dumb",
)


@dataclass(frozen=True)
class Conditions:
    """How a trial is run; all of it is part of the experiment's identity."""

    smp: int
    memory_mib: int
    machine: str
    append: str
    trial_time: float
    environment: tuple[str, ...] = ()
    boot: str = "cold"
    batch: int = 1  # trials of one boot at most

    def parameters(self) -> dict[str, object]:
        """For hashes: cold boots are told apart by saying nothing of boots, as they ever were."""
        said = dict(vars(self))
        if self.boot == "cold":
            del said["boot"], said["batch"]
        return said


@dataclass(frozen=True)
class Experiment:
    """Everything a trial needs, in memory."""

    kernel: KernelImage
    image: GuestImage
    payload: Payload
    conditions: Conditions

    @property
    def digest(self) -> str:
        """The experiment's identity: evidence of equal digests may be added up."""
        how = self.conditions
        parts = {
            "kernel": self.kernel.sha256,
            "initramfs": self.image.digest,
            "reproducer": self.payload.digest,
            "argv": list(self.payload.argv),
            "command_line": kernel_command_line(how.append, None),
            "smp": how.smp,
            "memory_mib": how.memory_mib,
            "machine": how.machine,
            "trial_time": how.trial_time,
            "environment": list(how.environment),
        }
        if how.boot != "cold":
            parts |= {"boot": how.boot, "batch": how.batch}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def guest_spec(self, accel: Accel) -> GuestSpec:
        """The virtual machine for it."""
        how = self.conditions
        return GuestSpec(
            *memory_files(self.kernel.content, self.image.archive),
            accel=accel,
            smp=how.smp,
            memory_mib=how.memory_mib,
            machine=how.machine,
            append=how.append,
        )

    def order(self, seed: str, classes: frozenset[CrashClass] | None) -> TrialOrder:
        """One trial's order; ``seed`` reaches the guest's entropy pool and $REPRO_SEED."""
        entropy = hashlib.sha512(seed.encode()).digest()
        env = (*ENVIRONMENT, f"REPRO_SEED={seed}", *self.conditions.environment)
        time_s = self.conditions.trial_time
        return TrialOrder(Command(self.payload.argv, time_s, env, entropy), classes)


def assemble(
    kernel: KernelImage,
    payload: Payload,
    conditions: Conditions,
    overlays: Sequence[Path],
    cache: Path,
    environment: Mapping[str, str],
) -> Experiment:
    """Builds the initramfs (``environment`` finds busybox) and puts the experiment together."""
    image = build_image(payload.files, overlays, cache, environment)
    return Experiment(kernel, image, payload, conditions)
