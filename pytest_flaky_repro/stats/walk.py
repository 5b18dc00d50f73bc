"""Both lines at once: chances of each verdict and expected trials, for many rates in one walk.

The expected number of trials follows from Wald's identity, E[trials] = E[crashes at the end] / p
(A. Wald, Sequential Analysis, 1947, A:3), so no per-trial sum is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_flaky_repro.stats.lines import NEVER, Lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

_REST = 1e-13
# Below this share, what a block of trials loses over the barrier is summed term by term: the
# difference of two masses near 1 would have no digits left to divide by a small rate.
_FAINT = 1e-6
_TERMS = 40
_ZERO = 1e-200


@dataclass(frozen=True)
class Walked:
    """One array entry per rate; the three chances sum to 1 up to what was left undecided."""

    safe: Array
    crash: Array
    undecided: Array
    trials: Array


def walk(lines: Lines, rates: Sequence[float], budget: int = NEVER) -> Walked:
    """Run the campaign's test at each true crash rate, for at most ``budget`` trials."""
    import numpy as np

    rate = np.asarray(rates, dtype=np.float64)
    mass = np.ones((len(rate), 1))
    safe, crash, ends = np.zeros(len(rate)), np.zeros(len(rate)), np.zeros(len(rate))
    blocks: dict[int, Array] = {}
    trials, low, level, barrier = 0, 0, 0, 1
    while trials < budget and mass.sum(axis=1).max(initial=0.0) > _REST:
        while lines.crash.at(barrier) <= trials:
            barrier += 1
        stop = min(lines.crash.at(barrier), max(lines.safe.at(level), trials), budget)
        if stop > trials:
            mass, fell = _advance(mass, stop - trials, barrier - low, rate, blocks)
        else:
            fell = np.zeros(len(rate))
        crash += fell
        ends += barrier * fell
        trials = stop
        while lines.safe.at(level) <= trials and level < low + mass.shape[1]:
            safe += mass[:, 0]
            ends += level * mass[:, 0]
            mass = mass[:, 1:]
            low = level = level + 1
    left = mass.sum(axis=1)
    ends += mass @ (low + np.arange(mass.shape[1], dtype=np.float64))
    never_crashing = min(lines.safe.at(0), budget)
    some = rate > _ZERO
    trials_to_end = np.where(some, ends / np.where(some, rate, 1.0), never_crashing)
    return Walked(safe, crash, left, trials_to_end)


def _advance(
    mass: Array, trials: int, width: int, rate: Array, blocks: dict[int, Array]
) -> tuple[Array, Array]:
    """Spread ``mass`` (rates x crashes) over ``trials`` more.

    Returns what stays below ``width`` crashes, and how much reached it (one entry per rate).
    """
    import numpy as np

    known = blocks.get(trials)
    if known is None or known.shape[1] < width + 1:
        known = blocks[trials] = _binomials(trials, width + _TERMS, rate)
    if mass.shape[1] > len(rate):
        full = np.array([np.convolve(row, block) for row, block in zip(mass, known, strict=True)])
        out, faint = full[:, :width], full[:, width:].sum(axis=1)
    else:
        out, faint = np.zeros((len(rate), width)), np.zeros(len(rate))
        for start in range(mass.shape[1]):
            out[:, start:] += mass[:, start : start + 1] * known[:, : max(0, width - start)]
            faint += mass[:, start] * known[:, max(0, width - start) :].sum(axis=1)
    before = mass.sum(axis=1)
    fell = before - out.sum(axis=1)
    return out, np.where(fell < _FAINT * before, faint, fell)


def _binomials(trials: int, width: int, rate: Array) -> Array:
    """P(k crashes in ``trials``) for k < width: an array rates x width."""
    import numpy as np

    inside = np.clip(rate, _ZERO, 1 - 1e-16)[:, None]
    k = np.arange(width, dtype=np.float64)
    step = np.maximum(trials - k[1:] + 1.0, 0.0) / k[1:]
    with np.errstate(divide="ignore"):
        choose = np.concatenate(([0.0], np.cumsum(np.log(step))))
    miss = np.log1p(-inside)
    with np.errstate(over="ignore", under="ignore"):
        mass: Array = np.exp(choose + k * (np.log(inside) - miss) + trials * miss)
    return mass
