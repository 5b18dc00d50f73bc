"""A verdict as pytest sees it: outcome, letter, word, short report, JUnit properties."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.campaign.verdict import CampaignError
from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.report import boots, sentences
from pytest_flaky_repro.session import COMPARISONS, VERDICTS, settings_of

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.comparison import ComparisonVerdict
    from pytest_flaky_repro.campaign.verdict import Verdict
    from pytest_flaky_repro.stats.clusters import Correlation

TAKES_COLOUR = hasattr(pytest.TestReport, "_get_verbose_word_with_markup")


def amend(report: pytest.TestReport, item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """Makes a test's report tell its verdict.

    A failed harness is an error, not a failed test: nothing was found out about the kernel. JUnit
    and the terminal call errors what fails outside the ``call`` phase, so it is booked there.
    """
    error = call.excinfo.value if call.excinfo is not None else None
    if report.when == "call":
        _tell_verdicts(report, item, error)
    if not report.failed:
        return
    if isinstance(error, CampaignError):
        report.longrepr = short_report(error, item)
    elif isinstance(error, (InfrastructureError, UsageError)):
        report.longrepr = str(error)
    if isinstance(error, InfrastructureError):
        _note(report, repro_word="INFRASTRUCTURE")
    if isinstance(error, (InfrastructureError, UsageError)) and report.when == "call":
        report.when = "setup"


def _tell_verdicts(
    report: pytest.TestReport, item: pytest.Item, error: BaseException | None
) -> None:
    verdicts = item.stash.get(VERDICTS, [])
    compared = [comparison_summary(c) for c in item.stash.get(COMPARISONS, [])]
    if compared:
        _note(report, repro_summary=compared)
    if not verdicts:
        return
    deciding = error.verdict if isinstance(error, CampaignError) else verdicts[-1]
    # JUnit takes them from the teardown's report, which is made from the item's
    item.user_properties += list(properties(deciding).items())
    report.user_properties = list(item.user_properties)
    summaries = [summary(verdict) | {"deciding": verdict is deciding} for verdict in verdicts]
    _note(report, repro_summary=compared + summaries)
    if item.config.getoption("htmlpath", None):
        from pytest_flaky_repro.report.rows import plots_for_pytest_html

        extras = [*getattr(report, "extras", []), *plots_for_pytest_html(verdicts)]
        _note(report, extras=extras)
    # the word has to be about what decided the test: not, say, an assertion after the verdict
    is_told = report.passed if error is None else isinstance(error, CampaignError)
    if is_told and not hasattr(report, "wasxfail"):
        _note(report, repro_word=sentences.word(deciding))


def _note(report: pytest.TestReport, **facts: Any) -> None:
    """Adds attributes of ours, which xdist carries to the controller: plain data only."""
    vars(report).update(facts)


def properties(verdict: Verdict) -> dict[str, str]:
    """JUnit properties of a test case."""
    shared = verdict.shared
    trials = verdict.intact if shared is None else shared.trials.trials_low
    of_boots = (
        {}
        if shared is None
        else {
            "repro.boot": f"{shared.how} {shared.size}",
            "repro.boots": str(verdict.intact),
            **_correlation(shared.correlation),
            "repro.correlation_upper": f"{shared.correlation.upper:.3g}",
        }
    )
    return {
        "repro.verdict": verdict.conclusion.value,
        "repro.trials": str(trials),
        "repro.unit": verdict.unit,  # of the crashes, and of the upper bound on their rate
        "repro.crashes": str(verdict.crashes),
        "repro.infrastructure": str(verdict.void + verdict.lost),
        "repro.confidence": f"{verdict.design.confidence_safe:g}",
        "repro.rate_upper": f"{_rate_upper(verdict):.6g}",
        "repro.rate_lower": f"{verdict.rate_lower:.6g}",
        "repro.kernel_sha256": verdict.subject.kernel_sha256,
        "repro.evidence": str(verdict.evidence),
        **of_boots,
    }


def _correlation(seen: Correlation) -> dict[str, str]:
    """The estimate, once there is anything to estimate it from."""
    return {"repro.correlation": f"{seen.estimate:.3g}"} if boots.is_known(seen) else {}


def _rate_upper(verdict: Verdict) -> float:
    """The bound that the verdict's own words give."""
    is_safe = verdict.conclusion is Conclusion.SAFE
    return sentences.safe_bound(verdict) if is_safe else verdict.rate_upper


