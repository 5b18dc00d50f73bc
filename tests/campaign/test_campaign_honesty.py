"""Thousands of whole campaigns through the loop: verdicts are wrong no more often than they say."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.machine.fake import Behaviour
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats import Design

if TYPE_CHECKING:
    from tests.campaign.conftest import Bench

CAMPAIGNS = 1000
NOISY = Design(min_rate=0.4, noise=0.05, confidence_safe=0.9, confidence_crash=0.9)


def limit(error: float) -> float:
    """What a rate of ``error`` stays below in all but one of 1000 such tests."""
    return CAMPAIGNS * error + 3.1 * math.sqrt(CAMPAIGNS * error * (1 - error))


def wrong(bench: Bench, behaviour: Behaviour, design: Design, verdict: Conclusion) -> int:
    """How many of so many campaigns say ``verdict``."""
    said = (
        bench.run(behaviour, design, jobs=4, seed=str(number)).conclusion
        for number in range(CAMPAIGNS)
    )
    return sum(conclusion is verdict for conclusion in said)


@pytest.mark.slow
def test_false_safe_at_the_minimum_rate(bench: Bench) -> None:
    design = Design(min_rate=0.4, confidence_safe=0.9, confidence_crash=0.9)
    count = wrong(bench, Behaviour(crash=0.4, void=0.02, lost=0.02), design, Conclusion.SAFE)
    assert count <= limit(0.1)


@pytest.mark.slow
def test_false_safe_with_noise_and_crashes_that_come_first(bench: Bench) -> None:
    behaviour = Behaviour(crash=0.4, lost=0.03, seconds=0.004)
    assert wrong(bench, behaviour, NOISY, Conclusion.SAFE) <= limit(0.1)


@pytest.mark.slow
def test_false_crashes_at_the_noise_with_crashes_that_come_first(bench: Bench) -> None:
    behaviour = Behaviour(crash=0.05, lost=0.03, seconds=0.004)
    assert wrong(bench, behaviour, NOISY, Conclusion.CRASHES) <= limit(0.1)
