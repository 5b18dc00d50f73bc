"""Whatever is written where an option can be written: a value, or an error that says where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.settings import BY_NAME, OPTIONS, Option, Sources, resolve_one

texts = st.one_of(
    st.text(max_size=40),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "-0", "0x10", "1_0", "٣", "1" * 5000, "\0"]),
    st.floats().map(str),
    st.integers().map(str),
)
NUMBERS = [option for option in OPTIONS if isinstance(option.default, float)]


def from_environment(option: Option, text: str) -> Any:
    return resolve_one(option.name, Sources({}, {}, {option.variable: text}, {}))


@contextmanager
def suppress_unless(source: str) -> Iterator[None]:
    """An error of ours, if there is one, begins with ``source``."""
    said = source
    try:
        yield
    except UsageError as error:
        said = str(error)
    assert said.startswith(source)


@given(st.sampled_from(OPTIONS), texts)
@example(BY_NAME["trial_time"], "inf")
@example(BY_NAME["memory"], "1" * 5000)
def test_any_text_is_a_value_or_an_error_that_names_its_source(option: Option, text: str) -> None:
    with suppress_unless(f"environment variable {option.variable}: "):
        from_environment(option, text)


@given(st.sampled_from(NUMBERS), texts)
def test_a_number_that_is_accepted_is_one(option: Option, text: str) -> None:
    """No trial without end, no rate that is not a number."""
    try:
        value = from_environment(option, text)
    except UsageError:
        return
    assert math.isfinite(value)


@given(st.sampled_from([option for option in OPTIONS if option.in_marker]), st.data())
def test_any_marker_argument_is_a_value_or_an_error(option: Option, data: st.DataObject) -> None:
    raw = data.draw(st.one_of(texts, st.none(), st.booleans(), st.floats(), st.binary()))
    with suppress_unless(f"@pytest.mark.repro({option.name}=) on test_x: "):
        resolve_one(option.name, Sources({option.name: raw}, {}, {}, {}, where="test_x"))
