"""From a request to what trials need: an experiment, a machine, a place for the evidence."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.campaign.verdict import Subject
from pytest_flaky_repro.errors import UsageError, told_by
from pytest_flaky_repro.evidence import (
    EvidenceWriter,
    History,
    PlanRecord,
    folder_name,
    load_history,
)
from pytest_flaky_repro.guest import reproducer as reproducers
from pytest_flaky_repro.kernels import Kernel
from pytest_flaky_repro.machine.accel import Choice, choose_accel
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.kernel_image import KernelImage, read_kernel
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.spec import Deadlines
from pytest_flaky_repro.machine.trial import Machine
from pytest_flaky_repro.request import Request, Surroundings
from pytest_flaky_repro.settings import AutoTime, Settings

if TYPE_CHECKING:
    from pytest_flaky_repro.machine.cluster.crew import Crew


_AUTO = (
    "{}: auto needs the times to crash of a kernel that is known to crash: --repro-calibrate "
    "NAME=PATH, or repro.check(..., calibrated_on=repro.measure(..., crashes=10)). "
    "Or give the trial time in seconds."
)


class Bench:
    """Keeps what campaigns of one pytest session share: kernels and accelerator choices."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kernels: dict[Path, KernelImage] = {}
        self.choices: dict[str, Choice] = {}
        self._crew: Crew | None = None

    def close(self) -> None:
        """Leaves the cluster, if one was used."""
        if self._crew is not None:
            self._crew.close()

    def image_of(self, kernel: Kernel) -> KernelImage:
        """The kernel's image, read once a session: one rebuilt meanwhile is not mixed in."""
        if kernel.path not in self._kernels:
            self._kernels[kernel.path] = read_kernel(kernel.path, f"{kernel.source} {kernel.name}")
        return self._kernels[kernel.path]

    def experiment(self, request: Request, settings: Settings) -> Experiment:
        """Reads, compiles and packs everything that a trial needs."""
        if isinstance(settings["trial_time"], AutoTime):
            raise UsageError(_AUTO.format(settings.source("trial_time")))
        overlays = [self._root / path for path in settings["initrd"]]
        with told_by(request.named_by):
            payload = reproducers.prepare(
                request.reproducer, cache=cache_folder(), cflags=request.cflags
            )
        conditions = Conditions(
            smp=settings["smp"],
            memory_mib=settings["memory"],
            machine=settings["machine"],
            append=settings["append"],
            trial_time=settings["trial_time"],
            environment=request.environment,
            boot=settings["boot"],
            batch=1 if settings["boot"] == "cold" else settings["batch"],
        )
        kernel = self.image_of(request.kernel)
        with told_by(settings.source("initrd") if overlays else ""):
            return assemble(kernel, payload, conditions, overlays, cache_folder(), os.environ)

    @contextmanager
    def machine(
        self, experiment: Experiment, settings: Settings, around: Surroundings
    ) -> Iterator[Machine]:
        """The machine for the experiment: the hook's, or QEMU on the accelerator that works."""
        other = around.machine_for(experiment, settings)
        if other is not None:
            yield other
            return
        way = self.qemu if settings["dask"] is None else self._on_cluster
        with way(experiment, settings) as machine:
            if not settings["pause_on_crash"]:
                with _sharing(machine, settings["boot"]) as ready:
                    yield ready
                return
            with _pausing(machine, settings, around) as held:
                yield held

    @contextmanager
    def _on_cluster(self, experiment: Experiment, settings: Settings) -> Iterator[Machine]:
        """The workers of ``--repro-dask``: QEMU and its accelerator are theirs."""
        from pytest_flaky_repro.machine.cluster.crew import Crew
        from pytest_flaky_repro.machine.cluster.machine import machine_on
        from pytest_flaky_repro.machine.cluster.recipe import QemuRecipe

        refuse_beside_dask(settings)
        contents = (experiment.kernel.content, experiment.image.archive)
        kernel, initramfs = (hashlib.sha256(content).hexdigest() for content in contents)
        recipe = QemuRecipe(
            kernel,
            initramfs,
            accel=settings["accel"],
            qemu=settings["qemu"],
            smp=settings["smp"],
            memory_mib=settings["memory"],
            machine_type=settings["machine"],
            append=settings["append"],
            limits=Deadlines(boot_cpu_s=settings["boot_timeout"]),
        )
        if self._crew is None:
            self._crew = Crew(settings["dask"])
        images = dict(zip(recipe.images, contents, strict=True))
        with machine_on(self._crew, recipe, images) as machine:
            yield machine

    @contextmanager
    def qemu(self, experiment: Experiment, settings: Settings) -> Iterator[QemuMachine]:
        """QEMU for the experiment; its images are given back at the end."""
        emulator = find_emulator(settings["qemu"])
        sha256 = experiment.kernel.sha256
        if sha256 not in self.choices:
            self.choices[sha256] = choose_accel(
                settings["accel"], emulator, experiment.guest_spec, sha256, cache_folder()
            )
        with experiment.guest_spec(self.choices[sha256].accel) as spec:
            limits = Deadlines(boot_cpu_s=settings["boot_timeout"])
            yield QemuMachine(emulator, spec, limits=limits)

    def evidence(
        self,
        request: Request,
        settings: Settings,
        experiment: Experiment,
        parameters: Mapping[str, object],
        info: Mapping[str, object] | None = None,
    ) -> tuple[EvidenceWriter, History]:
        """A new evidence file, and what it continues."""
        record = PlanRecord(
            experiment.digest,
            {
                "kernel_sha256": experiment.kernel.sha256,
                "initramfs": experiment.image.digest,
                "reproducer": experiment.payload.digest,
                **experiment.conditions.parameters(),
                **request.rules.parameters(),
                **parameters,
            },
            request.item,
            request.kernel.name,
            info={
                "kernel_path": str(request.kernel.path),
                "kernel_banner": experiment.kernel.banner,
                "reproducer_path": str(request.reproducer),
                "command": request.command,
                "python": platform.python_version(),
                "cores": os.cpu_count(),
                **(info or {}),
            },
        )
        folder = self._root / settings["evidence"] / folder_name(request.item)
        history = load_history(folder, record) if settings["resume"] else History()
        return EvidenceWriter(folder, replace(record, continues=history.files)), history


