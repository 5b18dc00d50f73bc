"""A minimum rate taken from a known-bad kernel, with its uncertainty paid for.

The known-bad kernel runs until it has crashed r times, in M trials; r is fixed beforehand.
Another kernel is then called safe after n clean trials, n the smallest with

    C(M, r) / C(M + n, r) <= b.

If that kernel crashes at the same rate, whatever the rate, it is called safe with probability
at most b. Proof: lay the calibration and the check end to end, and let t be the trial of the
(r+1)-th crash of that one sequence. A wrong *safe* means M + n(M) < t. Given t, the first r
crashes are a random r-subset of the t - 1 trials before, so P(M <= m | t) = C(m, r)/C(t-1, r).
M + n(M) grows with M, so the event is M <= m* for the largest m* with m* + n(m*) <= t - 1, and
its chance is C(m*, r)/C(t-1, r) <= C(m*, r)/C(m* + n(m*), r) <= b, for every t.
(It is Fisher's exact test at zero crashes; the argument covers the stop at the r-th crash.)

Plugging the observed rate r/M into the zero-failure rule instead errs two to eighteen times as
often as stated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.design import Design, complement
from pytest_flaky_repro.stats.solve import zero_failure

if TYPE_CHECKING:
    from pytest_flaky_repro.stats.tally import Tally

# With noise, a calibrated rate this close to the floor cannot be told from it at a fair price.
_NOISE_FACTOR = 2.0


@dataclass(frozen=True)
class CalibrationRule:
    """When calibration stops: at the ``crashes``-th crash, or for good at ``max_trials``.

    Both are fixed before the first trial. Whoever stops when it looks good errs up to 2.8
    times as often as stated. Ten crashes leave the check within 1.27 times the cost of a known
    rate; five make calibration and check together cheapest.
    """

    crashes: int = 10
    max_trials: int = 10_000

    def __post_init__(self) -> None:
        if self.crashes < 1:
            raise UsageError(f"calibration needs at least 1 crash, got crashes={self.crashes}")
        if self.max_trials < self.crashes:
            raise UsageError(
                f"max_trials ({self.max_trials}) must leave room for {self.crashes} crashes"
            )

    def finished(self, tally: Tally) -> bool:
        """Whether the known-bad kernel has run long enough (or too long)."""
        return tally.crashes >= self.crashes or tally.trials_high >= self.max_trials

    def conclude(self, tally: Tally) -> Calibration:
        """Turn the finished run into a calibration.

        Lost trials count as survivals here: a rate taken too low only asks for more trials.
        Raises UsageError when the run is unfinished, or ended without enough crashes.
        """
        if tally.crashes > self.crashes:
            raise UsageError(
                f"calibration stops at crash {self.crashes}, but {tally.crashes} were counted; "
                "cut the log at that crash, in launch order"
            )
        if tally.crashes < self.crashes:
            raise UsageError(
                f"the known-bad kernel crashed {tally.crashes} times in {tally.trials_high} "
                f"trials, calibration needs {self.crashes} (within {self.max_trials}); raise "
                "the limit, lengthen the trial, or state a minimum rate instead"
            )
        return Calibration(trials=tally.trials_high, crashes=tally.crashes)


@dataclass(frozen=True)
class Calibration:
    """What the known-bad kernel showed: its ``crashes``-th crash came at trial ``trials``."""

    trials: int
    crashes: int

    def __post_init__(self) -> None:
        if not 1 <= self.crashes <= self.trials:
            raise UsageError(
                "a calibration needs 1 <= crashes <= trials, got "
                f"crashes={self.crashes}, trials={self.trials}"
            )

    @property
    def rate(self) -> float:
        """The unbiased estimate (r - 1)/(M - 1) of the rate (Haldane 1945); 1 for one in one."""
        if self.crashes == 1:
            return 1.0 / self.trials
        return (self.crashes - 1) / (self.trials - 1)

    def clean_trials(self, error: float, reduction: float = 1.0) -> int:
        """Clean trials that rule out the known-bad rate divided by ``reduction``.

        For a reduction above 1 the count is ceil(reduction * M * (b**(-1/r) - 1)), which keeps
        the error at every rate since (1 - p/rho)**(rho*m) <= exp(-p*m) and
        E[exp(-p*c*M)] <= (1 + c)**-r for M negative binomial (both by exp(u) >= 1 + u).
        """
        if not 0.0 < error < 1.0:
            raise UsageError(f"an error must lie strictly between 0 and 1, got {error!r}")
        if not 1.0 <= reduction < math.inf:
            raise UsageError(f"reduction must be 1 or more, got {reduction!r}")
        if reduction > 1.0:
            factor = math.expm1(-math.log(error) / self.crashes)
            return math.ceil(reduction * self.trials * factor * (1 - 1e-12))
        return self._hypergeometric(math.log(error) + 1e-12)

    def _hypergeometric(self, log_error: float) -> int:
        low, high = 0, 1
        while self._log_chance(high) > log_error:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            if self._log_chance(middle) > log_error:
                low = middle
            else:
                high = middle
        return high

    def _log_chance(self, clean: int) -> float:
        """Return ln of C(M, r) / C(M + n, r), as a product of r factors."""
        return sum(-math.log1p(clean / (self.trials - index)) for index in range(self.crashes))

    def min_rate(self, error: float, noise: float = 0.0, reduction: float = 1.0) -> float:
        """Find the minimum rate p1 whose zero-failure rule asks for the trials needed here.

        With noise the crash line may let a crash pass, so the trials are counted at half the
        error (computed false-safe .004 to .009 at a nominal .01). Raises UsageError when the
        rate found is not above twice the noise.
        """
        counted = error if noise == 0 else error / 2
        clean = self.clean_trials(counted, reduction)
        rate = -math.expm1(math.log(error) / clean)
        while zero_failure(rate, error) > clean:
            rate = math.nextafter(rate, 1.0)
        if rate <= _NOISE_FACTOR * noise:
            raise UsageError(
                f"{self.crashes} crashes in {self.trials} trials leave a minimum rate of "
                f"{rate:.3g}, not above twice the noise ({noise:g}); calibrate to more crashes, "
                "lengthen the trial, or match the crash title to lower the noise"
            )
        return rate

    def design(
        self,
        confidence_safe: float = 0.95,
        confidence_crash: float = 0.95,
        *,
        noise: float = 0.0,
        reduction: float = 1.0,
    ) -> Design:
        """Build the design that checks another kernel against this known-bad one."""
        rate = self.min_rate(complement(confidence_safe), noise, reduction)
        return Design(rate, noise, confidence_safe, confidence_crash)
