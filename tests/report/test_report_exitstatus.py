"""The exit status for ``git bisect run``, as a function."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.report.exitstatus import BAD, GOOD, SKIP, bisect_status

conclusions = st.lists(st.sampled_from([c.value for c in Conclusion]))
statuses = st.integers(0, 5)


@given(conclusions, statuses)
def test_only_a_crash_is_ever_bad(said: list[str], status: int) -> None:
    assert (bisect_status(said, status) == BAD) == ("crashes" in said)


@given(conclusions, statuses)
def test_good_is_only_said_when_all_is_safe_and_pytest_agrees(said: list[str], status: int) -> None:
    good = bisect_status(said, status) == GOOD
    assert good == (bool(said) and set(said) == {"safe"} and status == 0)


@given(conclusions, statuses)
def test_there_is_no_fourth_answer(said: list[str], status: int) -> None:
    assert bisect_status(said, status) in (GOOD, BAD, SKIP)


@pytest.mark.parametrize("status", range(1, 6))
def test_pytest_s_own_statuses_do_not_reach_git(status: int) -> None:
    assert bisect_status([], status) == SKIP
