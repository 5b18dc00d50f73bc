"""What the user asks of a campaign: two rates and two confidences."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_flaky_repro.errors import UsageError

# Odds closer than this need tens of thousands of crashes to be told apart.
MIN_ODDS_RATIO = 1.25
MIN_CONFIDENCE = 0.5
# A floor below this is none: no campaign is long enough to meet it.
MIN_NOISE = 1e-9
# With noise: above this the likelihood ratio of one survival leaves the range of floats.
MAX_MIN_RATE = 0.999
# Below this the error budget of a line drowns in double rounding.
MIN_ERROR = 1e-9


@dataclass(frozen=True)
class Design:
    """A two-sided question about one crash rate (probability per started trial).

    ``min_rate`` (p1) is the smallest rate the user wants to hear of; ``noise`` (p0) the rate at
    which a healthy kernel would look crashed. "Safe" is said with probability at most
    ``error_safe`` when the rate is p1 or more, "crashes" with probability at most
    ``error_crash`` when it is p0 or less. In between either answer is right.

    Raises UsageError, naming the field, for anything that no campaign could answer.
    """

    min_rate: float
    noise: float = 0.0
    confidence_safe: float = 0.95
    confidence_crash: float = 0.95

    def __post_init__(self) -> None:
        for field in ("min_rate", "noise", "confidence_safe", "confidence_crash"):
            object.__setattr__(self, field, _number(field, getattr(self, field)))
        if not 0.0 < self.min_rate < 1.0:
            raise UsageError(
                f"min_rate must lie strictly between 0 and 1, got {self.min_rate:g}; "
                "it is the smallest crash rate per trial that matters, such as 0.05"
            )
        if not 0.0 <= self.noise < self.min_rate:
            raise UsageError(
                f"noise must be at least 0 and below min_rate ({self.min_rate:g}), got "
                f"{self.noise:g}; it is the rate at which a healthy kernel looks crashed"
            )
        if 0.0 < self.noise < MIN_NOISE:
            raise UsageError(
                f"noise must be 0 or at least {MIN_NOISE:g}, got {self.noise:g}; say 0 for a "
                "kernel that never looks crashed by mistake"
            )
        if self.noise > 0 and self.min_rate > MAX_MIN_RATE:
            raise UsageError(
                f"min_rate must be at most {MAX_MIN_RATE:g} when there is noise, got "
                f"{self.min_rate:g}; a kernel that always crashes needs no statistics"
            )
        if self.noise > 0 and self.odds_ratio < MIN_ODDS_RATIO:
            raise UsageError(
                f"noise ({self.noise:g}) is too close to min_rate ({self.min_rate:g}): the odds "
                f"must differ by a factor of {MIN_ODDS_RATIO:g} at least; raise min_rate or "
                "lower noise"
            )
        for field in ("confidence_safe", "confidence_crash"):
            _check_confidence(field, getattr(self, field))

    @property
    def error_safe(self) -> float:
        """b: the most often that "safe" may be said of a rate of p1 or more."""
        return complement(self.confidence_safe)

    @property
    def error_crash(self) -> float:
        """a: the most often that "crashes" may be said of a rate of p0 or less."""
        return complement(self.confidence_crash)

    @property
    def odds_ratio(self) -> float:
        """Odds of p1 over odds of p0; infinite without noise."""
        if self.noise == 0:
            return math.inf
        return self.min_rate * (1 - self.noise) / (self.noise * (1 - self.min_rate))


def complement(confidence: float) -> float:
    """1 - confidence, to the digits that the user typed (1 - 0.99 is 0.01, not 0.01 + 9e-18)."""
    return round(1.0 - confidence, 15)


def _number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UsageError(f"{field} must be a finite number, got {value!r}")
    return float(value)


def _check_confidence(field: str, value: float) -> None:
    if not MIN_CONFIDENCE <= value <= 1 - MIN_ERROR:
        raise UsageError(
            f"{field} must be from {MIN_CONFIDENCE:g} up to 1 - {MIN_ERROR:g}, got {value!r}; "
            "0.95 and 0.99 are usual"
        )
