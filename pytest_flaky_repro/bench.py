"""From settings, a kernel and a reproducer to a running campaign."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro import crash
from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.campaign.loop import Budget, Campaign, Observer
from pytest_flaky_repro.campaign.rules import HungTrial, OtherCrash, Rules
from pytest_flaky_repro.campaign.verdict import Subject, Verdict
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
from pytest_flaky_repro.machine.trial import Machine
from pytest_flaky_repro.settings import Settings
from pytest_flaky_repro.stats import Design, Plan, plan_for

CACHE_VARIABLE = "PYTEST_REPRO_CACHE"


def cache_folder() -> Path:
    """Where compiled agents, reproducers and probe results are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("pytest-flaky-repro")


@dataclass(frozen=True)
class Request:
    """What one ``check`` or ``measure`` asks for."""

    item: str
    kernel: Kernel
    reproducer: Path
    rules: Rules
    cflags: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surroundings:
    """What the surface lends to a campaign."""

    observer: Observer | None
    should_stop: Callable[[], str | None]
    deadline: float | None
    machine_for: Callable[[Experiment, Settings], Machine | None]


def build_rules(
    settings: Settings, crash_pattern: str | crash.Signature | None, ok_exit: Sequence[int]
) -> Rules:
    """The rules of a campaign, from its settings and what ``check`` was told."""
    classes = settings["crash_classes"]
    source = settings.source("crash_classes")
    expected = crash_pattern
    if isinstance(expected, str):
        expected = crash.Signature.parse(expected, "crash=")
    return Rules(
        expected=expected,
        other=OtherCrash(settings["other"]),
        hung=HungTrial(settings["hung"]),
        ok_exit=frozenset(ok_exit),
        classes=crash.parse_classes(classes, source) if classes else None,
    )


def design_of(settings: Settings) -> Design:
    """The statistical question; UsageError names the field that is wrong."""
    both = settings["confidence"]
    return Design(
        min_rate=settings["min_rate"],
        noise=settings["noise"],
        confidence_safe=settings["confidence_safe"] or both,
        confidence_crash=settings["confidence_crash"] or both,
    )


class Bench:
    """Keeps what campaigns of one pytest session share: kernels and accelerator choices."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kernels: dict[Path, KernelImage] = {}
        self.choices: dict[str, Choice] = {}

    def image_of(self, kernel: Kernel) -> KernelImage:
        """The kernel's image, read once a session: a file that changes meanwhile is not mixed in."""
        if kernel.path not in self._kernels:
            self._kernels[kernel.path] = read_kernel(kernel.path, f"--kernel {kernel.name}")
        return self._kernels[kernel.path]

    def check_setup(self, settings: Settings) -> None:
        """What can be found out before any test code runs: QEMU, and a demanded accelerator."""
        from pytest_flaky_repro.errors import UsageError
        from pytest_flaky_repro.machine.accel import probe_loop

        find_emulator(settings["qemu"])
        if settings["accel"] == "kvm":
            problem = probe_loop().problem
            if problem is not None:
                raise UsageError(
                    f"{settings.source('accel')} kvm: {problem}. "
                    "Use auto or tcg: slower, but it works."
                )

    def experiment(self, request: Request, settings: Settings) -> Experiment:
        """Reads, compiles and packs everything that a trial needs."""
        overlays = [self._root / path for path in settings["initrd"]]
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
        )
        kernel = self.image_of(request.kernel)
        return assemble(kernel, payload, conditions, overlays, cache_folder(), os.environ)

    def machine(self, experiment: Experiment, settings: Settings) -> QemuMachine:
        """A QEMU machine for the experiment, on the accelerator that works."""
        emulator = find_emulator(settings["qemu"])
        sha256 = experiment.kernel.sha256
        if sha256 not in self.choices:
            self.choices[sha256] = choose_accel(
                settings["accel"], emulator, experiment.guest_spec, sha256, cache_folder()
            )
        spec = experiment.guest_spec(self.choices[sha256].accel)
        return QemuMachine(emulator, spec)

    def campaign(self, request: Request, settings: Settings, around: Surroundings) -> Verdict:
        """Runs one campaign to its verdict."""
        plan = plan_for(design_of(settings))
        experiment = self.experiment(request, settings)
        machine = around.machine_for(experiment, settings) or self.machine(experiment, settings)
        record = self._plan_record(request, settings, experiment, plan)
        folder = self._root / settings["evidence"] / folder_name(request.item)
        history = load_history(folder, record) if settings["resume"] else History()
        record = _continuing(record, history)
        writer = EvidenceWriter(folder, record)
        try:
            campaign = Campaign(
                machine,
                plan,
                lambda seed: experiment.order(seed, request.rules.classes),
                subject=self._subject(request, settings, experiment),
                rules=request.rules,
                budget=_budget(settings, machine, around.deadline),
                writer=writer,
                history=history,
                min_rate_source=settings.source("min_rate"),
                observer=around.observer,
                should_stop=around.should_stop,
            )
            return campaign.run()
        finally:
            writer.close()

    def _subject(self, request: Request, settings: Settings, experiment: Experiment) -> Subject:
        return Subject(
            item=request.item,
            kernel=request.kernel.name,
            kernel_sha256=experiment.kernel.sha256,
            kernel_path=str(request.kernel.path),
            reproducer=str(request.reproducer),
            experiment=experiment.digest,
            trial_time=settings["trial_time"],
        )

    def _plan_record(
        self, request: Request, settings: Settings, experiment: Experiment, plan: Plan
    ) -> PlanRecord:
        design = plan.design
        parameters: Mapping[str, object] = {
            "kernel_sha256": experiment.kernel.sha256,
            "initramfs": experiment.image.digest,
            "reproducer": experiment.payload.digest,
            "min_rate": design.min_rate,
            "noise": design.noise,
            "confidence_safe": design.confidence_safe,
            "confidence_crash": design.confidence_crash,
            "lines": plan.digest(),
            **vars(experiment.conditions),
            **request.rules.parameters(),
        }
        info = {
            "kernel_path": str(request.kernel.path),
            "kernel_banner": experiment.kernel.banner,
            "reproducer_path": str(request.reproducer),
            "python": platform.python_version(),
            "cores": os.cpu_count(),
        }
        return PlanRecord(
            experiment.digest, parameters, request.item, request.kernel.name, (), info
        )


def _continuing(record: PlanRecord, history: History) -> PlanRecord:
    from dataclasses import replace

    return replace(record, continues=history.files)


def _budget(settings: Settings, machine: Machine, deadline: float | None) -> Budget:
    return Budget(
        jobs=settings["jobs"] or machine.at_once,
        max_trials=settings["max_trials"],
        seconds=settings["budget"],
        deadline=deadline,
    )
