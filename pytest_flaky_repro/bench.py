"""From settings, a kernel and a reproducer to a running campaign."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_flaky_repro import crash
from pytest_flaky_repro.campaign.calibration import (
    CalibrationGoal,
    calibration_teller,
    calibration_verdict,
)
from pytest_flaky_repro.campaign.comparison import ComparisonGoal, ComparisonVerdict
from pytest_flaky_repro.campaign.control import Control
from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.campaign.factorial import FactorsGoal
from pytest_flaky_repro.campaign.loop import Budget, Campaign, Observer
from pytest_flaky_repro.campaign.rules import HungTrial, OtherCrash, Rules
from pytest_flaky_repro.campaign.trials import Arm, Ending, Progress, TrialLoop
from pytest_flaky_repro.campaign.verdict import Subject, Verdict
from pytest_flaky_repro.errors import UsageError
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
from pytest_flaky_repro.settings import Settings
from pytest_flaky_repro.stats import Design, Plan, plan_for
from pytest_flaky_repro.stats.calibration import Calibration, CalibrationRule
from pytest_flaky_repro.stats.solve import ALGORITHM

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
class FactorLevel:
    """One level of a factor: what it changes; None leaves it as it is."""

    name: str
    kernel: Kernel | None = None
    smp: int | None = None
    append: str | None = None
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownBad:
    """A kernel that is known to crash, and how often it did."""

    request: Request
    kernel_sha256: str
    calibration: Calibration


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


def solved(design: Design) -> Plan:
    """The plan for a design; one that takes a moment to solve is kept in the cache."""
    if design.noise == 0.0:
        return plan_for(design)
    question = json.dumps([ALGORITHM, *vars(design).values()])
    kept = cache_folder() / "plans" / f"{hashlib.sha256(question.encode()).hexdigest()[:24]}.json"
    if kept.is_file():
        try:
            return Plan.from_json(kept.read_text())
        except UsageError:
            kept.unlink()  # torn, or of another version: it is only a copy
    plan = plan_for(design)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_text(plan.to_json())
    part.replace(kept)
    return plan


class Bench:
    """Keeps what campaigns of one pytest session share: kernels and accelerator choices."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._kernels: dict[Path, KernelImage] = {}
        self.choices: dict[str, Choice] = {}

    def image_of(self, kernel: Kernel) -> KernelImage:
        """The kernel's image, read once a session: one rebuilt meanwhile is not mixed in."""
        if kernel.path not in self._kernels:
            self._kernels[kernel.path] = read_kernel(kernel.path, f"--kernel {kernel.name}")
        return self._kernels[kernel.path]

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

    @contextmanager
    def machine(
        self, experiment: Experiment, settings: Settings, around: Surroundings
    ) -> Iterator[Machine]:
        """The machine for the experiment: the hook's, or QEMU on the accelerator that works."""
        other = around.machine_for(experiment, settings)
        if other is not None:
            yield other
            return
        with self.qemu(experiment, settings) as machine:
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

    def campaign(
        self,
        request: Request,
        settings: Settings,
        around: Surroundings,
        known_bad: KnownBad | None = None,
    ) -> Verdict:
        """Runs one campaign to its verdict; ``known_bad`` gives its minimum rate and control."""
        design, source = self._question(settings, known_bad)
        plan = solved(design)
        with ExitStack() as stack:
            experiment = self.experiment(request, settings)
            machine = stack.enter_context(self.machine(experiment, settings, around))
            parameters = question_parameters(plan) | _calibration_parameters(known_bad)
            writer, history = self._evidence(request, settings, experiment, parameters)
            stack.callback(writer.close)
            campaign = Campaign(
                machine,
                plan,
                lambda seed: experiment.order(seed, request.rules.classes),
                subject=subject_of(request, settings, experiment),
                rules=request.rules,
                budget=_budget(settings, machine, around.deadline),
                writer=writer,
                history=history,
                min_rate_source=source,
                control=self._control(stack, known_bad, settings, around),
                observer=around.observer,
                should_stop=around.should_stop,
            )
            verdict = campaign.run()
        return replace(
            verdict, calibration=known_bad.calibration if known_bad is not None else None
        )

    def calibrate(
        self, request: Request, settings: Settings, around: Surroundings, crashes: int
    ) -> Verdict:
        """Runs a known-bad kernel until it has crashed ``crashes`` times.

        The verdict's ``calibration`` is what was learned; None if it crashed too rarely.
        """
        rule = CalibrationRule(crashes, settings["calibrate_trials"])
        goal = CalibrationGoal(rule)
        with ExitStack() as stack:
            experiment = self.experiment(request, settings)
            machine = stack.enter_context(self.machine(experiment, settings, around))
            parameters: dict[str, object] = {"calibration": vars(rule)}
            writer, history = self._evidence(request, settings, experiment, parameters)
            stack.callback(writer.close)
            arm = _arm("test", machine, experiment, request)
            subject = subject_of(request, settings, experiment)
            budget = replace(_budget(settings, machine, around.deadline), max_trials=None)
            loop = TrialLoop(
                [arm],
                goal,
                budget=budget,
                writer=writer,
                history=history,
                on_trial=calibration_teller(goal, rule, subject, around.observer),
                should_stop=around.should_stop,
            )
            ending = loop.run()
        return calibration_verdict(goal, ending, subject, design_of(settings), writer.path)

    def compare(
        self, a: Request, b: Request, settings: Settings, around: Surroundings
    ) -> ComparisonVerdict:
        """Interleaved trials of two experiments until a difference shows or a budget is spent."""
        confidence = settings["confidence"]
        goal = ComparisonGoal(confidence)
        with ExitStack() as stack:
            sides = [(side, self.experiment(side, settings)) for side in (a, b)]
            machines = [
                stack.enter_context(self.machine(experiment, settings, around))
                for _, experiment in sides
            ]
            arms = [
                _arm(name, machine, experiment, side)
                for name, machine, (side, experiment) in zip("ab", machines, sides, strict=True)
            ]
            parameters: dict[str, object] = {"compared_with": sides[1][1].digest}
            parameters["confidence"] = confidence
            writer, history = self._evidence(a, settings, sides[0][1], parameters)
            stack.callback(writer.close)
            loop = TrialLoop(
                arms,
                goal,
                budget=_budget(settings, machines[0], around.deadline),
                writer=writer,
                history=history,
                should_stop=around.should_stop,
            )
            ending = loop.run()
        subjects = [subject_of(side, settings, experiment) for side, experiment in sides]
        return goal.verdict(ending, subjects[0], subjects[1], writer.path)

    def factorial(
        self,
        stack: ExitStack,
        base: Request,
        settings: Settings,
        factors: Mapping[str, Sequence[FactorLevel]],
        goal: FactorsGoal,
        on_trial: Callable[[Progress], None],
    ) -> Ending:
        """Rounds over every combination of levels; ``goal`` holds the table at the end."""
        arms, machines = [], []
        for combination in itertools.product(*factors.values()):
            request, how = _combined(base, settings, combination)
            experiment = self.experiment(request, how)
            machine = stack.enter_context(self.qemu(experiment, how))
            machines.append((how["smp"], machine))
            arms.append(
                _arm("|".join(level.name for level in combination), machine, experiment, request)
            )
        parameters: dict[str, object] = {
            "factors": {name: [level.name for level in levels] for name, levels in factors.items()},
            "experiments": [arm.experiment for arm in arms],
            "confidence": settings["confidence"],
        }
        writer, history = self._evidence(
            base, settings, self.experiment(base, settings), parameters
        )
        stack.callback(writer.close)
        largest = max(machines, key=lambda pair: pair[0])[1]
        loop = TrialLoop(
            arms,
            goal,
            budget=_budget(settings, largest, None),
            writer=writer,
            history=history,
            on_trial=on_trial,
            gate=largest,
        )
        return loop.run()

    def _question(self, settings: Settings, known_bad: KnownBad | None) -> tuple[Design, str]:
        """The design, and where its minimum rate comes from."""
        asked = design_of(settings)
        if known_bad is None:
            return asked, settings.source("min_rate")
        design = known_bad.calibration.design(
            asked.confidence_safe,
            asked.confidence_crash,
            noise=asked.noise,
            reduction=settings["reduction"],
        )
        learned = known_bad.calibration
        name = known_bad.request.kernel.name
        return design, f"{name}: {learned.crashes} crashes in {learned.trials} trials"

    def _control(
        self,
        stack: ExitStack,
        known_bad: KnownBad | None,
        settings: Settings,
        around: Surroundings,
    ) -> Control | None:
        if known_bad is None or not settings["control_every"]:
            return None
        experiment = self.experiment(known_bad.request, settings)
        machine = stack.enter_context(self.machine(experiment, settings, around))
        arm = _arm("control", machine, experiment, known_bad.request)
        return Control(arm, known_bad.calibration, settings["control_every"])

    def _evidence(
        self,
        request: Request,
        settings: Settings,
        experiment: Experiment,
        parameters: Mapping[str, object],
    ) -> tuple[EvidenceWriter, History]:
        """A new evidence file, and what it continues."""
        record = PlanRecord(
            experiment.digest,
            {
                "kernel_sha256": experiment.kernel.sha256,
                "initramfs": experiment.image.digest,
                "reproducer": experiment.payload.digest,
                **vars(experiment.conditions),
                **request.rules.parameters(),
                **parameters,
            },
            request.item,
            request.kernel.name,
            info={
                "kernel_path": str(request.kernel.path),
                "kernel_banner": experiment.kernel.banner,
                "reproducer_path": str(request.reproducer),
                "python": platform.python_version(),
                "cores": os.cpu_count(),
            },
        )
        folder = self._root / settings["evidence"] / folder_name(request.item)
        history = load_history(folder, record) if settings["resume"] else History()
        return EvidenceWriter(folder, replace(record, continues=history.files)), history


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
    )


