"""What a report tells of each test and kernel: a verdict, and all that it rests on.

From evidence alone, by the rules of :mod:`campaign.combination`: runs of one plan are one sequence
of trials. A pytest run knows more (why it ended, what a comparison said), and says it by
``Told``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_flaky_repro.campaign.combination import (
    boot_terms,
    judge_in_order,
    judged_boots,
    rules_of,
    sharing_of,
)
from pytest_flaky_repro.campaign.comparison import ComparisonGoal, ComparisonVerdict
from pytest_flaky_repro.campaign.rules import OtherCrash, Rules
from pytest_flaky_repro.campaign.trials import Ending
from pytest_flaky_repro.campaign.verdict import (
    Subject,
    Verdict,
    count_kinds,
    crashed_by,
    not_waited_for,
    wasted,
    with_boots,
)
from pytest_flaky_repro.campaign.waste import is_too_much
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.question import solved
from pytest_flaky_repro.report import boots, sentences
from pytest_flaky_repro.report.runs import Run
from pytest_flaky_repro.settings import DEFAULT_MIN_RATE
from pytest_flaky_repro.stats import Decision, Design, Plan, Tally, bounds
from pytest_flaky_repro.stats.agreement import pool
from pytest_flaky_repro.stats.calibration import Calibration
from pytest_flaky_repro.stats.control import ControlCheck, ControlState, check_control


@dataclass(frozen=True)
class Told:
    """What a pytest run said of one campaign."""

    conclusion: str
    word: str
    why: str
    explanation: tuple[str, ...]

    @classmethod
    def of(cls, summary: Mapping[str, Any]) -> Told:
        return cls(
            summary["conclusion"], summary["word"], summary["why"], tuple(summary["explanation"])
        )


@dataclass(frozen=True)
class ArmCount:
    """The trials of one of a campaign's experiments."""

    name: str
    tally: Tally
    void: int


@dataclass(frozen=True)
class Finding:
    """One campaign in the report. ``plan`` is None where no two lines decided.

    ``judged`` are the votes in the order in which the lines read them; ``votes`` those of each run.
    """

    verdict: Verdict
    told: Told
    plan: Plan | None
    runs: tuple[Run, ...]
    votes: tuple[tuple[Vote, ...], ...]
    judged: tuple[Vote, ...]
    arms: tuple[ArmCount, ...]
    comparison: ComparisonVerdict | None = None

    @property
    def trials(self) -> list[tuple[Run, Trial, Vote]]:
        """Every trial of every run."""
        return [
            (run, trial, vote)
            for run, votes in zip(self.runs, self.votes, strict=True)
            for trial, vote in zip(run.trials, votes, strict=True)
        ]

    @property
    def unit(self) -> str:
        """What the lines read: trials, or the boots that trials shared."""
        return self.verdict.unit

    @property
    def kernels(self) -> str:
        seen = self.comparison
        both = f"{seen.a.kernel} and {seen.b.kernel}" if seen is not None else ""
        return both or self.verdict.subject.kernel

    @property
    def counts(self) -> tuple[str, str]:
        """How many crashed, and of how many."""
        seen, verdict = self.comparison, self.verdict
        if seen is not None:
            return f"{seen.crashes_a} and {seen.crashes_b}", sentences.counted(seen.pairs, "pairs")
        return f"{verdict.crashes}", sentences.counted(verdict.intact, self.unit)

    @property
    def mode(self) -> str:
        """How trials got their guests, to tell campaigns of one test apart: `` (batch)``."""
        shared = self.verdict.shared
        return f" ({shared.how})" if shared is not None else ""

    @property
    def plan_hash(self) -> str:
        return str(self.runs[-1].plan["hash"])


