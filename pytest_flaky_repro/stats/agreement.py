"""Evidence of one experiment from many hosts: whether they agree, and how it is pooled.

Pooling. Each job stops on its own outcomes, so its counts are no fixed sample. But laid end to
end in an order that no outcome can change, the trials of all jobs are one sequence of equal
chances (each next trial is chosen without a look at its own outcome), and the lines judge that
sequence as if one campaign had run it. ``pool`` orders by ticket, then by job name.

Agreement. Equal chances are an assumption, and two looks at it are offered. The e-value bets
host by host against the best single rate (universal inference: L. Wasserman, A. Ramdas and
S. Balakrishnan, PNAS 117, 2020); it is valid whatever stopped the jobs. The p-value, of the
likelihood-ratio statistic over all ways to deal the crashes out to the trials, is sharper but
exact only for jobs of fixed length: it warns, it does not judge.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.stats.incomplete_beta import log_beta
from pytest_flaky_repro.stats.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flaky_repro.outcomes import Vote

_TABLES = 20_000
_SAMPLES = 20_000
_SEED = 0x5EED


class Agreed(enum.Enum):
    """What the hosts' counts say of each other."""

    AGREE = "agree"
    DOUBTFUL = "doubtful"  # the p-value warns, the e-value does not judge
    DISAGREE = "disagree"  # shown, whatever stopped the jobs

    def __bool__(self) -> bool:
        raise TypeError("an Agreed has more than two answers: compare it by identity")


@dataclass(frozen=True)
class Agreement:
    """The comparison of hosts; ``exact`` says whether every table was enumerated."""

    verdict: Agreed
    p_value: float
    log_e: float
    exact: bool


def pool(logs: Mapping[str, Sequence[Vote]]) -> list[Vote]:
    """Merge the jobs' votes, each list in ticket order, into the one order that is judged."""
    longest = max((len(votes) for votes in logs.values()), default=0)
    names = sorted(logs)
    return [
        logs[name][ticket]
        for ticket in range(longest)
        for name in names
        if ticket < len(logs[name])
    ]


def hosts_agree(hosts: Mapping[str, Tally], level: float = 0.01) -> Agreement:
    """Compare the crash rates of hosts, over their intact trials."""
    if not 0.0 < level < 1.0:
        raise UsageError(f"level must lie strictly between 0 and 1, got {level!r}")
    counts = [
        (hosts[name].trials_low, hosts[name].crashes)
        for name in sorted(hosts)
        if hosts[name].trials_low
    ]
    log_e = _log_e(counts)
    p_value, exact = _p_value(counts)
    if log_e >= -math.log(level):
        verdict = Agreed.DISAGREE
    else:
        verdict = Agreed.DOUBTFUL if p_value <= level else Agreed.AGREE
    return Agreement(verdict, p_value, log_e, exact)


def _log_e(counts: Sequence[tuple[int, int]]) -> float:
    """Return ln of the hosts' Jeffreys-mixed likelihoods over the best common likelihood."""
    trials, crashes = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
    apart = sum(log_beta(x + 0.5, n - x + 0.5) - log_beta(0.5, 0.5) for n, x in counts)
    return apart - _peak(trials, crashes)


def _peak(trials: int, crashes: int) -> float:
    """Return the largest binomial log likelihood (without the coefficient)."""
    if crashes in (0, trials):
        return 0.0
    rate = crashes / trials
    return crashes * math.log(rate) + (trials - crashes) * math.log1p(-rate)


def _p_value(counts: Sequence[tuple[int, int]]) -> tuple[float, bool]:
    total = sum(x for _, x in counts)
    if len(counts) < 2 or total == 0:
        return 1.0, True
    seen = _statistic(counts, [x for _, x in counts])
    if math.comb(total + len(counts) - 1, total) <= _TABLES:
        return _enumerated(counts, total, seen), True
    return _sampled(counts, total, seen), False


def _statistic(counts: Sequence[tuple[int, int]], crashes: Sequence[int]) -> float:
    """Return the likelihood-ratio statistic of a deal, up to what all deals share."""
    return sum(_peak(n, x) for (n, _), x in zip(counts, crashes, strict=True))


def _enumerated(counts: Sequence[tuple[int, int]], total: int, seen: float) -> float:
    whole = _log_choose(sum(n for n, _ in counts), total)
    chance = 0.0
    for deal in _deals([n for n, _ in counts], total):
        if _statistic(counts, deal) >= seen - 1e-9:
            ways = sum(_log_choose(n, x) for (n, _), x in zip(counts, deal, strict=True))
            chance += math.exp(ways - whole)
    return min(1.0, chance)


def _deals(trials: Sequence[int], total: int) -> Iterator[list[int]]:
    """Every way to hand ``total`` crashes to hosts that have room for ``trials`` each."""
    if len(trials) == 1:
        if total <= trials[0]:
            yield [total]
        return
    for first in range(min(trials[0], total) + 1):
        for rest in _deals(trials[1:], total - first):
            yield [first, *rest]


def _sampled(counts: Sequence[tuple[int, int]], total: int, seen: float) -> float:
    """Estimate the p-value from seeded deals, counting the one observed (never 0)."""
    import numpy as np

    rng = np.random.default_rng(_SEED)
    deals = rng.multivariate_hypergeometric([n for n, _ in counts], total, size=_SAMPLES)
    rare = sum(_statistic(counts, deal) >= seen - 1e-9 for deal in deals.tolist())
    return (rare + 1) / (_SAMPLES + 1)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def halves(votes: Sequence[Vote]) -> dict[str, Tally]:
    """Split a log in two, to see whether the rate moved while it ran."""
    middle = len(votes) // 2
    return {"first half": Tally.of(votes[:middle]), "second half": Tally.of(votes[middle:])}
