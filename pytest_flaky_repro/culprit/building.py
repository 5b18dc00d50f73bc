"""What a backend has to offer: something that builds with a chosen subset of candidates bad."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pytest_flaky_repro.culprit.candidates import Candidate, Subset


class Shape(enum.Enum):
    """Which subsets can be built."""

    SET = "set"  # any: objects, options, passes, boot words
    CHAIN = "chain"  # prefixes only: commit j has all the changes up to j


@dataclass(frozen=True)
class Image:
    """Something that trials can be run on.

    ``id`` stands for everything that can make two images behave differently: evidence of equal ids
    is added up, so a step that changes nothing costs no trials and is never blamed. ``kernel``,
    ``append`` (more words for the kernel's command line) and ``environment`` (``NAME=VALUE`` for
    the reproducer) are what trials in guests use; a tester of your own may use ``artefact``.
    ``brought`` names candidates that are bad in it although the subset it was built for has them
    good: its members cannot be bad without. A crash of theirs is not blamed on the members.
    """

    id: str
    kernel: Path | None = None
    append: str = ""
    environment: tuple[str, ...] = ()
    artefact: str = ""
    brought: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        kernel: Path | None = None,
        *,
        append: str = "",
        environment: Sequence[str] = (),
        artefact: str = "",
    ) -> Image:
        """An image whose id is the digest of its kernel's content and of all its words."""
        digest = hashlib.sha256(kernel.read_bytes()).hexdigest() if kernel is not None else ""
        parts = json.dumps([digest, append, list(environment), artefact])
        return cls(
            hashlib.sha256(parts.encode()).hexdigest(),
            kernel,
            append,
            tuple(environment),
            artefact,
        )


@dataclass(frozen=True)
class Skipped:
    """A subset that cannot be built or linked. It is never taken for good."""

    reason: str


class Builder(Protocol):
    """Builds images. The search measures how long each build takes and asks for few of them.

    ``candidates`` keep their order for the whole search: prefix ``j`` is the first ``j`` of them
    bad. Put things in an order in which prefixes build (dependencies first).

    ``identity`` is a digest of everything else that the images depend on (trees, flags, configs,
    compilers): evidence of another identity is not added up.

    ``build`` returns an Image, or Skipped when this subset cannot be built. It may be asked for
    the same subset again, in this run and after a resume: keep what is costly. An image's files
    have to stay until the search ends. What no subset could survive (a missing compiler, a full
    disk) is a UsageError or an InfrastructureError. A builder may also have ``describe(subset)``,
    its own words for a subset.
    """

    @property
    def candidates(self) -> Sequence[Candidate]: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def identity(self) -> str: ...
    def build(self, subset: Subset) -> Image | Skipped: ...
