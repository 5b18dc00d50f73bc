"""Conducting campaigns: a check, a calibration, a comparison, a factorial design."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from pytest_flaky_repro.bench import Bench, subject_of
from pytest_flaky_repro.boots import BootMode, mode_for
from pytest_flaky_repro.campaign.calibration import (
    CalibrationGoal,
    calibration_teller,
    calibration_verdict,
)
from pytest_flaky_repro.campaign.comparison import ComparisonGoal, ComparisonVerdict
from pytest_flaky_repro.campaign.control import Control
from pytest_flaky_repro.campaign.experiment import Experiment
from pytest_flaky_repro.campaign.factorial import FactorsGoal
from pytest_flaky_repro.campaign.loop import Budget, Campaign
from pytest_flaky_repro.campaign.trials import Arm, Ending, News, Progress, TrialLoop
from pytest_flaky_repro.campaign.verdict import Verdict, with_boots
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import History
from pytest_flaky_repro.machine.trial import Machine
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.question import design_of, question_parameters, solved
from pytest_flaky_repro.request import FactorLevel, KnownBad, Request, Surroundings
from pytest_flaky_repro.settings import AutoTime, Settings
from pytest_flaky_repro.stats import Design
from pytest_flaky_repro.stats.calibration import CalibrationRule
from pytest_flaky_repro.stats.clusters import boot_noise
from pytest_flaky_repro.stats.statement import counted
from pytest_flaky_repro.unstarted import explained

_CHOSEN = "trials are of up to {:g} s: auto ({}) chose it by the known-bad kernel's crashes"


def noted(verdict: Verdict, note: str) -> Verdict:
    """``verdict`` with one note more."""
    return replace(verdict, note="; ".join(filter(None, (verdict.note, note))))


def check(
    bench: Bench,
    request: Request,
    settings: Settings,
    around: Surroundings,
    known_bad: KnownBad | None = None,
) -> Verdict:
    """Runs one campaign to its verdict; ``known_bad`` gives its minimum rate and control."""
    longest = settings["trial_time"]
    settings = _booted_like(known_bad, _timed_like(known_bad, settings))
    mode = mode_for(settings, calibrated=known_bad is not None)
    settings = settings.altered(boot=mode.how)
    design, source = _question(settings, known_bad, mode)
    plan = solved(design)
    with ExitStack() as stack:
        experiment = bench.experiment(request, settings)
        machine = stack.enter_context(bench.machine(experiment, settings, around))
        parameters = question_parameters(plan) | _calibration_parameters(known_bad, settings)
        parameters |= mode.parameters()
        info = {"min_rate_source": source, **mode.info(design_of(settings))}
        writer, history = bench.evidence(request, settings, experiment, parameters, info)
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
            control=_control(bench, stack, known_bad, settings, around),
            observer=around.observer,
            should_stop=around.should_stop,
            sharing=mode.sharing,
        )
        verdict = _with_boots(campaign.run(), mode, settings, request)
        verdict = _if_unstarted(verdict, experiment, settings)
        writer.end(verdict.conclusion.value, verdict.why)
    calibration = known_bad.calibration if known_bad is not None else None
    if calibration is not None and isinstance(longest, AutoTime):
        verdict = noted(
            verdict, _CHOSEN.format(settings["trial_time"], settings.source("trial_time"))
        )
    return replace(verdict, calibration=calibration, earlier=_earlier(settings, history))


def calibrate(
    bench: Bench, request: Request, settings: Settings, around: Surroundings, crashes: int
) -> Verdict:
    """Runs a known-bad kernel until it has crashed ``crashes`` times.

    The verdict's ``calibration`` is what was learned; None if it crashed too rarely. With
    ``--repro-trial-time auto`` its subject's ``trial_time`` is the length that was found best.
    """
    rule = CalibrationRule(crashes, settings["calibrate_trials"])
    longest = settings["trial_time"]
    if not isinstance(longest, AutoTime):
        return _calibrate(bench, request, settings, around, CalibrationGoal(rule, longest))
    if settings["boot"] != "cold":
        raise UsageError(
            f"{settings.source('trial_time')}: auto learns a length from boots of one trial each: "
            "--repro-boot cold. Or give the trial time in seconds."
        )
    choosing = CalibrationGoal(rule, float(longest), chooses=True)
    at_longest = settings.altered(trial_time=float(longest))
    first = _calibrate(bench, request, at_longest, around, choosing)
    chosen = choosing.choice.length.seconds if choosing.choice is not None else longest
    if chosen >= longest:
        if choosing.choice is None:
            return first
        return noted(first, _CHOSEN.format(float(longest), settings.source("trial_time")))
    at_chosen = settings.altered(trial_time=chosen)
    again = _calibrate(bench, request, at_chosen, around, CalibrationGoal(rule, chosen))
    return replace(again, advice=choosing.choice)


def _calibrate(
    bench: Bench,
    request: Request,
    settings: Settings,
    around: Surroundings,
    goal: CalibrationGoal,
) -> Verdict:
    mode = mode_for(settings, calibrated=True)
    settings = settings.altered(boot=mode.how)
    with ExitStack() as stack:
        experiment = bench.experiment(request, settings)
        machine = stack.enter_context(bench.machine(experiment, settings, around))
        parameters: dict[str, object] = {"calibration": vars(goal.rule)} | mode.parameters()
        if goal.chooses:
            parameters["chooses_trial_time"] = True
        writer, history = bench.evidence(request, settings, experiment, parameters)
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
            on_trial=calibration_teller(goal, subject, mode.sharing, around.observer),
            should_stop=around.should_stop,
            sharing=mode.sharing,
        )
        ending = loop.run()
        writer.end(ending.conclusion.value, ending.why)
    verdict = calibration_verdict(goal, ending, subject, design_of(settings), writer.path)
    advice = verdict.advice if mode.size == 1 else None  # on trials, not on boots of several
    verdict = replace(verdict, trials=tuple(loop.trials), advice=advice)
    verdict = replace(verdict, earlier=_earlier(settings, history))
    verdict = _if_unstarted(verdict, experiment, settings)
    return _with_boots(verdict, mode, settings, request)


def compare(
    bench: Bench, a: Request, b: Request, settings: Settings, around: Surroundings
) -> ComparisonVerdict:
    """Interleaved trials of two experiments until a difference shows or a budget is spent."""
    confidence = settings["confidence"]
    goal = ComparisonGoal(confidence)
    mode = mode_for(settings, calibrated=True)  # boots are compared with boots: none is assumed
    settings = settings.altered(boot=mode.how)
    with ExitStack() as stack:
        sides = [(side, bench.experiment(side, settings)) for side in (a, b)]
        machines = [
            stack.enter_context(bench.machine(experiment, settings, around))
            for _, experiment in sides
        ]
        arms = [
            _arm(name, machine, experiment, side)
            for name, machine, (side, experiment) in zip("ab", machines, sides, strict=True)
        ]
        parameters: dict[str, object] = {"compared_with": sides[1][1].digest}
        parameters |= {"confidence": confidence, **mode.parameters()}
        info = {"against": b.kernel.name}
        writer, history = bench.evidence(a, settings, sides[0][1], parameters, info)
        stack.callback(writer.close)
        loop = TrialLoop(
            arms,
            goal,
            budget=_budget(settings, machines[0], around.deadline),
            writer=writer,
            history=history,
            should_stop=around.should_stop,
            sharing=mode.sharing,
        )
        ending = loop.run()
        writer.end(ending.conclusion.value, ending.why)
    subjects = [subject_of(side, settings, experiment) for side, experiment in sides]
    verdict = goal.verdict(ending, subjects[0], subjects[1], writer.path)
    return replace(verdict, earlier=_earlier(settings, history))


def factorial(
    bench: Bench,
    stack: ExitStack,
    base: Request,
    settings: Settings,
    factors: Mapping[str, Sequence[FactorLevel]],
    goal: FactorsGoal,
    on_trial: Callable[[Progress], News | None],
) -> Ending:
    """Rounds over every combination of levels; ``goal`` holds the table at the end."""
    arms, machines = [], []
    for combination in itertools.product(*factors.values()):
        request, how = _combined(base, settings, combination)
        experiment = bench.experiment(request, how)
        machine = stack.enter_context(bench.qemu(experiment, how))
        machines.append((how["smp"], machine))
        arms.append(
            _arm("|".join(level.name for level in combination), machine, experiment, request)
        )
    parameters: dict[str, object] = {
        "factors": {name: [level.name for level in levels] for name, levels in factors.items()},
        "experiments": [arm.experiment for arm in arms],
        "confidence": settings["confidence"],
    }
    writer, history = bench.evidence(base, settings, bench.experiment(base, settings), parameters)
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
    ending = loop.run()
    writer.end(ending.conclusion.value, ending.why)
    return ending


def _if_unstarted(verdict: Verdict, experiment: Experiment, settings: Settings) -> Verdict:
    """Says more where no guest got to START: what was seen of it may tell little."""
    failed = verdict.conclusion is Conclusion.INFRASTRUCTURE
    if not failed or any(trial.started is not None for trial in verdict.trials):
        return verdict
    return replace(verdict, why=explained(verdict.why, experiment, settings))


def _earlier(settings: Settings, history: History) -> int | None:
    """How many trials ``--repro-resume`` brought."""
    return len(history.trials) if settings["resume"] else None


def _timed_like(known_bad: KnownBad | None, settings: Settings) -> Settings:
    """Trials as long as the known-bad kernel's: its rate is theirs only."""
    longest = settings["trial_time"]
    if not isinstance(longest, AutoTime):
        return settings
    if known_bad is not None:
        return settings.altered(trial_time=known_bad.trial_time)
    if settings["calibrate"] is not None:  # this is the known-bad kernel's own test
        return settings.altered(trial_time=float(longest))
    return settings


