"""What evidence alone comes to: the verdicts that the runs said, in their words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.campaign.verdict import not_waited_for
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import UNFINISHED
from pytest_flaky_repro.machine.conversation import STOPPED
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.report.runs import runs_below
from pytest_flaky_repro.report.sections import overview, plots_of, section_of
from pytest_flaky_repro.report.timeline import Bar, bars_of, columns_of
from pytest_flaky_repro.stats import Design

if TYPE_CHECKING:
    from tests.report.conftest import Evidence

SURVIVALS = 11  # make it safe: 90%, 20%, noise 2%


@pytest.mark.parametrize(
    ("trials", "conclusion", "word"),
    [
        ("s" * SURVIVALS, Conclusion.SAFE, "SAFE (0/11, rate <= 19% at 90%)"),
        ("scssscss", Conclusion.CRASHES, "CRASHES (2/8)"),
        ("sss", Conclusion.INCONCLUSIVE, "INCONCLUSIVE (0/3)"),
        ("vvv", Conclusion.INFRASTRUCTURE, "INFRASTRUCTURE"),
        ("sssssssllls"[:10], Conclusion.INFRASTRUCTURE, "INFRASTRUCTURE"),
    ],
)
def test_a_campaign_s_verdict(
    evidence: Evidence, trials: str, conclusion: Conclusion, word: str
) -> None:
    evidence.add(trials)
    (finding,) = evidence.findings()
    assert finding.verdict.conclusion is conclusion
    assert finding.told.word == word


def test_lost_and_void_trials_are_no_survivals(evidence: Evidence) -> None:
    evidence.add("s" * (SURVIVALS - 1) + "lv")
    (finding,) = evidence.findings()
    assert finding.verdict.conclusion is Conclusion.INCONCLUSIVE
    assert (finding.verdict.lost, finding.verdict.void) == (1, 1)


@pytest.mark.parametrize("detail", [STOPPED, UNFINISHED])
def test_what_we_stopped_ourselves_is_not_the_harness_s_failure(
    evidence: Evidence, detail: str
) -> None:
    evidence.add("vvvvl" * 3, detail=detail)
    (finding,) = evidence.findings()
    assert (finding.verdict.lost, finding.verdict.void) == (0, 0)
    assert finding.verdict.conclusion is Conclusion.INCONCLUSIVE
    numbers = dict(section_of(finding).numbers)
    assert (numbers["lost after START"], numbers["never started"]) == ("0", "0")


def test_runs_of_one_plan_are_judged_together(evidence: Evidence) -> None:
    evidence.add("s" * 6)
    evidence.add("s" * 5)
    (finding,) = evidence.findings()
    assert finding.told.word == "SAFE (0/11, rate <= 19% at 90%)"
    assert "Judged from 2 runs" in finding.told.explanation[-1]


def test_kernels_have_verdicts_of_their_own(evidence: Evidence) -> None:
    evidence.add("s" * SURVIVALS, kernel="new")
    evidence.add("ccc", kernel="old")
    words = {f.verdict.subject.kernel: f.verdict.conclusion for f in evidence.findings()}
    assert words == {"new": Conclusion.SAFE, "old": Conclusion.CRASHES}


def test_survivals_without_the_control_s_word_are_not_safe(evidence: Evidence) -> None:
    """The calibration says that a known-bad kernel was to crash between them; none was run."""
    evidence.parameters = {"calibration": {"crashes": 10, "trials": 50}}
    evidence.add("s" * SURVIVALS)
    (finding,) = evidence.findings()
    assert finding.verdict.calibration is not None
    assert "No trials of the known-bad kernel were run" in " ".join(finding.told.explanation)


def test_trials_that_shared_a_boot_count_once(evidence: Evidence) -> None:
    """Eleven trials would be safe; they were six boots."""
    evidence.parameters = {"boot": "batch", "batch": 2, "counting": "first"}
    evidence.add("s" * SURVIVALS, boot=lambda ticket: f"boot {ticket // 2}")
    (finding,) = evidence.findings()
    assert finding.verdict.conclusion is Conclusion.INCONCLUSIVE
    assert finding.verdict.intact == 6
    assert dict(section_of(finding).numbers)["boots that ended"] == "6"


def shares(evidence: Evidence, counting: str = "first", **info: Any) -> None:
    """A batch of two trials a boot: eleven boots, 22 trials."""
    evidence.design = Design(0.2, 0.0, 0.9, 0.9)
    evidence.parameters = {"boot": "batch", "batch": 2, "counting": counting}
    evidence.info = {"min_rate_source": "default", **info}
    evidence.add("s" * 2 * SURVIVALS, boot=lambda ticket: f"boot {ticket // 2}")


def test_boots_are_spoken_of_as_the_run_spoke_of_them(evidence: Evidence) -> None:
    shares(evidence)
    (finding,) = evidence.findings()
    assert finding.told.word == "SAFE (0/11 boots, 22 trials, <= 19% of boots at 90%)"
    said = " ".join(finding.told.explanation)
    assert "If 20% (default) or more of the trials in a fresh boot crashed (with this " in said
    assert "each boot counts once." in said
    assert "11 boots (batch) took 22 trials, at most 2 each." in said
    numbers = dict(section_of(finding).numbers)
    assert numbers["crash rate"].endswith("% of boots or less at 90%")


def test_a_correlation_that_was_vouched_for_is_named_again(evidence: Evidence) -> None:
    asked = vars(Design(0.15, 0.0, 0.9, 0.9))
    shares(evidence, "whole", asked=asked, correlation=0.5)
    (finding,) = evidence.findings()
    assert "rate <= " in finding.told.word
    said = " ".join(finding.told.explanation)
    assert "If 15% or more of the trials crashed" in said
    assert "correlate by 0.5 at most" in said


def test_whole_boots_of_unknown_terms_are_spoken_of_as_boots(evidence: Evidence) -> None:
    """Evidence of before correlations were written down."""
    evidence.design = Design(0.2, 0.0, 0.9, 0.9)
    evidence.parameters = {"boot": "batch", "batch": 2, "counting": "whole"}
    evidence.add("s" * 2 * SURVIVALS, boot=lambda ticket: f"boot {ticket // 2}")
    (finding,) = evidence.findings()
    assert finding.told.word == "SAFE (0/11 boots, 22 trials, <= 19% of boots at 90%)"
    assert "of the boots of up to 2 trials showed a crash (with" in finding.told.explanation[0]


def test_a_boot_s_lower_bound_is_shared_out_among_its_trials(evidence: Evidence) -> None:
    evidence.design = Design(0.2, 0.0, 0.9, 0.9)
    evidence.add("c")
    evidence.parameters = {"boot": "batch", "batch": 4, "counting": "first"}
    evidence.add("c", kernel="other")
    cold, batch = (finding.verdict for finding in evidence.findings())
    assert batch.rate_lower == pytest.approx(cold.rate_lower / 4)
    assert batch.rate_upper == cold.rate_upper


def test_kinds_of_crash_are_shares_of_what_was_counted(evidence: Evidence) -> None:
    evidence.parameters = {"boot": "batch", "batch": 2, "counting": "first"}
    evidence.add("sc", boot=lambda _: "boot")
    (finding,) = evidence.findings()
    ((_, rate),) = section_of(finding).kinds
    assert " of boots at " in rate


def test_only_the_first_trial_of_a_boot_tells_how_long_it_took(evidence: Evidence) -> None:
    evidence.parameters = {"boot": "batch", "batch": 4, "counting": "first"}
    evidence.add("s" * 12, boot=lambda ticket: f"boot {ticket // 4}", shared=4)
    (finding,) = evidence.findings()
    assert dict(section_of(finding).numbers)["a boot took"].startswith("1.5 s (median)")


def test_controls_that_shared_a_boot_count_once(evidence: Evidence) -> None:
    """The known-bad kernel's boots crash half the time, its trials far less often."""
    evidence.parameters = {
        "boot": "batch",
        "batch": 4,
        "counting": "whole",
        "calibrated_on": "ab",
        "calibration": {"crashes": 10, "trials": 20},
    }
    evidence.add("sssc" * 6, arms=("control",), boot=lambda ticket: f"boot {ticket // 4}", shared=4)
    (finding,) = evidence.findings()
    control = finding.verdict.control
    assert control is not None
    assert (control.crashes, control.trials) == (6, 6)