def question_parameters(plan: Plan) -> dict[str, object]:
    """What the statistics were asked, for the plan's hash."""
    design = plan.design
    return {
        "min_rate": design.min_rate,
        "noise": design.noise,
        "confidence_safe": design.confidence_safe,
        "confidence_crash": design.confidence_crash,
        "lines": plan.digest(),
    }


def _calibration_parameters(known_bad: KnownBad | None) -> dict[str, object]:
    if known_bad is None:
        return {}
    return {"calibrated_on": known_bad.kernel_sha256, "calibration": vars(known_bad.calibration)}


def _combined(
    base: Request, settings: Settings, levels: Sequence[FactorLevel]
) -> tuple[Request, Settings]:
    """The request and settings with all levels applied."""
    values = dict(settings.values)
    for level in levels:
        base = replace(
            base,
            kernel=level.kernel or base.kernel,
            environment=(*base.environment, *level.environment),
        )
        values["smp"] = level.smp or values["smp"]
        values["append"] = values["append"] if level.append is None else level.append
    return base, Settings(values, settings.sources)


def _arm(name: str, machine: Machine, experiment: Experiment, request: Request) -> Arm:
    return Arm(
        name,
        machine,
        lambda seed: experiment.order(seed, request.rules.classes),
        experiment.digest,
        request.rules,
    )


def _budget(settings: Settings, machine: Machine, deadline: float | None) -> Budget:
    return Budget(
        jobs=settings["jobs"] or machine.at_once,
        max_trials=settings["max_trials"],
        seconds=settings["budget"],
        deadline=deadline,
    )
