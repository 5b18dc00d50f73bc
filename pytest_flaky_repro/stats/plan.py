"""A plan: a design with its solved lines, ready to judge tallies and to foretell itself."""

from __future__ import annotations

import enum
import hashlib
import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.design import Design
from pytest_flaky_repro.stats.lines import NEVER, Line, Lines
from pytest_flaky_repro.stats.solve import ALGORITHM, solve
from pytest_flaky_repro.stats.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_flaky_repro.outcomes import Vote


class Decision(enum.Enum):
    """What the lines say of a tally."""

    CONTINUE = "continue"
    CRASHES = "crashes"
    SAFE = "safe"

    def __bool__(self) -> bool:
        raise TypeError("a Decision has more than two answers: compare it by identity")


@dataclass(frozen=True)
class OperatingPoint:
    """What a plan does at one true crash rate; the three chances sum to 1.

    ``p_inconclusive`` is the chance that the budget ends first (0 without a budget);
    ``expected_trials`` counts trials up to the verdict or the budget, one at a time.
    """

    rate: float
    p_safe: float
    p_crash: float
    p_inconclusive: float
    expected_trials: float


@dataclass(frozen=True)
class WorstCase:
    """The true rate at which the campaign lasts longest on average."""

    rate: float
    expected_trials: float


@dataclass(frozen=True)
class Judgement:
    """The first verdict in a log, the tally there, and how many votes it took to get there."""

    decision: Decision
    tally: Tally
    votes: int