def test_what_never_makes_safe_is_said_to(evidence: Evidence) -> None:
    evidence.design = Design(0.2, 0.0, 0.9, 0.9)
    evidence.parameters = {"boot": "batch", "batch": 2, "counting": "first"}
    evidence.add("sc", boot=lambda _: "boot")
    (finding,) = evidence.findings()
    table = section_of(finding).plots[0].table
    assert table.head == ("crashes", "safe from boot", "crashes up to boot")
    assert table.rows[:2] == (("0", "11", ""), ("1", "never", "any"))


def test_a_picture_of_rates_names_what_each_is_a_rate_of(evidence: Evidence) -> None:
    evidence.add("s" * SURVIVALS)
    shares(evidence)
    rates = overview(evidence.findings())
    assert rates is not None
    assert "crash rate of a trial or a boot" in rates.drawing
    assert [row[2] for row in rates.table.rows] == ["trials", "boots"]
    assert [row[0] for row in rates.table.rows] == ["test_it[k]", "test_it[k] (batch)"]


def test_a_run_that_died_with_its_plan_is_no_run(evidence: Evidence) -> None:
    evidence.add("s" * SURVIVALS)
    (evidence.folder / "trials-torn.jsonl").write_text('{"schema": 1, "type": "pl')
    with pytest.warns(UserWarning, match="not a whole record"):
        assert len(evidence.findings()) == 1


