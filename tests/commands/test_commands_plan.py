"""``flaky-repro plan``: the numbers are those of the statistics, and never rounded to a lie."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.stats import Design, plan_for

KEYS = {
    *("confidence", "min_rate", "noise", "safe_after", "safe_after_seconds"),
    *("seconds_per_trial", "jobs", "max_trials", "plan_hash", "rates", "budget_buys"),
    *("fixed_trials", "fixed_most_crashes"),
}


def foretold(command: Callable[..., Any], *words: str) -> dict[str, Any]:
    ran = command("plan", "--json", *words)
    assert (ran.status, ran.err) == (0, "")
    report: dict[str, Any] = json.loads(ran.out)
    return report


def test_without_options_it_is_the_plan_of_the_defaults(command: Callable[..., Any]) -> None:
    report = foretold(command)
    assert report.keys() == KEYS
    assert (report["confidence"], report["min_rate"], report["noise"]) == (0.95, 0.05, 0.0)
    assert report["safe_after"] == 59  # ceil(ln 0.05 / ln 0.95)


@pytest.mark.parametrize(
    ("sure", "rate", "noise"),
    [("0.99", "0.01", "0"), ("0.9", "0.3", "0.001"), ("0.5", "0.999", "0.5")],
)
def test_the_numbers_are_those_of_the_statistics(
    command: Callable[..., Any], sure: str, rate: str, noise: str
) -> None:
    words = ("--confidence", sure, "--min-rate", rate, "--noise", noise)
    report = foretold(command, *words)
    plan = plan_for(Design(float(rate), float(noise), float(sure), float(sure)))
    assert report["safe_after"] == plan.safe_at(0)
    assert report["plan_hash"] == plan.digest()
    for row in report["rates"]:
        point = plan.operating_characteristic(row["rate"])
        assert row["p_safe"] == pytest.approx(point.p_safe)
        assert row["p_crash"] == pytest.approx(point.p_crash)
        assert row["expected_trials"] == pytest.approx(point.expected_trials)


def test_the_table_holds_the_rates_that_were_asked_about(command: Callable[..., Any]) -> None:
    report = foretold(command, "--min-rate", "0.1", "--noise", "0.003")
    assert {0.0, 0.003, 0.1} <= {row["rate"] for row in report["rates"]}


def test_a_bad_kernel_and_a_noisy_one_are_misjudged_no_more_often_than_asked(
    command: Callable[..., Any],
) -> None:
    rows = foretold(command, "--confidence", "0.9", "--min-rate", "0.1", "--noise", "0.01")["rates"]
    at = {row["rate"]: row for row in rows}
    assert at[0.1]["p_safe"] <= 0.1
    assert at[0.01]["p_crash"] <= 0.1


def test_a_budget_leaves_some_campaigns_without_an_answer(command: Callable[..., Any]) -> None:
    rows = foretold(command, "--max-trials", "20")["rates"]
    assert all(row["p_safe"] == 0 for row in rows)
    assert all(row["expected_trials"] <= 20 for row in rows)
    for row in rows:
        assert row["p_safe"] + row["p_crash"] + row["p_inconclusive"] == pytest.approx(1)


def test_guests_at_once_share_the_time(command: Callable[..., Any]) -> None:
    words = ("--boot-seconds", "1", "--trial-time", "4")
    alone, together = foretold(command, *words), foretold(command, *words, "--jobs", "8")
    assert alone["safe_after_seconds"] == 59 * 5
    assert together["safe_after_seconds"] == 8 * 5  # eight batches, the last not full
    assert alone["seconds_per_trial"] == together["seconds_per_trial"] == 5


def test_a_budget_buys_a_minimum_rate_and_a_confidence(command: Callable[..., Any]) -> None:
    buys = foretold(command, "--max-trials", "200")["budget_buys"]
    assert buys["min_rate"] == pytest.approx(1 - 0.05 ** (1 / 200))
    assert buys["confidence"] == pytest.approx(1 - 0.95**200)


def test_what_a_budget_buys_with_noise_is_called_safe_in_time(command: Callable[..., Any]) -> None:
    report = foretold(command, "--noise", "0.001", "--max-trials", "200")
    buys = report["budget_buys"]
    designs = [
        Design(buys["min_rate"], 0.001),
        Design(0.05, 0.001, buys["confidence"], buys["confidence"]),
    ]
    for design, chance in zip(designs, buys["chance_of_safe"], strict=True):
        point = plan_for(design).operating_characteristic(0.001, 200)
        assert point.p_safe == pytest.approx(chance)
        assert chance >= 0.9


def test_what_is_shown_as_bought_is_no_more_than_was_bought(command: Callable[..., Any]) -> None:
    words = ("--noise", "0.001", "--max-trials", "200")
    buys = foretold(command, *words)["budget_buys"]
    said = command("plan", *words).out
    rate = re.search(r"a minimum rate of ([0-9.]+)%$", said, re.MULTILINE)
    sure = re.search(r"a confidence of ([0-9.]+)%$", said, re.MULTILINE)
    assert rate is not None
    assert sure is not None
    assert float(rate[1]) / 100 >= buys["min_rate"]
    assert float(sure[1]) / 100 <= buys["confidence"]


@pytest.mark.parametrize("trials", ["1000", "1000000"])
def test_no_budget_buys_certainty(command: Callable[..., Any], trials: str) -> None:
    said = command("plan", "--max-trials", trials).out
    assert "a confidence of 99.99" in said
    assert "a confidence of 100%" not in said
    assert "a minimum rate of 0%" not in said


def test_the_text_says_when_safe_comes_and_what_it_costs(command: Callable[..., Any]) -> None:
    said = command("plan", "--confidence", "0.999", "--min-rate", "0.01").out
    assert said.startswith("confidence 99.9%, minimum rate 1.0%, noise 0%\n")
    assert "safe after 688 trials without a crash: 2.3 h with 1 guest at once" in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--confidence", bad) for bad in ("1", "0.4", "nan", "x", "95%")),
        *(("--min-rate", bad) for bad in ("0", "1", "-0.1", "nan", "x")),
        *(("--noise", bad) for bad in ("1", "-0.1", "nan", "x")),
        *(("--boot-seconds", bad) for bad in ("0", "-1", "inf", "nan", "x", "1e308")),
        *(("--trial-time", bad) for bad in ("0", "-1", "inf", "nan", "10s")),
        *(("--jobs", bad) for bad in ("0", "-1", "1.5", "auto")),
        *(("--max-trials", bad) for bad in ("0", "-1", "1e3", "")),
    ],
)
def test_a_bad_value_is_named_with_its_option(
    command: Callable[..., Any], option: str, value: str
) -> None:
    ran = command("plan", f"{option}={value}")
    assert (ran.status, ran.out) == (2, "")
    assert f"flaky-repro plan: {option} {value}: expected " in ran.err


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (("--noise", "0.05"), "below min_rate (0.05), got 0.05"),
        (("--noise", "0.049"), "too close to min_rate"),
        (("--confidence", "0.9999999999"), "up to 1 - 1e-09"),
    ],
)
def test_a_question_that_no_campaign_answers_is_refused(
    command: Callable[..., Any], words: tuple[str, str], seen: str
) -> None:
    ran = command("plan", *words)
    assert ran.status == 2
    assert words[0] in ran.err
    assert seen in ran.err


@pytest.mark.parametrize(
    "words",
    [("--min-rate", "1e-300"), ("--max-trials", "9" * 25), ("--boot-seconds", "1e9")],
    ids=["a tiny rate", "a huge budget", "a boot of thirty years"],
)
def test_json_holds_numbers_only(command: Callable[..., Any], words: tuple[str, str]) -> None:
    """RFC 8259 knows neither Infinity nor NaN."""
    ran = command("plan", "--json", *words)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    json.loads(ran.out, parse_constant=refuse)


def test_a_test_of_fixed_length_is_put_beside_it(command: Callable[..., Any]) -> None:
    words = ("--noise", "0.01", "--min-rate", "0.05", "--confidence", "0.95")
    report = foretold(command, *words)
    at = {row["rate"]: row for row in report["rates"]}
    assert at[0.05]["p_safe_fixed"] <= 0.05
    assert 1 - at[0.01]["p_safe_fixed"] <= 0.05
    assert all(row["expected_trials"] < report["fixed_trials"] for row in report["rates"])
    said = command("plan", *words).out
    assert f"a test of fixed length: {report['fixed_trials']} trials always, safe with" in said


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf"])
@pytest.mark.parametrize("words", [(), ("--noise", "0.001", "--max-trials", "50")])
def test_a_picture_is_drawn(
    command: Callable[..., Any], tmp_path: Path, suffix: str, words: tuple[str, ...]
) -> None:
    ran = command("plan", "--picture", f"plan.{suffix}", *words)
    assert ran.status == 0
    begin = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[suffix]
    assert (tmp_path / f"plan.{suffix}").read_bytes().startswith(begin)


def test_a_picture_names_what_it_shows(command: Callable[..., Any], tmp_path: Path) -> None:
    command("plan", "--picture", "plan.svg", "--max-trials", "50")
    drawn = (tmp_path / "plan.svg").read_text()
    for name in ("safe", "crashes", "inconclusive", "safe, fixed length", "fixed length"):
        assert f">{name}</text>" in drawn
    assert "chance to be said" in drawn
    assert "true crash rate of a trial" in drawn


def test_a_picture_of_an_unknown_kind_is_bad_input(command: Callable[..., Any]) -> None:
    ran = command("plan", "--picture", "plan.gif")
    assert (ran.status, ran.out) == (2, "")
    assert "expected a name that ends in .svg, .png, .pdf" in ran.err


def test_the_folders_of_a_picture_are_made(command: Callable[..., Any], tmp_path: Path) -> None:
    """As those of a report are."""
    assert command("plan", "--picture", "new/folder/plan.svg").status == 0
    assert (tmp_path / "new/folder/plan.svg").is_file()
    ran = command("plan", "--picture", "/proc/new/plan.svg")
    assert (ran.status, ran.out) == (2, "")
    assert "--picture /proc/new/plan.svg: /proc cannot be written to" in ran.err


@pytest.mark.parametrize(
    ("rate", "shown"), [("0.0125", "1.25%"), ("0.125", "12.5%"), ("1e-7", "0.00001%")]
)
def test_a_rate_is_shown_as_it_was_asked_about(
    command: Callable[..., Any], rate: str, shown: str
) -> None:
    said = command("plan", "--min-rate", rate).out
    assert f"minimum rate {shown}, " in said
    assert f"\n{shown:>8}  " in said
    assert "e-" not in said


@pytest.mark.parametrize("jobs", ["1", "3", "8"])
def test_the_table_and_the_lines_above_it_tell_one_time(
    command: Callable[..., Any], jobs: str
) -> None:
    report = foretold(command, "--confidence", "0.99", "--min-rate", "0.01", "--jobs", jobs)
    (healthy,) = (row for row in report["rates"] if row["rate"] == 0)
    assert healthy["expected_trials"] == report["safe_after"] == 459
    assert healthy["expected_seconds"] == report["safe_after_seconds"]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [("1", "59 s"), ("130", "2.1 h"), ("9000", "6.1 days"), ("1e8", "187 years")],
)
def test_long_times_are_told_in_days_and_years(
    command: Callable[..., Any], seconds: str, shown: str
) -> None:
    words = ("--boot-seconds", "0.001", "--trial-time", seconds)
    assert f"59 trials without a crash: {shown} with" in command("plan", *words).out
