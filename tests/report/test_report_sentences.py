"""Numbers and guest text as they are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.report import sentences
from pytest_flaky_repro.settings import Sources, resolve

rates = st.floats(1e-6, 1.0)


@pytest.mark.parametrize(
    ("rate", "text"),
    [(0.0, "0%"), (0.00012, "0.012%"), (0.0099829, "1.0%"), (0.05, "5.0%"), (0.44, "44%")],
)
def test_a_rate_is_a_percentage_of_two_digits(rate: float, text: str) -> None:
    assert sentences.percent(rate) == text


@given(rates)
def test_an_upper_bound_is_never_shown_below_itself(rate: float) -> None:
    assert float(sentences.upwards(rate).rstrip("%")) >= 100 * rate * (1 - 1e-9)


@given(rates)
def test_an_upper_bound_is_shown_close_to_itself(rate: float) -> None:
    assert float(sentences.upwards(rate).rstrip("%")) <= 100 * rate * 1.12 + 0.002


@pytest.mark.parametrize(("value", "text"), [(0.99, "99%"), (0.999, "99.9%"), (0.5, "50%")])
def test_a_confidence_keeps_all_its_digits(value: float, text: str) -> None:
    assert sentences.confidence(value) == text


@given(st.floats(0.5, 1 - 1e-9), st.integers(1, 100))
def test_a_confidence_is_never_shown_above_itself(value: float, shares: int) -> None:
    shared = 1 - (1 - value) / shares  # as a family of tests shares its error
    shown = float(sentences.confidence(shared).rstrip("%"))
    assert shown <= 100 * shared * (1 + 1e-12)
    assert 100 - shown <= 1.02 * 100 * (1 - shared) + 1e-9


@given(st.text())
def test_printable_text_moves_no_cursor(text: str) -> None:
    shown = sentences.printable(text)
    assert all(c in "\t\n" or c.isprintable() or c == "\u00ad" for c in shown if ord(c) < 0x250)
    assert not {"\x1b", "\r", "\b", "\x9b", "\u202e", "\u2028"} & set(shown)


@given(st.binary(max_size=2000))
def test_a_console_s_tail_is_a_few_safe_lines(console: bytes) -> None:
    tail = sentences.console_tail(console)
    assert 1 <= len(tail) <= 25
    assert all("\x1b" not in line and "\n" not in line for line in tail)


def test_a_console_s_tail_is_its_end() -> None:
    assert sentences.console_tail(b"a\r\nb\r\nc\r\n", lines=2) == ["b", "c"]


def test_the_command_quotes_what_a_shell_would_split() -> None:
    settings = resolve(Sources({}, {"append": "a b", "kernel": ["k"]}, {}, {}))
    command = sentences.again("test_x.py::test_x[a b]", settings)
    assert command == "pytest 'test_x.py::test_x[a b]' --kernel=k '--repro-append=a b'"