def test_a_folder_without_evidence_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"below {tmp_path}"):
        runs_below([tmp_path])


def test_a_console_s_name_cannot_lead_out_of_the_folder(evidence: Evidence) -> None:
    file = evidence.add("c", console=b"x")
    (run,) = runs_below([evidence.folder])
    from dataclasses import replace

    strange = replace(run.trials[0], console="../../../etc/passwd")
    assert run.console(strange) == file.parent / "passwd"


# ---- what ended it


BUDGET = ("inconclusive", "the budget of 3 trials is spent (--repro-max-trials)")


@pytest.mark.parametrize(
    ("trials", "end", "why"),
    [
        ("sss", BUDGET, BUDGET[1]),
        ("sss", None, "the trials on record end here"),
        ("vss", ("infrastructure", "no console"), "no console"),
        ("s" * SURVIVALS, BUDGET, "the safe line was reached"),  # the trials' word comes first
    ],
)
def test_a_report_says_what_ended_the_run(
    evidence: Evidence, trials: str, end: tuple[str, str] | None, why: str
) -> None:
    evidence.add(trials, end=end)
    (finding,) = evidence.findings()
    assert finding.told.why == why


def test_runs_that_all_spent_their_budgets_say_so_together(evidence: Evidence) -> None:
    evidence.add("sss", end=BUDGET)
    evidence.add("sss", end=BUDGET)
    (finding,) = evidence.findings()
    assert finding.told.why == BUDGET[1]
    evidence.add("s")
    (finding,) = evidence.findings()
    assert finding.told.why == "the trials on record end here"


# ---- comparisons and factors


def test_a_comparison_is_told_as_the_run_told_it(evidence: Evidence) -> None:
    evidence.parameters = {"compared_with": "cd", "confidence": 0.9}
    evidence.info = {"against": "new"}
    evidence.add("cs" * 20, kernel="old", arms="ab", check=False)
    (finding,) = evidence.findings()
    assert finding.told.conclusion == "comparison"
    assert finding.told.word == "old CRASHES MORE THAN new (20 and 0 of 20 each)"
    assert finding.told.explanation[0].startswith("old: rate between ")
    assert finding.counts == ("20 and 0", "20 pairs")
    numbers = dict(section_of(finding).numbers)
    assert numbers["crash rate of old"].endswith("to 100% at 90%")
    assert numbers["crash rate of new"].startswith("0% to ")
    rates = overview([finding])
    assert rates is not None
    names = [(row[0], row[3]) for row in rates.table.rows]
    assert names == [("test_it[k] [old]: old", "100%"), ("test_it[k] [old]: new", "0%")]


def test_a_comparison_of_which_too_little_is_known_shows_none(evidence: Evidence) -> None:
    """Also evidence of before the second kernel's name was written down."""
    evidence.parameters = {"compared_with": "cd", "confidence": 0.9}
    evidence.add("ss", kernel="old", arms="ab", check=False, end=BUDGET)
    (finding,) = evidence.findings()
    assert finding.told.word == "NO DIFFERENCE SHOWN (0 and 0 of 1 each)"
    assert finding.told.why == BUDGET[1]
    assert finding.told.explanation[1].startswith("the other: rate between ")


def test_a_factor_is_no_setting_of_the_guest(evidence: Evidence) -> None:
    evidence.parameters = {"factors": {"smp": ["1", "2"], "MODE": ["x", "y"]}, "confidence": 0.9}
    evidence.info = {"command": "flaky-repro factors --smp 1,2 --env MODE=x,y"}
    evidence.add("sssc", item="factors of ./r", arms=("1|x", "1|y", "2|x", "2|y"), check=False)
    (finding,) = evidence.findings()
    again = dict(section_of(finding).again)
    assert again["command"] == "flaky-repro factors --smp 1,2 --env MODE=x,y"
    assert again["guest"].startswith("1 or 2 CPUs (a factor), 256 MiB")
    rates = overview([finding])
    assert rates is not None
    assert [row[3] for row in rates.table.rows] == ["0%", "0%", "0%", "100%"]


