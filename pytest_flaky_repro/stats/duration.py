"""How long a trial should last, from the times to crash of a kernel known to crash.

A verdict of *safe* takes a number of surviving trials that goes as 1/F(t), with F(t) the chance
that a trial of length t crashes; each of them costs a boot and t seconds. Short trials are cheap
and see few crashes, long ones dear: (boot + t) / F(t) has a least value somewhere. (For rates
above a half that is too kind to short trials; there every length needs few.)

F is not known. Of r crashes in trials of up to T seconds, let x be the i-th soonest. The share
F(x)/F(T) then has a Beta(i, r + 1 - i) law, so that the trials needed at length x are r/(i - 1)
times those needed at T, in expectation (David and Nagaraja, *Order Statistics*, 2.3): that is what
a length is charged here, so that one crash that came soon by luck does not look like a bargain.

A length chosen from some trials makes its own crash rate in *those* trials look better than it
is, so the rate of a shorter length is taken from other trials, run at that length: given the
length, an ordinary calibration, and its theorem (``stats.calibration``) holds as it stands. If the
longest is kept, the trials so far may count on. The choice looks at nothing but when the first
crashes came within their trials and at what those trials' boots cost; how many trials lay between
is independent of that, and it is all that the theorem is about.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from pytest_flaky_repro.errors import UsageError

PILOT_CRASHES = 5  # to choose a length from
FEWEST = 3  # crashes, to say anything from
MARGIN = 1.25  # a crash that came in 4 s may take 5 s on a busier host
# Of the longest length's cost. To change is to calibrate anew: of some 16 crashes' worth of trials
# (10 and a check, ``Calibration``) 5 are lost, so a change must save a third to be worth it.
WORTH_IT = 0.67
LEVEL = 0.05  # of the test for a constant hazard, both sides together
_EXACT_UP_TO = 15


@dataclass(frozen=True)
class CrashTimes:
    """What was seen of started trials, in seconds from START.

    ``boot`` is the mean cost of a boot of those that crashed, ``longest`` the length that all were
    given; a survivor may have ended sooner.
    """

    crashed: tuple[float, ...]
    survived: tuple[float, ...]
    boot: float
    longest: float

    def __post_init__(self) -> None:
        numbers = (*self.crashed, *self.survived, self.boot)
        if not all(0.0 <= number < math.inf for number in numbers):
            raise UsageError("times to crash, of survivals and of a boot are seconds from 0 up")
        if not 0.0 < self.longest < math.inf:
            raise UsageError(f"a trial's length is a positive time, got {self.longest!r}")


@dataclass(frozen=True)
class Length:
    """A trial time in seconds; ``cost`` is the machine time of a verdict, the longest's being 1."""

    seconds: float
    cost: float


class Hazard(enum.Enum):
    """How the chance of a crash in the next second changes while a trial runs."""

    CONSTANT = "constant"  # or not shown to be anything else
    RISING = "rising"  # crashes come late: there is a warm-up
    FALLING = "falling"  # crashes come early, or not at all


@dataclass(frozen=True)
class Advice:
    """The length to use, and what the ``crashes`` in trials of ``longest`` seconds tell."""

    length: Length
    hazard: Hazard
    p_value: float
    crashes: int
    longest: float


def advise(times: CrashTimes) -> Advice | None:
    """None where there are too few crashes to tell anything."""
    if len(times.crashed) < FEWEST:
        return None
    return Advice(
        best_length(times),
        hazard(times),
        min(1.0, 2 * min(late_crashes_p(times), early_crashes_p(times))),
        len(times.crashed),
        times.longest,
    )


def best_length(times: CrashTimes) -> Length:
    """The length, up to the longest, at which a verdict of *safe* is expected soonest."""
    ordered, count = sorted(times.crashed), len(times.crashed)
    best = Length(times.longest, 1.0)
    for rank in range(2, count + 1):
        seconds = min(times.longest, _rounded(MARGIN * ordered[rank - 1]))
        share = (rank - 1) / count
        cost = (times.boot + seconds) / (times.boot + times.longest) / share
        if seconds < times.longest and cost < min(best.cost, WORTH_IT):
            best = Length(seconds, cost)
    return best


def hazard(times: CrashTimes, level: float = LEVEL) -> Hazard:
    """Barlow and Proschan's test of a constant hazard, at about ``level`` (both sides together).

    Measured at a level of 5%: 3% to 5.2%, for crash rates from 0.1 to 0.98 and 3 to 20 crashes.
    """
    if late_crashes_p(times) <= level / 2:
        return Hazard.RISING
    return Hazard.FALLING if early_crashes_p(times) <= level / 2 else Hazard.CONSTANT


def late_crashes_p(times: CrashTimes) -> float:
    """P(crashes this late | constant hazard).

    On the scale of the total time that all trials had spent running, the crashes of a constant
    hazard lie uniformly before the last of them (Barlow and Campo 1975, *Total time on test
    processes*); trials that ended without a crash are at risk until they ended.
    """
    *before, last = _on_test(times, max(times.crashed, default=0.0))
    return _uniform_sum_tail(math.fsum(before) / last, len(before)) if last else 1.0


def early_crashes_p(times: CrashTimes) -> float:
    """P(crashes this early | constant hazard): here against all the time there was to crash in.

    That sees kernels which crash early or never, and errs on the safe side where many crash.
    """
    *seen, whole = _on_test(times, times.longest)
    if not seen or not whole:
        return 1.0
    late = _uniform_sum_tail(math.fsum(seen) / whole, len(seen))
    return 1.0 - late


def _on_test(times: CrashTimes, end: float) -> list[float]:
    """Total seconds that trials had spent running at each crash before ``end``, and at ``end``."""
    everyone = (*times.crashed, *times.survived)
    marks = sorted(times.crashed)
    if marks and marks[-1] >= end:
        marks.pop()
    return [math.fsum(min(other, mark) for other in everyone) for mark in (*marks, end)]


def _rounded(seconds: float) -> float:
    """Up to the next tenth of a second: a length is written down and read by people."""
    return max(0.1, math.ceil(10 * seconds - 1e-9) / 10)


def _uniform_sum_tail(total: float, count: int) -> float:
    """P(the sum of ``count`` uniforms on (0, 1) >= total): Irwin 1927 and Hall 1927."""
    if count > _EXACT_UP_TO:
        return 0.5 * math.erfc((total - count / 2) / math.sqrt(count / 6))
    if total < count / 2:  # the tail that does not cancel
        return 1.0 - _uniform_sum_tail(count - total, count)
    left = count - total
    terms = (
        (-1) ** k * math.comb(count, k) * (left - k) ** count for k in range(math.floor(left) + 1)
    )
    return min(1.0, max(0.0, math.fsum(terms) / math.factorial(count)))
