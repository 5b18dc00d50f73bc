"""What a worker needs to know to run trials: small enough to be sent along with each of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pytest_flaky_repro.machine.accel import choose_accel
from pytest_flaky_repro.machine.cluster.images import ImageStore
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.spec import Accel, Deadlines, GuestSpec, MemoryFile
from pytest_flaky_repro.machine.trial import Machine


@dataclass(frozen=True)
class Fitness:
    """What a worker can do for a recipe: its accelerator, and guests at once."""

    accel: Accel
    at_once: int


class Recipe(Protocol):
    """How a worker makes the machine for trials. Equal recipes make equal machines."""

    @property
    def images(self) -> tuple[str, ...]:
        """The sha256 of each image that it needs."""
        ...

    @property
    def cores(self) -> int:
        """Cores that one guest takes."""
        ...

    def prepare(self, images: ImageStore, scratch: Path) -> Fitness:
        """Finds out what this host can do. UsageError or InfrastructureError: it cannot."""
        ...

    def machine(self, images: ImageStore, fitness: Fitness) -> AbstractContextManager[Machine]:
        """A machine for one trial. Raises MissingImages."""
        ...


@dataclass(frozen=True)
class QemuRecipe:
    """QEMU as the worker's host has it; ``kernel`` and ``initramfs`` are sha256 of images."""

    kernel: str
    initramfs: str
    accel: str = "auto"
    qemu: str | None = None
    smp: int = 1
    memory_mib: int = 256
    machine_type: str = "pc"
    append: str = ""
    limits: Deadlines = field(default_factory=Deadlines)

    @property
    def images(self) -> tuple[str, ...]:
        return self.kernel, self.initramfs

    @property
    def cores(self) -> int:
        return self.smp

    def prepare(self, images: ImageStore, scratch: Path) -> Fitness:
        def spec_for(accel: Accel) -> GuestSpec:  # whoever tries a guest closes its images
            copies = (MemoryFile("probe", images.content(digest)) for digest in self.images)
            return self._spec(accel, *copies)

        emulator = find_emulator(self.qemu)
        chosen = choose_accel(self.accel, emulator, spec_for, self.kernel, scratch)
        with images.lend(*self.images) as files:
            machine = QemuMachine(emulator, self._spec(chosen.accel, *files))
            return Fitness(chosen.accel, machine.at_once)

    @contextmanager
    def machine(self, images: ImageStore, fitness: Fitness) -> Iterator[Machine]:
        emulator = find_emulator(self.qemu)
        with images.lend(*self.images) as files:
            yield QemuMachine(emulator, self._spec(fitness.accel, *files), limits=self.limits)

    def _spec(self, accel: Accel, kernel: MemoryFile, initramfs: MemoryFile) -> GuestSpec:
        return GuestSpec(
            kernel=kernel,
            initramfs=initramfs,
            accel=accel,
            smp=self.smp,
            memory_mib=self.memory_mib,
            machine=self.machine_type,
            append=self.append,
        )


@dataclass(frozen=True)
class FakeRecipe:
    """The fake machine, on each worker."""

    behaviour: Behaviour
    at_once: int = 1
    images: tuple[str, ...] = ()

    @property
    def cores(self) -> int:
        return 1

    def prepare(self, images: ImageStore, scratch: Path) -> Fitness:
        del images, scratch
        return Fitness(Accel.TCG, self.at_once)

    @contextmanager
    def machine(self, images: ImageStore, fitness: Fitness) -> Iterator[Machine]:
        with images.lend(*self.images):
            yield FakeMachine(self.behaviour, fitness.at_once)