def test_factors_that_wrote_no_command_down_get_one(evidence: Evidence) -> None:
    evidence.parameters = {"factors": {"smp": ["1", "2"], "MODE": ["x", "y"]}, "confidence": 0.9}
    evidence.info = {"command": "", "reproducer_path": "/r"}
    evidence.add("ss", arms=("1|x", "1|y"), check=False)
    (finding,) = evidence.findings()
    assert dict(section_of(finding).again)["command"] == (
        "flaky-repro factors --reproducer=/r --kernel=k=/boot/k --smp=1,2 --env=MODE=x,y"
    )


def test_campaigns_of_one_name_are_told_apart(evidence: Evidence) -> None:
    evidence.add("s" * SURVIVALS)
    evidence.add("s" * SURVIVALS, kernel="b", item="test_it.py::test_other[b]")
    evidence.design = Design(0.3, 0.02, 0.9, 0.9)
    evidence.add("s" * SURVIVALS)
    rates = overview(evidence.findings())
    assert rates is not None
    assert [row[0] for row in rates.table.rows] == [
        "test_it[k] #1",
        "test_other[b]",
        "test_it[k] #3",
    ]


def test_hosts_that_differ_are_named(evidence: Evidence) -> None:
    evidence.design = Design(0.2, 0.1, 0.99, 0.99)
    evidence.add("cs" * 40, host=lambda ticket: "odd" if ticket % 2 else "even")
    (finding,) = evidence.findings()
    split = next(s for s in section_of(finding).splits if s.name == "host")
    assert "differ" in split.said
    assert {row[0] for row in split.rows} == {"odd (tcg)", "even (tcg)"}


def test_a_report_tells_how_to_repeat_a_campaign(evidence: Evidence) -> None:
    evidence.add("s" * SURVIVALS)
    (finding,) = evidence.findings()
    again = dict(section_of(finding).again)
    assert again["command"] == "pytest 'test_it.py::test_it[k]'"
    assert again["kernel sha256"] == "ab" * 32
    assert again["plan hash"] == finding.plan_hash


# ---- the time line


def bar(begin: float, end: float, vote: Vote = Vote.SURVIVAL) -> Bar:
    return Bar(1, begin, end, 0, vote, control=False)


def test_trials_that_overlap_have_lanes_of_their_own(evidence: Evidence) -> None:
    evidence.add("sss")
    (run,) = runs_below([evidence.folder])
    from dataclasses import replace

    timed = replace(run, launched={0: 0.0, 1: 1.0, 2: 5.0}, ended={0: 4.0, 1: 6.0, 2: 7.0})
    bars = bars_of([(timed, [Vote.SURVIVAL] * 3)])
    assert [(b.begin, b.end, b.lane) for b in bars] == [(0, 4, 0), (1, 6, 1), (5, 7, 0)]


def test_columns_count_every_trial_once() -> None:
    bars = [bar(i, i + 1, Vote.CRASH if i % 3 else Vote.LOST) for i in range(100)]
    columns = columns_of(bars, 7)
    assert sum(sum(column.counts.values()) for column in columns) == 100
    assert columns[-1].end == pytest.approx(100)


@pytest.mark.parametrize(("status", "left"), [("exit 0", "85.7%"), ("time over", "0.0%")])
def test_a_reproducer_that_came_to_its_end_will_never_crash(
    evidence: Evidence, status: str, left: str
) -> None:
    """Six came to an end sooner than the seventh crashed: each was safe from then on, or unseen."""
    evidence.add("ssssssc", status=status)
    (finding,) = evidence.findings()
    (curve,) = [plot for plot in plots_of(finding)[0] if plot.title == "Time to crash"]
    (step,) = curve.table.rows
    assert left in step


def test_what_a_crash_left_out_is_what_was_stopped_before_it(evidence: Evidence) -> None:
    evidence.add("vscvs")
    trials = [trial for _, trial, _ in evidence.findings()[0].trials]
    stopped = {0, 3}
    cut = [replace(t, detail=STOPPED) if t.ticket in stopped else t for t in trials]
    assert not_waited_for(cut) == 2
    assert not_waited_for(cut[:4]) == 1
    assert not_waited_for(trials) == 0