def comparison_summary(verdict: ComparisonVerdict) -> dict[str, Any]:
    """The same for a comparison of two kernels."""
    return {
        "item": f"{verdict.a.item}",
        "conclusion": "comparison",
        "word": sentences.comparison_word(verdict),
        "explanation": sentences.comparison_explanation(verdict),
        "why": sentences.printable(verdict.why),
        "kinds": [],
        "evidence": str(verdict.evidence),
        "deciding": False,
    }


def summary(verdict: Verdict) -> dict[str, Any]:
    """What the terminal's summary prints of a verdict; plain data, since xdist carries it."""
    return {
        "item": verdict.subject.item,
        "conclusion": verdict.conclusion.value,
        "word": sentences.word(verdict),
        "explanation": sentences.explanation(verdict),
        "why": sentences.printable(verdict.why),
        "kinds": [
            {"title": sentences.printable(k.title), "count": k.count, "first": k.first + 1,
             "expected": k.expected, "rate": sentences.kind_rate(verdict, k)}
            for k in verdict.kinds
        ],
        "evidence": str(verdict.evidence),
        "kernel": verdict.subject.kernel,
        "trials": verdict.intact,
        "crashes": verdict.crashes,
        "void": verdict.void,
        "lost": verdict.lost,
        "rate_lower": verdict.rate_lower,
        "rate_upper": _rate_upper(verdict),
        "confidence": verdict.design.confidence_safe,
        "needed": verdict.still_needed,
    }  # fmt: skip


def short_report(error: CampaignError, item: pytest.Item) -> str:
    """The failure as text: verdict, the crash's console, the command that runs it again."""
    verdict = error.verdict
    lines = [str(error), ""]
    tail = _crash_console(verdict)
    if tail:
        lines += ["console of the trial (its end):", *(f"    {line}" for line in tail), ""]
    whose = "known-bad kernel: " if verdict.calibrates else "kernel:   "
    lines += [
        f"{whose}{verdict.subject.kernel_path} (sha256 {verdict.subject.kernel_sha256[:16]})",
        f"evidence: {verdict.evidence}",
        f"again:    {sentences.again(item.nodeid, settings_of(item))}",
    ]
    return "\n".join(lines)


def _crash_console(verdict: Verdict) -> list[str]:
    trial = verdict.first_crash
    if trial is None and verdict.conclusion is Conclusion.INFRASTRUCTURE and verdict.trials:
        trial = verdict.trials[-1]
    if trial is None or trial.console is None:
        return []
    try:
        console = (verdict.evidence.parent / trial.console).read_bytes()
    except OSError as error:
        return [f"(the console file {trial.console} cannot be read: {error.strerror})"]
    return sentences.console_tail(console)


def status(report: pytest.TestReport | pytest.CollectReport) -> tuple[str, str, Any] | None:
    """Category, letter and word of a report that has a verdict."""
    word = getattr(report, "repro_word", None)
    if word is None:
        return None
    undecided = word.startswith("INCONCLUSIVE")
    # pytest's summary takes a colour since 8.1, and breaks on one before; else its own is right
    shown = (word, {"yellow": True}) if undecided and TAKES_COLOUR else word
    if report.passed:
        return ("passed", "?" if undecided else ".", shown)
    if report.failed and report.when == "call":
        return ("failed", "?" if undecided else "F", shown)
    if report.failed:
        return ("error", "E", shown)
    return None