def findings_of(runs: Sequence[Run], told: Mapping[Path, Told] | None = None) -> list[Finding]:
    """One for each plan, in the order of the runs; ``told`` maps an evidence file to its words."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(str(run.plan["hash"]), []).append(run)
    return [_finding(group, told or {}) for group in groups.values()]


def _finding(group: Sequence[Run], told: Mapping[Path, Told]) -> Finding:
    newest = group[-1]
    parameters = newest.parameters
    rules = rules_of(parameters)
    votes = tuple(tuple(rules.vote(trial) for trial in run.trials) for run in group)
    decides = "lines" in parameters
    judged = _judged(group, rules, "test" if decides or "calibration" in parameters else None)
    plan = solved(_design(parameters)) if decides else None
    verdict = _verdict(group, votes, judged, plan, rules)
    comparison = _comparison(group, verdict, rules) if "compared_with" in parameters else None
    said = told.get(newest.file)
    if said is None or len(group) > 1:
        said = _told(verdict, group) if comparison is None else _told_of_two(comparison)
    else:
        verdict = replace(verdict, conclusion=_conclusion_told(said, verdict), why=said.why)
    arms = _arms(group, votes)
    return Finding(verdict, said, plan, tuple(group), votes, judged, arms, comparison)


def _conclusion_told(said: Told, verdict: Verdict) -> Conclusion:
    known = {conclusion.value: conclusion for conclusion in Conclusion}
    return known.get(said.conclusion, verdict.conclusion)


def _judged(group: Sequence[Run], rules: Rules, arm: str | None) -> tuple[Vote, ...]:
    sharing = sharing_of(group[-1].parameters)
    logs = {
        str(run.file): [vote for _, vote in judged_boots(run.trials, rules, sharing, arm)]
        for run in group
    }
    return tuple(pool(logs))


def _design(parameters: Mapping[str, Any]) -> Design:
    return Design(
        parameters["min_rate"],
        parameters["noise"],
        parameters["confidence_safe"],
        parameters["confidence_crash"],
    )


def _verdict(
    group: Sequence[Run],
    votes: Sequence[Sequence[Vote]],
    judged: Sequence[Vote],
    plan: Plan | None,
    rules: Rules,
) -> Verdict:
    newest = group[-1]
    design = plan.design if plan is not None else Design(DEFAULT_MIN_RATE)
    pairs = [
        (trial, vote)
        for run, each in zip(group, votes, strict=True)
        for trial, vote in zip(run.trials, each, strict=True)
    ]
    own = [pair for pair in pairs if plan is None or pair[0].arm == "test"]
    lost, void = wasted([trial for trial, _ in own], [vote for _, vote in own])
    tally, decision = Tally.of(judged), Decision.CONTINUE
    if plan is not None:
        tally, decision = judge_in_order(plan, judged)
    unexpected = _unexpected(own, rules)
    crashed = [trial for trial, vote in own if vote is Vote.CRASH]
    calibration, control = _control(group, rules, decides=plan is not None)
    ended = _Ended.of(group)
    failed = ended.failed or _why_infrastructure(own, lost, void)
    conclusion, why = _conclusion(failed, decision, unexpected, crashed, control)
    if conclusion is Conclusion.INCONCLUSIVE and not why:
        why = ended.undecided or "the trials on record end here"
    if unexpected is not None or conclusion is not Conclusion.SAFE:
        tally = Tally.of(judged)
    info = newest.plan.get("info", {})
    unknown = sum(not_waited_for([t for t in run.trials if t.arm == "test"]) for run in group)
    verdict = Verdict(
        conclusion=conclusion,
        why=why,
        subject=_subject(newest),
        design=design,
        min_rate_source=str(info.get("min_rate_source", "")),
        tally=tally,
        void=void,
        lost=lost,
        rate_lower=bounds.rate_bounds(tally, design.confidence_crash, unknown).lower,
        rate_upper=bounds.rate_bounds(tally, design.confidence_safe, unknown).upper,
        still_needed=bounds.clean_trials_needed(plan, tally) if plan is not None else None,
        kinds=count_kinds([trial for trial, _ in own], [vote for _, vote in own]),
        first_crash=crashed[0] if crashed else None,
        evidence=newest.file,
        trials=tuple(trial for trial, _ in pairs),
        control=control,
        calibration=calibration,
        unknown=unknown,
    )
    terms = boot_terms(newest.parameters, info, design)
    return verdict if terms is None else with_boots(verdict, terms, rules.vote)


@dataclass(frozen=True)
class _Ended:
    """What the runs wrote of their ends, where that is what their trials together come to."""

    failed: str = ""
    undecided: str = ""

    @classmethod
    def of(cls, group: Sequence[Run]) -> _Ended:
        ends = {(run.end.get("conclusion"), run.end.get("why", "")) for run in group}
        said = "; ".join(sorted(why for _, why in ends))
        if {word for word, _ in ends} == {Conclusion.INCONCLUSIVE.value}:
            return cls(undecided=said)
        alone = len(group) == 1 and {word for word, _ in ends} == {Conclusion.INFRASTRUCTURE.value}
        return cls(failed=said) if alone else cls()


def _unexpected(own: Sequence[tuple[Trial, Vote]], rules: Rules) -> Trial | None:
    """A crash of another kind than asked for, where such a one ends the campaign."""
    if rules.other is not OtherCrash.FAIL:
        return None
    crashed = (trial for trial, _ in own if trial.outcome is Outcome.CRASHED)
    return next((trial for trial in crashed if not rules.is_expected(trial)), None)


def _control(
    group: Sequence[Run], rules: Rules, *, decides: bool
) -> tuple[Calibration | None, ControlCheck | None]:
    """The known-bad kernel's calibration, and how it did between the trials."""
    parameters = group[-1].parameters
    if not decides or "calibration" not in parameters:
        return None, None
    calibration, sharing = Calibration(**parameters["calibration"]), sharing_of(parameters)
    logs = [judged_boots(run.trials, rules, sharing, arm="control") for run in group]
    votes = [vote for boots in logs for _, vote in boots]
    return calibration, check_control(calibration, Tally.of(votes)) if votes else None


