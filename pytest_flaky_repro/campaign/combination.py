"""Evidence of one experiment from many jobs: pooled, judged once, hosts compared.

Counts that each job stopped on its own crash are no fixed sample, so they are never put into an
interval for one. What is judged is the jobs' trials, laid end to end in an order that no outcome
can change (stats/agreement.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_flaky_repro import crash
from pytest_flaky_repro.campaign.boots import Counting, Sharing, boots_of, judge_boot
from pytest_flaky_repro.campaign.rules import HungTrial, OtherCrash, Rules
from pytest_flaky_repro.campaign.verdict import (
    BootTerms,
    SharedBoots,
    not_waited_for,
    shared_boots,
    wasted,
)
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import Trial, files_below, replayed, without_copies
from pytest_flaky_repro.journal import read_records
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.stats import Decision, Design, Plan, Tally, bounds, plan_for
from pytest_flaky_repro.stats.agreement import Agreement, hosts_agree, pool
from pytest_flaky_repro.stats.calibration import Calibration
from pytest_flaky_repro.stats.clusters import Basis, least_trial_rate
from pytest_flaky_repro.stats.control import ControlCheck, ControlState, check_control
from pytest_flaky_repro.stats.family import FamilyRule, e_bh, member_design


@dataclass(frozen=True)
class Job:
    """One job's trials (a file and those it continues), and what it set out to do."""

    name: str
    plan_hash: str
    item: str
    kernel: str
    parameters: Mapping[str, Any]
    trials: tuple[Trial, ...]
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Combined:
    """The verdict on one experiment, from all its jobs.

    With ``shared`` boots, tally, design and upper bound are of boots, as those of a verdict are.
    """

    item: str
    items: tuple[str, ...]  # all tests that asked this question; one may have many names
    kernel: str
    plan_hash: str
    conclusion: Conclusion
    design: Design
    tally: Tally
    lost: int
    void: int
    jobs: int
    agreement: Agreement | None
    rate_lower: float
    rate_upper: float
    still_needed: int | None
    control: ControlCheck | None = None  # where the plan asks for one
    shared: SharedBoots | None = None
    min_rate_source: str = ""

    @property
    def unit(self) -> str:
        """What the tally counts."""
        return "trials" if self.shared is None else "boots"


def read_jobs(folders: Sequence[Path]) -> list[Job]:
    """Every campaign's evidence below the folders; a file that another continues is part of it."""
    files = sorted({file for folder in folders for file in files_below(folder)})
    if not files:
        names = ", ".join(str(folder) for folder in folders)
        raise UsageError(f"no evidence (trials-*.jsonl) was found below {names}")
    records = without_copies({file: list(read_records(file)) for file in files})
    heads = {file: r[0] for file, r in records.items() if r}
    continued = {file.parent / name for file, head in heads.items() for name in head["continues"]}
    return [
        _job(file, head, records)
        for file, head in heads.items()
        if file not in continued and "lines" in head["parameters"]
    ]


def _job(file: Path, head: Mapping[str, Any], records: Mapping[Path, list[dict[str, Any]]]) -> Job:
    chain = [file.parent / name for name in head["continues"]]
    missing = [part for part in chain if part not in records]
    if missing:
        raise UsageError(f"{file} continues {missing[0].name}, which is not there")
    trials = replayed([records[part] for part in (*chain, file)], head["experiment"])
    return Job(
        str(file),
        head["hash"],
        head["item"],
        head["kernel"],
        head["parameters"],
        tuple(trials),
        head.get("info", {}),
    )


def combine(jobs: Sequence[Job], family: FamilyRule) -> list[Combined]:
    """One verdict for each experiment; ``family`` says how errors are shared among them."""
    groups: dict[str, list[Job]] = {}
    for job in jobs:
        groups.setdefault(job.plan_hash, []).append(job)
    verdicts = [_judge(group, len(groups), family) for group in groups.values()]
    return _e_bh(verdicts) if family is FamilyRule.EBH else verdicts


def _judge(group: Sequence[Job], members: int, family: FamilyRule) -> Combined:
    first = group[0]
    rules = rules_of(first.parameters)
    asked = Design(
        first.parameters["min_rate"],
        first.parameters["noise"],
        first.parameters["confidence_safe"],
        first.parameters["confidence_crash"],
    )
    design = member_design(asked, members, family)
    plan = plan_for(design)
    sharing = sharing_of(first.parameters)
    logs = {job.name: judged_boots(job.trials, rules, sharing) for job in group}
    tally, decision = judge_in_order(plan, pool({n: _votes(boots) for n, boots in logs.items()}))
    hosts = _by_host([boot for boots in logs.values() for boot in boots])
    trials = [trial for job in group for trial in _own(job)]
    lost, void = wasted(trials, [rules.vote(trial) for trial in trials])
    nothing_ran = tally.trials_high == 0 and void > 0
    conclusion = Conclusion.INFRASTRUCTURE if nothing_ran else _CONCLUSIONS[decision]
    control = _control(group, rules, sharing)
    unknown = sum(not_waited_for(_own(job)) for job in group)
    lower = bounds.rate_bounds(tally, design.confidence_crash, unknown).lower
    terms = boot_terms(first.parameters, first.info, asked)
    return Combined(
        item=first.item,
        items=tuple(dict.fromkeys(job.item for job in group)),
        kernel=first.kernel,
        plan_hash=first.plan_hash,
        conclusion=_unless_refused(conclusion, control),
        design=design,
        tally=tally,
        lost=lost,
        void=void,
        jobs=len(group),
        agreement=hosts_agree(hosts) if len(hosts) > 1 else None,
        rate_lower=least_trial_rate(lower, sharing.size),
        rate_upper=bounds.rate_bounds(tally, design.confidence_safe, unknown).upper,
        still_needed=bounds.clean_trials_needed(plan, tally),
        control=control,
        shared=shared_boots(trials, terms, rules.vote) if terms is not None else None,
        min_rate_source=str(first.info.get("min_rate_source", "")),
    )