@dataclass(frozen=True)
class Plan:
    """A design and its two decision lines. Pure and immutable; build one with plan_for."""

    design: Design
    lines: Lines

    def decide(self, tally: Tally) -> Decision:
        """Judge a tally; more survivals never turn SAFE back, more crashes never CRASHES.

        The answer depends on the counts alone, so that one log has one verdict. Trials must be
        tallied in launch order, without holes: parallel trials finish crash-first, and judging
        them as they finish would break both guarantees.
        """
        if tally.crashes > 0 and tally.trials_high <= self.lines.crash.at(tally.crashes):
            return Decision.CRASHES
        if tally.trials_low >= self.lines.safe.at(tally.crashes):
            return Decision.SAFE
        return Decision.CONTINUE

    def judge(self, votes: Iterable[Vote]) -> Judgement:
        """Read a whole log in launch order and stop at the first verdict.

        One log has one judgement, bit for bit, whoever ran it and however often it was
        interrupted.
        """
        tally, read, decision = Tally(), 0, Decision.CONTINUE
        for vote in votes:
            tally, read = tally.add(vote), read + 1
            decision = self.decide(tally)
            if decision is not Decision.CONTINUE:
                break
        return Judgement(decision, tally, read)

    def safe_at(self, crashes: int) -> int:
        """Intact trials (survivals and crashes) that make *safe* with this many crashes.

        NEVER where no number does: with noise 0, after any crash.
        """
        return self.lines.safe.at(crashes)

    def crash_at(self, crashes: int) -> int:
        """Last started trial (intact or lost) at which this crash still decides *crashes*.

        0 where it cannot decide; NEVER (no limit) with noise 0.
        """
        return self.lines.crash.at(crashes)

    def expected_trials(self, rate: float) -> float:
        """Average trials to a verdict at a true crash rate, without a budget (ASN)."""
        return self.operating_characteristic(rate).expected_trials

    def operating_characteristic(self, rate: float, budget: int | None = None) -> OperatingPoint:
        """Chances of each verdict and expected trials at one true rate."""
        return self.operating_curve([rate], budget)[0]

    def operating_curve(
        self, rates: Sequence[float], budget: int | None = None
    ) -> list[OperatingPoint]:
        """operating_characteristic at many rates in one pass (101 rates in well under 0.1 s)."""
        for rate in rates:
            if not 0.0 <= rate <= 1.0:
                raise UsageError(f"a crash rate must lie in [0, 1], got {rate!r}")
        if budget is not None and budget < 0:
            raise UsageError(f"a budget of trials must not be negative, got {budget}")
        limit = NEVER if budget is None else budget
        if self.design.noise == 0:
            return [self._zero_noise_point(rate, limit) for rate in rates]
        from pytest_flaky_repro.stats.walk import walk

        seen = walk(self.lines, rates, limit)
        return [
            OperatingPoint(rate, float(safe), float(crash), float(rest), float(trials))
            for rate, safe, crash, rest, trials in zip(
                rates, seen.safe, seen.crash, seen.undecided, seen.trials, strict=True
            )
        ]

    def _zero_noise_point(self, rate: float, limit: int) -> OperatingPoint:
        needed = self.lines.safe.at(0)
        trials = min(needed, limit)
        intact = 1.0 if trials == 0 else (0.0 if rate == 1 else (1.0 - rate) ** trials)
        crash = 0.0 if trials == 0 else -_expm1_power(rate, trials)
        decided = needed <= limit
        return OperatingPoint(
            rate,
            intact if decided else 0.0,
            crash,
            0.0 if decided else intact,
            float(trials) if rate == 0 else crash / rate,
        )

    def inconclusive_chance(self, budget: int, rate: float) -> float:
        """Chance that ``budget`` trials end without a verdict at this true rate."""
        return self.operating_characteristic(rate, budget).p_inconclusive

    def worst_inconclusive_chance(self, budget: int) -> OperatingPoint:
        """Find the operating point with the largest chance of *inconclusive* for a budget."""
        curve = self.operating_curve(self._probe_rates(), budget)
        return max(curve, key=lambda point: point.p_inconclusive)

    def worst_case(self) -> WorstCase:
        """Find the rate that keeps the campaign busy longest: 0 without noise, else between.

        Found on a grid of rates around p0 and p1: exact to a few parts in a thousand.
        """
        curve = self.operating_curve(self._probe_rates())
        worst = max(curve, key=lambda point: point.expected_trials)
        return WorstCase(worst.rate, worst.expected_trials)

    def worst_case_trials(self) -> float:
        """Return the expected trials at the worst true rate; with noise 0 also the hard maximum."""
        return self.worst_case().expected_trials

    def _probe_rates(self) -> list[float]:
        if self.design.noise == 0:
            return [0.0, self.design.min_rate]
        low, high = math.log(self.design.noise), math.log(self.design.min_rate)
        inner = [math.exp(low + (high - low) * step / 48) for step in range(49)]
        return [0.0, *inner, 0.5 * (1.0 + self.design.min_rate)]

    def digest(self) -> str:
        """Return the plan hash: sha256 over design, lines and algorithm version, in hex."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    def to_json(self) -> str:
        """One line of JSON that from_json reads back bit for bit, with its hash."""
        return json.dumps({**json.loads(self._canonical()), "digest": self.digest()})

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read a plan back; UsageError when it is torn, edited, or from another algorithm."""
        mend = "delete the cached plan and let it be solved again"
        try:
            record = json.loads(text)
            version, digest = record["algorithm"], record["digest"]
            design = Design(**record["design"])
            lines = Lines(_read_line(record["safe"], 0), _read_line(record["crash"], 1))
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise UsageError(f"not a plan: {error!r}; {mend}") from error
        if version != ALGORITHM:
            raise UsageError(
                f"this plan was solved by algorithm {version}, this is algorithm {ALGORITHM}; "
                "resume with the version that began, or begin a new campaign"
            )
        plan = cls(design, lines)
        if plan.digest() != digest:
            raise UsageError(f"the plan does not match its hash {digest}: it was edited; {mend}")
        return plan

    def _canonical(self) -> str:
        record = {
            "algorithm": ALGORITHM,
            "design": asdict(self.design),
            "safe": asdict(self.lines.safe),
            "crash": asdict(self.lines.crash),
        }
        return json.dumps(record, sort_keys=True, separators=(",", ":"))


def plan_for(design: Design) -> Plan:
    """Solve a design; instantaneous and without numpy when the noise is 0."""
    return Plan(design, solve(design))


def _read_line(record: dict[str, object], first: int) -> Line:
    prefix = record["prefix"]
    numbers = [record[key] for key in ("slope", "intercept", "roof")]
    if not isinstance(prefix, list) or record["first"] != first:
        raise TypeError("a line needs a prefix and its first crash count")
    slope, intercept, roof = (_whole(number) for number in numbers)
    return Line(first, tuple(_whole(number) for number in prefix), slope, intercept, roof)


def _whole(number: object) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"expected a whole number, got {number!r}")
    return number


def _expm1_power(rate: float, trials: int) -> float:
    """(1 - rate)**trials - 1 without cancellation."""
    return -1.0 if rate == 1 else math.expm1(trials * math.log1p(-rate))