def _conclusion(
    failed: str | None,
    decision: Decision,
    unexpected: Trial | None,
    crashed: Sequence[Trial],
    control: ControlCheck | None,
) -> tuple[Conclusion, str]:
    """As the campaign would end here, in the order in which it looks; why, if it is known."""
    if unexpected is not None:
        return Conclusion.CRASHES, f"trial {unexpected.number}: {unexpected.title} (not expected)"
    if decision is Decision.CRASHES:
        return Conclusion.CRASHES, crashed_by(crashed[0], len(crashed))
    if decision is Decision.SAFE:
        if control is None or control.state is ControlState.CONFIRMED:
            return Conclusion.SAFE, "the safe line was reached"
        seen = f"{control.crashes} of {control.trials} control trials"
        return Conclusion.INCONCLUSIVE, f"the known-bad kernel crashed in only {seen}"
    if failed is not None:
        return Conclusion.INFRASTRUCTURE, failed
    return Conclusion.INCONCLUSIVE, ""


def _why_infrastructure(own: Sequence[tuple[Trial, Vote]], lost: int, void: int) -> str | None:
    """Why the trials taught too little, if they did."""
    if void and void == len(own):
        return f"no guest ever got to START: {own[-1][0].detail}"
    if is_too_much(void + lost, len(own)):
        return (
            f"{void} never started and {lost} were lost, of {sentences.counted(len(own), 'trials')}"
        )
    return None


def _subject(run: Run) -> Subject:
    parameters, info = run.parameters, run.plan.get("info", {})
    return Subject(
        item=str(run.plan["item"]),
        kernel=str(run.plan["kernel"]),
        kernel_sha256=str(parameters.get("kernel_sha256", "")),
        kernel_path=str(info.get("kernel_path", "")),
        reproducer=str(info.get("reproducer_path", "")),
        experiment=str(run.plan["experiment"]),
        trial_time=float(parameters.get("trial_time", 0.0)),
        smp=int(parameters.get("smp", 1)),
    )


def _told(verdict: Verdict, group: Sequence[Run]) -> Told:
    """The words, where no run is at hand that said them."""
    parameters = group[-1].parameters
    if "lines" in parameters:
        lines = tuple(sentences.explanation(verdict))
        if len(group) > 1:
            lines += (f"Judged from {len(group)} runs of the same plan, laid end to end.",)
        return Told(verdict.conclusion.value, sentences.word(verdict), verdict.why, lines)
    kind = "factors" if "factors" in parameters else "calibration"
    sure = sentences.confidence(verdict.design.confidence_safe)
    counts = f"{verdict.crashes}/{verdict.intact}"
    if verdict.shared is not None:
        counts = f"{verdict.crashes}/{boots.counted_boots(verdict.tally, verdict.shared)}"
    word = f"{kind.upper()} ({counts})"
    least, most = sentences.rate_bounds_said(verdict)
    rate = f"Crash rate: {least}, {most}, each at {sure}."
    return Told(kind, word, "", (rate,) if kind == "calibration" else ())


def _comparison(group: Sequence[Run], verdict: Verdict, rules: Rules) -> ComparisonVerdict:
    """What the pairs on record show; those of several runs are laid end to end."""
    newest = group[-1]
    goal = ComparisonGoal(newest.parameters["confidence"])
    for run in group:
        for trial, vote in judged_boots(run.trials, rules, sharing_of(run.parameters), arm=None):
            goal.feed(0 if trial.arm == "a" else 1, trial, vote)
    other = replace(
        verdict.subject, kernel=str(newest.plan.get("info", {}).get("against", "the other"))
    )
    why = str(newest.end.get("why", "")) if len(group) == 1 else ""
    ending = goal.reached() or Ending(verdict.conclusion, why or "the trials on record end here")
    return goal.verdict(ending, verdict.subject, other, newest.file)


def _told_of_two(comparison: ComparisonVerdict) -> Told:
    word = sentences.comparison_word(comparison)
    return Told(
        "comparison", word, comparison.why, tuple(sentences.comparison_explanation(comparison))
    )


def _arms(group: Sequence[Run], votes: Sequence[Sequence[Vote]]) -> tuple[ArmCount, ...]:
    by_arm: dict[str, list[Vote]] = {}
    for run, each in zip(group, votes, strict=True):
        for trial, vote in zip(run.trials, each, strict=True):
            by_arm.setdefault(trial.arm, []).append(vote)
    return tuple(
        ArmCount(name, Tally.of(each), each.count(Vote.VOID))
        for name, each in sorted(by_arm.items())
    )
