"""What a search says at its end: never a bare name, always with what it rests on."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.candidates import Candidate, Subset


class Kind(enum.Enum):
    """The answers a search can give."""

    SINGLE = "single"  # one candidate alone makes the crash
    ALL_OF = "all of"  # several that crash only together (AND)
    ANY_OF = "any of"  # several sets, each of which crashes without the others (OR)
    NOT_HERE = "not in these candidates"  # all good crashes too: proof
    UNRESOLVED = "unresolved"  # stopped before the confidence was reached
    NO_CRASH = "no crash"  # all bad never crashed: nothing to search for

    def __bool__(self) -> bool:
        raise TypeError("a Kind has more than two answers: compare it by identity")


class Claim(enum.Enum):
    """What a confirmation is about."""

    SUFFICIENT = "sufficient"  # all good but these: crashes
    NECESSARY = "necessary"  # a set without one of its members: survives
    COMPLETE = "complete"  # all bad but these: survives, so no other culprit was missed


@dataclass(frozen=True)
class Confirmation:
    """One confirming image and its trials.

    ``error`` is the probability that the claim is false although the trials came out like this:
    of SUFFICIENT that its crashes were noise; of NECESSARY and COMPLETE that what is left can
    crash as often as was measured and yet survived. ``rate_lower`` and ``rate_upper`` bound the
    image's crash rate (``confidence`` of the search, each side; they hold wherever trials stop).
    """

    claim: Claim
    subset: Subset
    image: Image | None
    survived: int
    crashed: int
    error: float
    rate_lower: float
    rate_upper: float
    seeds: tuple[str, ...] = ()  # of the trials that crashed


@dataclass(frozen=True)
class CulpritSet:
    """Candidates that crash together and not without any of them.

    ``probability`` is the posterior probability that exactly these are a culprit.
    """

    candidates: tuple[Candidate, ...]
    probability: float
    confirmations: tuple[Confirmation, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(candidate.name for candidate in self.candidates)


@dataclass(frozen=True)
class Leader:
    """A candidate that may be the culprit, and its posterior probability."""

    candidate: Candidate
    probability: float


@dataclass(frozen=True)
class Spent:
    """What a search cost, over all its runs. Trials are boots where ``boot_size`` is above 1."""

    builds: int  # distinct subsets that were built
    skips: int
    trials: int  # crashed or survived
    crashes: int
    others: int  # crashes with another signature
    infrastructure: int
    build_s: float
    trial_s: float
    boot_size: int = 1  # trials of one boot at most


@dataclass(frozen=True)
class Result:
    """The answer. ``why`` is one clause: what ended the search.

    ``credible`` holds the most probable candidates (of what is left unresolved, or of the last
    chain that was searched) that together reach the confidence. ``others`` counts crashes with
    another signature by their titles; ``skipped`` gives subsets that could not be built or tested
    and the reasons. ``explained`` are subsets that crashed, too, and the candidates that their
    builds brought along: a culprit set among these is why.
    """

    kind: Kind
    sets: tuple[CulpritSet, ...]
    probability: float
    confidence: float
    why: str
    credible: tuple[Leader, ...]
    rate: tuple[float, float, float]  # of a trial with the culprit in: lower, mean, upper
    signature: str
    spent: Spent
    others: Mapping[str, int]
    skipped: tuple[tuple[Subset, str], ...]
    evidence: Path | None
    explained: tuple[tuple[Subset, Subset], ...] = ()
    resume: str = ""  # how to go on, when the search is unresolved

    @property
    def names(self) -> tuple[str, ...]:
        """Every candidate of every culprit set."""
        return tuple(name for found in self.sets for name in found.names)
