"""From a finding to what its section of the page shows: words, numbers, plots, excerpts."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_flaky_repro.campaign.rules import TIME_OVER
from pytest_flaky_repro.campaign.verdict import KindCount, Verdict
from pytest_flaky_repro.evidence import Trial
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.report import plots, sentences
from pytest_flaky_repro.report.consoles import Excerpt, excerpt
from pytest_flaky_repro.report.findings import Finding
from pytest_flaky_repro.report.runs import Run
from pytest_flaky_repro.report.timeline import bars_of
from pytest_flaky_repro.stats import Tally, kaplan_meier
from pytest_flaky_repro.stats.agreement import Agreed, halves, hosts_agree
from pytest_flaky_repro.stats.bounds import RateBounds, rate_bounds

KINDS_MOST, EXAMPLES_MOST, ROWS_MOST = 12, 6, 20

MARKS = {"safe": "✔", "crashes": "✖", "inconclusive": "?", "infrastructure": "⚠"}
AGREEMENT = {
    Agreed.AGREE: "crash rates agree",
    Agreed.DOUBTFUL: "crash rates may differ: look before you trust the pooled verdict",
    Agreed.DISAGREE: "crash rates differ: the pooled verdict does not hold for each",
}


@dataclass(frozen=True)
class Example:
    """A trial's console, and which trial it was. ``excerpt`` may be why there is none."""

    title: str
    trial: Trial
    file: str
    excerpt: Excerpt | str


@dataclass(frozen=True)
class Split:
    """The trials by host, by boot or by half of the campaign, and whether they agree."""

    name: str
    rows: tuple[tuple[str, ...], ...]
    said: str


@dataclass(frozen=True)
class Section:
    """All that the page shows of one campaign."""

    finding: Finding
    numbers: tuple[tuple[str, str], ...]
    kinds: tuple[tuple[KindCount, str], ...]
    kinds_left_out: int
    examples: tuple[Example, ...]
    plots: tuple[plots.Plot, ...]
    no_plot: tuple[str, ...]  # what there is nothing to draw of, in words
    splits: tuple[Split, ...]
    again: tuple[tuple[str, str], ...]

    @property
    def mark(self) -> str:
        return MARKS.get(self.finding.told.conclusion, "•")


def section_of(finding: Finding) -> Section:
    """Reads consoles and draws plots."""
    verdict = finding.verdict
    kinds = verdict.kinds[:KINDS_MOST]
    drawn, missing = plots_of(finding)
    return Section(
        finding=finding,
        numbers=tuple(_numbers(finding)),
        kinds=tuple((kind, sentences.kind_rate(verdict, kind)) for kind in kinds),
        kinds_left_out=len(verdict.kinds) - len(kinds),
        examples=tuple(_examples(finding)),
        plots=tuple(drawn),
        no_plot=tuple(missing),
        splits=tuple(_splits(finding)),
        again=tuple(_again(finding.runs[-1])),
    )