@contextmanager
def _sharing(machine: Machine, how: str) -> Iterator[Machine]:
    """``machine`` as ``--repro-boot`` asks for it."""
    if how == "cold" or not isinstance(machine, QemuMachine):
        yield machine
    elif how == "batch":
        from pytest_flaky_repro.machine.batch import BatchMachine

        yield BatchMachine(machine)
    else:
        from pytest_flaky_repro.machine.snapshot import SnapshotMachine

        shared = SnapshotMachine(machine)
        try:
            yield shared
        finally:
            shared.close()


def _pausing(
    machine: Machine, settings: Settings, around: Surroundings
) -> AbstractContextManager[Machine]:
    """``machine`` as ``--repro-pause-on-crash`` asks for it."""
    from pytest_flaky_repro.machine.pause import pausing

    if not isinstance(machine, QemuMachine) or settings["boot"] != "cold":
        msg = (
            "--repro-pause-on-crash holds one guest on this machine, at the end of a boot of its "
            "own: it needs --repro-boot cold, and neither --repro-dask nor another machine"
        )
        raise UsageError(msg)
    return pausing(machine, around.notice)


def refuse_beside_dask(settings: Settings) -> None:
    """What needs the guest to be on this machine, or trials that share one."""
    if settings["pause_on_crash"]:
        raise UsageError(
            "--repro-pause-on-crash stops a guest for a debugger on this machine, and --repro-dask "
            "runs guests elsewhere: leave one of them out"
        )
    if settings["boot"] != "cold":
        raise UsageError(
            f"{settings.source('boot')}: with --repro-dask each trial boots a guest of its own: "
            "--repro-boot cold"
        )


def subject_of(request: Request, settings: Settings, experiment: Experiment) -> Subject:
    """What the campaign is about, for its verdict."""
    return Subject(
        item=request.item,
        kernel=request.kernel.name,
        kernel_sha256=experiment.kernel.sha256,
        kernel_path=str(request.kernel.path),
        reproducer=str(request.reproducer),
        experiment=experiment.digest,
        trial_time=settings["trial_time"],
        smp=settings["smp"],
    )
