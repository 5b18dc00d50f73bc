"""What runs trials on an image, and what a trial says."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image


class TrialOutcome(enum.Enum):
    """What one trial says of its image."""

    CRASHED = "crashed"  # with the target signature: proof, up to the noise
    SURVIVED = "survived"  # evidence only: the crash is a matter of luck
    OTHER = "other"  # another crash than the one that is searched for: teaches nothing
    INFRASTRUCTURE = "infrastructure"  # the harness failed: teaches nothing

    def __bool__(self) -> bool:
        raise TypeError("a TrialOutcome has more than two answers: compare it by identity")


@dataclass(frozen=True)
class TrialReport:
    """One trial. ``title`` names its crash, ``alternates`` are other names for the same crash."""

    outcome: TrialOutcome
    seconds: float
    seed: str = ""
    title: str = ""
    alternates: tuple[str, ...] = ()
    detail: str = ""
    record: str = ""  # where its own record is: FILE:TICKET


def unit_of(boot_size: int) -> str:
    """What a search counts: trials, or the boots that so many of them share."""
    return "trials" if boot_size == 1 else "boots"


@dataclass(frozen=True)
class Untestable:
    """An image that no trial can be run on (it does not boot, say): a skip, never good."""

    reason: str


class Tester(Protocol):
    """Runs trials.

    ``run`` runs trials on ``image`` until the first one that crashes with the ``target`` signature
    (any crash, when it is None) or until ``survivals`` have survived, and tells ``on_trial`` of
    each, in the order in which they were *launched*. ``on_trial`` may raise: then no more trials
    are wanted. ``already`` trials were reported for this image before: seeds go on from there.

    Returns None, or Untestable when trials on this image teach nothing, whatever their number.
    Raises InfrastructureError when the harness itself cannot go on.

    ``identity`` is a digest of what trials depend on apart from the image.

    A tester may have a ``boot_size``: then each report is of a boot of so many trials at most,
    and everything that is counted, survivals asked for and rates too, is boots.
    """

    @property
    def identity(self) -> str: ...
    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None: ...
