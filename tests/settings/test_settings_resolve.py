"""Where a setting's value comes from, and what a bad one is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.settings import (
    BY_NAME,
    FOLDER_VARIABLES,
    OPTIONS,
    Option,
    Settings,
    Sources,
    resolve,
    unknown_variables,
)

PLACES = ("marker", "command_line", "environment", "ini")


def sources(option: Option, values: dict[str, str]) -> Sources:
    """``values`` maps places to raw text."""
    return Sources(
        marker={option.name: values["marker"]} if "marker" in values else {},
        command_line={option.name: values.get("command_line")},
        environment={option.variable: values["environment"]} if "environment" in values else {},
        ini={option.name: values.get("ini", "")},
        where="test_x.py::test_x",
    )


def only(option: Option, text: Any, place: str = "command_line") -> Settings:
    return resolve(sources(option, {place: text}))


@given(st.sets(st.sampled_from(PLACES)))
def test_the_strongest_place_that_says_something_wins(said: set[str]) -> None:
    option = BY_NAME["memory"]
    values = {place: str(100 + i) for i, place in enumerate(PLACES) if place in said}
    expected = min((int(text) for text in values.values()), default=256)
    assert resolve(sources(option, values))["memory"] == expected


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("marker", "@pytest.mark.repro(smp=) on test_x.py::test_x"),
        ("command_line", "--repro-smp"),
        ("environment", "environment variable PYTEST_REPRO_SMP"),
        ("ini", "ini option repro_smp"),
    ],
)
def test_a_setting_knows_its_source(place: str, name: str) -> None:
    assert only(BY_NAME["smp"], "2", place).source("smp") == name


def test_what_nobody_sets_is_the_default() -> None:
    settings = resolve(Sources({}, {}, {}, {}))
    assert {settings.source(option.name) for option in OPTIONS} == {"default"}
    assert settings["confidence"] == 0.95
    assert settings["evidence"] == ".repro"
    assert settings["noise"] == 0.0


BAD = {
    "confidence": ["0.49", "1", "1.1", "nan", "high", "95%"],
    "confidence_safe": ["1"],
    "confidence_crash": ["1"],
    "min_rate": ["0", "1", "-0.1", "nan", "5%"],
    "noise": ["-0.1", "1", "nan", "x"],
    "trial_time": ["0", "-1", "inf", "nan", "10s"],
    "budget": ["0", "inf", "x"],
    "max_trials": ["0", "-1", "1.5", "x"],
    "jobs": ["0", "many", "1.5"],
    "smp": ["0", "x"],
    "memory": ["0", "256M"],
    "accel": ["hvf", "KVM"],
    "boot": ["warm"],
    "inconclusive": ["xfail"],
    "other": ["maybe"],
    "hung": ["no"],
    "exit": ["git"],
    "resume": ["maybe"],
}


@pytest.mark.parametrize(
    ("name", "text"), [(name, text) for name, texts in BAD.items() for text in texts]
)
def test_a_bad_value_is_an_error_that_names_source_and_value(name: str, text: str) -> None:
    with pytest.raises(UsageError) as raised:
        only(BY_NAME[name], text, "environment")
    assert str(raised.value).startswith(f"environment variable {BY_NAME[name].variable}: ")
    assert repr(text) in str(raised.value)


GOOD: dict[str, list[tuple[str, Any]]] = {
    "confidence": [("0.5", 0.5), ("0.999", 0.999)],
    "min_rate": [("0.01", 0.01), ("1e-3", 0.001)],
    "noise": [("0", 0.0), ("0.01", 0.01)],
    "jobs": [("auto", None), ("4", 4)],
    "resume": [("yes", True), ("0", False)],
    "max_trials": [("1", 1)],
    "kernel": [("a, b=c", ("a", "b=c"))],
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [(name, text, value) for name, pairs in GOOD.items() for text, value in pairs],
)
def test_a_good_value_is_read(name: str, text: str, value: Any) -> None:
    assert only(BY_NAME[name], text, "environment")[name] == value


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_each_choice_is_accepted_and_the_default_is_one(option: Option) -> None:
    for choice in option.choices:
        assert only(option, choice)[option.name] == choice
    assert not option.choices or option.default in option.choices


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_an_empty_value_is_no_value(option: Option) -> None:
    assert only(option, "", "environment").source(option.name) == "default"


def test_an_unknown_marker_argument_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UsageError, match=r"on test_y: unknown argument 'min_rat'\. .*min_rate,"):
        resolve(Sources({"min_rat": 1}, {}, {}, {}, "test_y"))


@pytest.mark.parametrize("name", [option.name for option in OPTIONS if not option.in_marker])
def test_what_belongs_to_the_run_is_no_marker_argument(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown argument '{name}'"):
        resolve(Sources({name: "x"}, {}, {}, {}, "test_y"))


@pytest.mark.parametrize("name", ["batch", "correlation"])
@pytest.mark.parametrize("place", PLACES)
def test_what_concerns_shared_boots_is_refused_while_nothing_shares_one(
    name: str, place: str
) -> None:
    with pytest.raises(UsageError, match="add --repro-boot batch") as raised:
        only(BY_NAME[name], "1", place)
    assert name in str(raised.value).partition(": it concerns")[0].lower()


def test_for_the_run_as_a_whole_a_marker_may_still_say_how_to_boot() -> None:
    assert resolve(Sources({}, {"batch": "4"}, {}, {}))["batch"] == 4
    marked = Sources({"boot": "batch"}, {"batch": "4"}, {}, {}, "test_y")
    assert resolve(marked)["boot"] == "batch"


@pytest.mark.parametrize("boot", ["cold", "batch", "snapshot"])
def test_whoever_says_how_to_boot_may_say_how_many_trials_share_one(boot: str) -> None:
    given = {"boot": boot, "batch": "4", "correlation": "0.1"}
    assert resolve(Sources({}, given, {}, {}))["batch"] == 4


def test_given_are_the_options_to_set_again_what_no_marker_set() -> None:
    settings = resolve(
        Sources({"smp": 2}, {"kernel": ["a", "b"]}, {"PYTEST_REPRO_CONFIDENCE": "0.9"}, {})
    )
    assert settings.given() == {"--kernel": ("a", "b"), "--confidence": 0.9}


def test_a_variable_that_nothing_reads_is_named_with_the_nearest_that_something_does() -> None:
    """It was ignored without a word."""
    given = ["PYTEST_REPRO_MINRATE", "PYTEST_REPRO_XYZZY", "PYTEST_REPRO", "PATH"]
    near, far = unknown_variables(given)
    said = "environment variable PYTEST_REPRO_{}: nothing reads it. "
    assert near == f"{said.format('MINRATE')}The nearest known name is PYTEST_REPRO_MIN_RATE"
    assert far.startswith(
        f"{said.format('XYZZY')}Known are PYTEST_REPRO_ and the name of an option"
    )


def test_every_variable_that_something_reads_is_known() -> None:
    package = Path(__file__).parents[2] / "pytest_flaky_repro"
    texts = [path.read_text() for path in package.rglob("*.py")]
    read = {name for text in texts for name in re.findall(r'"(PYTEST_REPRO_[A-Z_]*[A-Z])"', text)}
    assert read >= set(FOLDER_VARIABLES)
    assert unknown_variables([*read, *(option.variable for option in OPTIONS)]) == []