def _own(job: Job) -> list[Trial]:
    return [trial for trial in job.trials if trial.arm == "test"]


def _control(group: Sequence[Job], rules: Rules, sharing: Sharing) -> ControlCheck | None:
    """What all jobs' control trials say together; None for a plan without controls."""
    parameters = group[0].parameters
    if "calibrated_on" not in parameters or parameters.get("control_every") == 0:
        return None
    logs = [judged_boots(job.trials, rules, sharing, arm="control") for job in group]
    calibration = Calibration(**parameters["calibration"])
    return check_control(calibration, Tally.of(vote for boots in logs for _, vote in boots))


def _unless_refused(conclusion: Conclusion, control: ControlCheck | None) -> Conclusion:
    """*Safe* is said only where the known-bad kernel was seen to crash."""
    confirmed = control is None or control.state is ControlState.CONFIRMED
    if conclusion is Conclusion.SAFE and not confirmed:
        return Conclusion.INCONCLUSIVE
    return conclusion


_CONCLUSIONS = {
    Decision.CRASHES: Conclusion.CRASHES,
    Decision.SAFE: Conclusion.SAFE,
    Decision.CONTINUE: Conclusion.INCONCLUSIVE,
}


def judge_in_order(plan: Plan, votes: Sequence[Vote]) -> tuple[Tally, Decision]:
    """The first crossing of a line, or where the votes end.

    Without noise any crash decides: it is proof, wherever in the order it stands.
    """
    if plan.design.noise == 0.0 and Vote.CRASH in votes:
        return Tally.of(votes), Decision.CRASHES
    judged = plan.judge(votes)
    return judged.tally, judged.decision


def judged_boots(
    trials: Sequence[Trial], rules: Rules, sharing: Sharing, arm: str | None = "test"
) -> list[tuple[Trial, Vote]]:
    """Boots in launch order: the trial that decided each, and its vote. None: of every arm."""
    return [
        judge_boot(boot, [rules.vote(trial) for trial in boot], sharing)
        for boot in boots_of([t for t in trials if arm in (None, t.arm)], sharing)
    ]


def _votes(boots: Sequence[tuple[Trial, Vote]]) -> list[Vote]:
    return [vote for _, vote in boots]


def _by_host(boots: Sequence[tuple[Trial, Vote]]) -> dict[str, Tally]:
    hosts: dict[str, Tally] = {}
    for trial, vote in boots:
        hosts[trial.host] = hosts.get(trial.host, Tally(0, 0, 0)).add(vote)
    return hosts


def sharing_of(parameters: Mapping[str, Any]) -> Sharing:
    """How a plan's trials shared boots; cold boots say nothing of it."""
    if "counting" not in parameters:
        return Sharing()
    return Sharing(parameters["batch"], Counting(parameters["counting"]))


def boot_terms(
    parameters: Mapping[str, Any], info: Mapping[str, Any], design: Design
) -> BootTerms | None:
    """How boots count, as a plan line records it; None for cold boots.

    ``design`` is the plan's. Of what trials were asked, where boots hide it, earlier versions wrote
    nothing down: then boots are spoken of.
    """
    sharing = sharing_of(parameters)
    if sharing.size == 1:
        return None
    how = str(parameters["boot"])
    if sharing.counting is Counting.FIRST:
        return BootTerms(how, sharing, Basis.BOOTS, design)
    if "asked" not in info:
        return BootTerms(how, sharing, Basis.CALIBRATED, design)
    return BootTerms(how, sharing, Basis.BOUNDED, Design(**info["asked"]), info["correlation"])


def rules_of(parameters: Mapping[str, Any]) -> Rules:
    """The rules that a plan line records (the inverse of ``Rules.parameters``)."""
    pattern, classes = parameters["crash"], parameters["crash_classes"]
    return Rules(
        expected=crash.Signature.parse(pattern) if pattern is not None else None,
        other=OtherCrash(parameters["other"]),
        hung=HungTrial(parameters["hung"]),
        ok_exit=frozenset(parameters["ok_exit"]),
        classes=None if classes is None else frozenset(map(crash.CrashClass, classes)),
    )


def _e_bh(verdicts: Sequence[Combined]) -> list[Combined]:
    """Calls by e-BH, on e-values in place where each experiment stopped."""
    from dataclasses import replace

    values = [bounds.e_values(v.design, v.tally) for v in verdicts]
    error_safe = min((v.design.error_safe for v in verdicts), default=0.05)
    error_crash = min((v.design.error_crash for v in verdicts), default=0.05)
    safe = e_bh([value.log_against_min_rate for value in values], error_safe)
    crashes = e_bh([value.log_against_noise for value in values], error_crash)
    called = []
    for index, verdict in enumerate(verdicts):
        conclusion = verdict.conclusion
        if conclusion is not Conclusion.INFRASTRUCTURE:
            conclusion = Conclusion.INCONCLUSIVE
        if index in crashes:
            conclusion = Conclusion.CRASHES
        elif index in safe:
            conclusion = _unless_refused(Conclusion.SAFE, verdict.control)
        called.append(replace(verdict, conclusion=conclusion))
    return called