def _numbers(finding: Finding) -> list[tuple[str, str]]:
    verdict, design = finding.verdict, finding.verdict.design
    lines = [
        (f"{finding.unit} that ended", f"{verdict.intact:,}"),
        ("of them crashed", f"{verdict.crashes:,}"),
        ("lost after START", f"{verdict.lost:,}"),
        ("never started", f"{verdict.void:,}"),
        *_rate_lines(finding),
    ]
    if finding.plan is not None:
        lines.append(("smallest rate that must not be missed", sentences.percent(design.min_rate)))
        lines.append(("rate of crashes not the kernel's fault", sentences.percent(design.noise)))
        sure, crash = map(sentences.confidence, (design.confidence_safe, design.confidence_crash))
        lines.append(("confidence", f"{sure} (safe), {crash} (crashes)"))
    if finding.told.conclusion == "inconclusive" and verdict.still_needed is not None:
        lines.append((f"surviving {finding.unit} still needed", f"{verdict.still_needed:,}"))
    lines += [
        (f"trials of {arm.name!r}", f"{arm.tally.crashes} crashed of {arm.tally.trials_low}")
        for arm in finding.arms
        if len(finding.arms) > 1
    ]
    times = [t.boot_s for _, t, _ in finding.trials if t.started and t.place == 1]
    if times:
        boot = sorted(times)[len(times) // 2]
        lines.append(("a boot took", f"{boot:.3g} s (median), {max(times):.3g} s at most"))
    return lines


def _rate_lines(finding: Finding) -> list[tuple[str, str]]:
    """The crash rate, of each kernel where two were compared."""
    seen = finding.comparison
    if seen is None:
        return [("crash rate", _bounds(finding.verdict))]
    sure = sentences.confidence(seen.confidence)
    return [
        (
            f"crash rate of {side.kernel}",
            f"{sentences.downwards(rate.lower)} to {sentences.upwards(rate.upper)} at {sure}",
        )
        for side, rate in ((seen.a, seen.rate_a), (seen.b, seen.rate_b))
    ]


def _bounds(verdict: Verdict) -> str:
    """Both bounds of the crash rate; each holds at its own confidence."""
    least, most = sentences.rate_bounds_said(verdict)
    crash, safe = verdict.design.confidence_crash, verdict.design.confidence_safe
    most += f" at {sentences.confidence(safe)}"
    if verdict.rate_lower == 0:
        return most
    return f"{least} at {sentences.confidence(crash)}, {most}"


# ---- plots


def plots_of(finding: Finding) -> tuple[list[plots.Plot], list[str]]:
    """What can be drawn of a campaign, and what cannot, in words."""
    drawn, missing = [], []
    if finding.plan is not None:
        drawn.append(plots.path(finding.plan, finding.judged, finding.told.word, finding.unit))
    started = [(t, vote) for _, t, vote in finding.trials if t.started and t.arm != "control"]
    crashed = [trial.exposure_s for trial, vote in started if vote is Vote.CRASH]
    others = [trial for trial, vote in started if vote is not Vote.CRASH]
    if crashed:
        end = max([finding.verdict.subject.trial_time, *(t.exposure_s for t, _ in started)])
        watched = [_watched_s(trial, end) for trial in others]
        drawn.append(plots.survival(kaplan_meier(crashed, watched)))
    elif others:
        longest = max(trial.exposure_s for trial in others)
        missing.append(
            f"Time to crash: no trial crashed; {sentences.counted(len(others), 'trials')} ran for "
            f"up to {longest:.3g} s"
        )
    bars = bars_of(list(zip(finding.runs, finding.votes, strict=True)))
    if bars:
        drawn.append(plots.timeline(bars))
    return drawn, missing


def _watched_s(trial: Trial, end: float) -> float:
    """Until when it was seen not to crash: for ever, if it came to its end without."""
    came_to_its_end = trial.outcome is Outcome.SURVIVED and trial.status != TIME_OVER
    return end if came_to_its_end else trial.exposure_s


def overview(findings: Sequence[Finding], most: int = 40) -> plots.Plot | None:
    """All campaigns' crash rates; None where no trial ended."""
    rated = [finding for finding in findings if finding.verdict.intact][:most]
    if not rated:
        return None
    looks = {
        "safe": ("safe", "o"),
        "crashes": ("crash", "X"),
        "inconclusive": ("lost", "D"),
        "infrastructure": ("void", "s"),
    }
    rows = []
    for finding, mark in zip(findings, marks_of(findings), strict=True):
        colour, shape = looks.get(finding.told.conclusion, ("accent", "P"))
        for which, seen, bounds in _rates(finding) if finding in rated else ():
            name = sentences.printable(f"{short_name(finding)}{which}{mark}")
            word, unit = finding.told.word, finding.unit
            rows.append(plots.RateRow(name, word, colour, shape, seen, bounds, unit))
    rates = sorted({f.verdict.design.min_rate for f in rated if f.plan is not None})
    note = "Each bound holds at the campaign's confidence, whenever it stopped."
    if len(rates) == 1:
        note += f" Dashed: the smallest rate that must not be missed ({100 * rates[0]:.3g}%)."
    left_out = len(findings) - len(rated)
    if left_out:
        campaigns = sentences.counted(left_out, "campaigns")
        note += f" In the table only, for want of room or of trials: {campaigns}."
    return plots.rates(rows, rates if len(rates) == 1 else [], note)


def marks_of(findings: Sequence[Finding]) -> list[str]:
    """`` #3`` for a campaign, the third, whose short name alone tells it from no other one."""
    names = [plots.shortened(short_name(finding), plots.LABEL) for finding in findings]
    often = Counter(names)
    return [f" #{n}" if often[name] > 1 else "" for n, name in enumerate(names, 1)]


def _rates(finding: Finding) -> list[tuple[str, float | None, RateBounds]]:
    """Which rate, the share that crashed, its interval: one of each kernel or level compared."""
    seen, verdict = finding.comparison, finding.verdict
    sure = verdict.design.confidence_safe
    if seen is not None:
        sides = ((seen.a, seen.crashes_a, seen.rate_a), (seen.b, seen.crashes_b, seen.rate_b))
        return [
            (f": {side.kernel}", crashes / seen.pairs if seen.pairs else None, bounds)
            for side, crashes, bounds in sides
        ]
    if "factors" in finding.runs[-1].parameters:
        return [
            (f": {arm.name}", _share(arm.tally), rate_bounds(arm.tally, sure))
            for arm in finding.arms
        ]
    return [("", _share(verdict.tally), rate_bounds(verdict.tally, sure))]


def _share(tally: Tally) -> float | None:
    return tally.crashes / tally.trials_low if tally.trials_low else None


def short_name(finding: Finding) -> str:
    """The test without its folder; its kernel where the name does not end in it."""
    subject = finding.verdict.subject
    name = subject.item.rpartition("/")[2].replace(".py::", "::").partition("::")
    test = name[2] or name[0]
    named = test if subject.kernel in test else f"{test} [{subject.kernel}]"
    return f"{named}{finding.mode}"


# ---- consoles


def _examples(finding: Finding) -> list[Example]:
    """The first trial of each kind of crash; of a faulty harness, the last trial it spoilt."""
    wanted: dict[str, tuple[Run, Trial]] = {}
    for run, trial, vote in finding.trials:
        if vote is Vote.CRASH or trial.outcome in (Outcome.CRASHED, Outcome.HUNG):
            wanted.setdefault(trial.title or trial.outcome.value, (run, trial))
    if finding.verdict.conclusion is Conclusion.INFRASTRUCTURE:
        for run, trial, vote in reversed(finding.trials):
            if vote in (Vote.VOID, Vote.LOST):
                wanted.setdefault(trial.detail or trial.outcome.value, (run, trial))
                break
    examples = []
    for title, (run, trial) in list(wanted.items())[:EXAMPLES_MOST]:
        path = run.console(trial)
        shown: Excerpt | str = "no console was kept of this trial"
        if path is not None:
            shown = excerpt(path, title)
        examples.append(Example(title, trial, str(path or run.file), shown))
    return examples


# ---- agreement


def _splits(finding: Finding) -> list[Split]:
    own = [(t, v) for _, t, v in finding.trials if t.arm in ("test", "a", "b")]
    if not own:
        return []
    splits = [_hosts(own)]
    boots = _tallies([(trial.boot, vote) for trial, vote in own if trial.boot])
    clusters = {name: tally for name, tally in boots.items() if tally.trials_high > 1}
    if clusters:
        worst = sorted(clusters.items(), key=lambda each: -each[1].crashes)[:ROWS_MOST]
        said = AGREEMENT[hosts_agree(boots).verdict]
        splits.append(Split("boot", tuple(_row(*each) for each in worst), f"{len(boots)}: {said}"))
    else:
        splits.append(
            Split("boot", (), f"{sentences.counted(len(boots), 'boots')}, each of one trial")
        )
    parts = halves([vote for _, vote in own])
    said = AGREEMENT[hosts_agree(parts).verdict]
    splits.append(Split("half of the trials", tuple(_row(*p) for p in parts.items()), said))
    return splits


def _hosts(own: Sequence[tuple[Trial, Vote]]) -> Split:
    accel = {trial.host: trial.accel for trial, _ in own if trial.accel}
    hosts = _tallies([(trial.host, vote) for trial, vote in own])
    said = AGREEMENT[hosts_agree(hosts).verdict] if len(hosts) > 1 else "one host"
    rows = [
        _row(f"{name} ({accel[name]})" if name in accel else name, t) for name, t in hosts.items()
    ]
    return Split("host", tuple(rows[:ROWS_MOST]), said)


def _tallies(votes: Sequence[tuple[str, Vote]]) -> dict[str, Tally]:
    tallies: dict[str, Tally] = {}
    for name, vote in votes:
        tallies[name] = tallies.get(name, Tally()).add(vote)
    return tallies


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    return name, f"{tally.trials_low}", f"{tally.crashes}", f"{tally.lost}"


# ---- how to do it again


def _again(run: Run) -> list[tuple[str, str]]:
    plan, info = run.plan, run.plan.get("info", {})
    known = [
        ("command", info.get("command") or _command(run)),
        ("kernel", info.get("kernel_path")),
        ("kernel version", info.get("kernel_banner")),
        ("kernel sha256", run.parameters.get("kernel_sha256")),
        ("reproducer", info.get("reproducer_path")),
        ("reproducer digest", run.parameters.get("reproducer")),
        ("initramfs digest", run.parameters.get("initramfs")),
        ("experiment", plan.get("experiment")),
        ("plan hash", plan.get("hash")),
        ("guest", _guest(run.parameters)),
        ("run on", f"{plan.get('host')}, {plan.get('created')}, Python {info.get('python')}"),
        ("evidence", str(run.file)),
    ]
    return [(name, str(value)) for name, value in known if value]


def _command(run: Run) -> str:
    """For evidence of a version that did not write its command down: the main words of it."""
    info, item = run.plan.get("info", {}), str(run.plan["item"])
    if "factors" in run.parameters:
        return _factors_command(run)
    words = ["pytest", item] if "::" in item else ["pytest"]
    kernel = info.get("kernel_path")
    words += [f"--kernel={run.plan['kernel']}={kernel}"] if kernel else []
    if "::" not in item and info.get("reproducer_path"):
        words.append(f"--reproducer={info['reproducer_path']}")
    return shlex.join(words)


def _factors_command(run: Run) -> str:
    info, factors = run.plan.get("info", {}), run.parameters["factors"]
    words = ["flaky-repro", "factors", f"--reproducer={info.get('reproducer_path')}"]
    kernel, names = info.get("kernel_path"), factors.get("kernel", [run.plan["kernel"]])
    words += [f"--kernel={name}={kernel if n == 0 else 'PATH'}" for n, name in enumerate(names)]
    for name, levels in factors.items():
        if name == "smp":
            words.append(f"--smp={','.join(levels)}")
        elif name == "append":
            words += [f"--append={level}" for level in levels[1:]]
        elif name != "kernel":
            words.append(f"--env={name}={','.join(levels)}")
    return shlex.join(words)


def _guest(parameters: Any) -> str:
    said = []
    factors = parameters.get("factors", {})
    if "smp" in factors:
        said.append(f"{' or '.join(factors['smp'])} CPUs (a factor)")
    elif "smp" in parameters:
        said.append(sentences.counted(parameters["smp"], "CPUs"))
    if "memory_mib" in parameters:
        said.append(f"{parameters['memory_mib']} MiB")
    if "machine" in parameters:
        said.append(str(parameters["machine"]))
    if parameters.get("trial_time"):
        said.append(f"trials of up to {parameters['trial_time']:g} s")
    if parameters.get("append"):
        said.append(f"command line: {parameters['append']}")
    return ", ".join(said)