def _booted_like(known_bad: KnownBad | None, settings: Settings) -> Settings:
    """In boots of as many trials as the known-bad kernel's: its boots' rate is theirs only."""
    if known_bad is None:
        return settings
    return settings.altered(boot=known_bad.boot, batch=known_bad.batch)


def _with_boots(verdict: Verdict, mode: BootMode, settings: Settings, request: Request) -> Verdict:
    """Adds what its boots show, where trials shared them."""
    if mode.size == 1:
        return replace(verdict, note=mode.note)
    terms = mode.terms(design_of(settings))
    return replace(with_boots(verdict, terms, request.rules.vote), note=mode.note)


def _question(settings: Settings, known_bad: KnownBad | None, mode: BootMode) -> tuple[Design, str]:
    """The design, and where its minimum rate comes from."""
    asked = design_of(settings)
    if known_bad is None:
        return mode.design(asked), settings.source("min_rate")
    design = known_bad.calibration.design(
        asked.confidence_safe,
        asked.confidence_crash,
        noise=boot_noise(asked.noise, mode.size),
        reduction=settings["reduction"],
    )
    learned = known_bad.calibration
    name = known_bad.request.kernel.name
    if mode.size > 1:
        dead = f"{learned.crashes} dead of {counted(learned.trials, 'boots')}"
        return design, f"{name}: {dead} of up to {mode.size} trials"
    return design, f"{name}: {learned.crashes} crashes in {counted(learned.trials, 'trials')}"


def _control(
    bench: Bench,
    stack: ExitStack,
    known_bad: KnownBad | None,
    settings: Settings,
    around: Surroundings,
) -> Control | None:
    if known_bad is None or not settings["control_every"]:
        return None
    experiment = bench.experiment(known_bad.request, settings)
    machine = stack.enter_context(bench.machine(experiment, settings, around))
    arm = _arm("control", machine, experiment, known_bad.request)
    return Control(arm, known_bad.calibration, settings["control_every"])


def _calibration_parameters(known_bad: KnownBad | None, settings: Settings) -> dict[str, object]:
    if known_bad is None:
        return {}
    return {
        "calibrated_on": known_bad.kernel_sha256,
        "calibration": vars(known_bad.calibration),
        "control_every": settings["control_every"],
    }


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
