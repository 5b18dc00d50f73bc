"""The builder of ``culprit config``: kernels with a chosen part of the options changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_flaky_repro.culprit.building import Image, Shape, Skipped
from pytest_flaky_repro.culprit.candidates import Candidate, Subset
from pytest_flaky_repro.culprit.config import dotconfig
from pytest_flaky_repro.culprit.config.composition import Composition, Miss, Mixture
from pytest_flaky_repro.culprit.config.kconfig import read_kconfig
from pytest_flaky_repro.culprit.config.kernels import KernelStore
from pytest_flaky_repro.culprit.config.settling import Settled, SourceTree
from pytest_flaky_repro.errors import UsageError

_MANY = 20


@dataclass(frozen=True)
class Ends:
    """The two configurations that a search lies between, settled, and what did not take of them."""

    good: Settled
    bad: Settled
    refused: tuple[str, ...]  # sentences


class ConfigBuilder:
    """Builds kernels with some options of the bad configuration, and the rest of the good one."""

    shape = Shape.SET

    def __init__(self, mixture: Mixture, store: KernelStore, identity: str) -> None:
        self._mixture = mixture
        self._store = store
        self._compositions: dict[int, Composition] = {}
        self.identity = identity
        self.candidates: Sequence[Candidate] = [
            Candidate(change.name, detail=str(change)) for change in mixture.changes
        ]

    def build(self, subset: Subset) -> Image | Skipped:
        """The kernel of a subset; equal configurations are one kernel, with one evidence."""
        composition = self.composition(subset)
        if composition.settled.moving:
            moving = ", ".join(composition.settled.moving[:_MANY])
            return Skipped(f"does not settle: each make olddefconfig changes {moving}")
        kernel = self._store.kernel(composition.settled)
        if isinstance(kernel, Skipped):
            return kernel
        return replace(Image.of(kernel), brought=composition.companions)

    def composition(self, subset: Subset) -> Composition:
        """What Kconfig made of a subset."""
        if subset.mask not in self._compositions:
            self._compositions[subset.mask] = self._mixture.compose(subset.names)
        return self._compositions[subset.mask]


def read_ends(tree: SourceTree, good: Path, bad: Path, scratch: Path) -> Ends:
    """Both configurations, settled.

    UsageError when one of them does not settle, or holds a value that Kconfig calls invalid.
    """
    ends, sentences = [], []
    for option, path in (("--good", good), ("--bad", bad)):
        asked = dotconfig.parse(dotconfig.read(path, option))
        settled = tree.settle(asked, scratch)
        _refuse_unsettled(option, path, settled)
        missed = _not_taken(asked, settled)
        if missed:
            sentences.append(f"{option} {path}: not taken by this tree: {_some(missed)}")
        ends.append(settled)
    return Ends(ends[0], ends[1], tuple(sentences))


def _refuse_unsettled(option: str, path: Path, settled: Settled) -> None:
    if settled.refused:
        raise UsageError(
            f"{option} {path}: make olddefconfig refuses {', '.join(settled.refused[:_MANY])}: "
            "such a value does not exist. Mend the file"
        )
    if settled.moving:
        raise UsageError(
            f"{option} {path}: this configuration does not settle: each make olddefconfig changes "
            f"{', '.join(settled.moving[:_MANY])} again. Give these options values that agree"
        )


def _not_taken(asked: dict[str, str], settled: Settled) -> list[Miss]:
    got = settled.values
    return [
        Miss(name, value, got.get(name, "n"))
        for name, value in asked.items()
        if got.get(name, "n") != value
    ]


def _some(missed: Sequence[Miss]) -> str:
    shown = ", ".join(str(miss) for miss in missed[:_MANY])
    return shown if len(missed) <= _MANY else f"{shown}, and {len(missed) - _MANY} more"


def make_builder(tree: SourceTree, ends: Ends, store: KernelStore) -> ConfigBuilder:
    """The builder between two configurations. UsageError when nothing differs."""
    symbols = read_kconfig(tree.path, tree.arch)
    mixture = Mixture(tree, symbols, ends.good, ends.bad, store.folder / "settling")
    if not mixture.changes:
        raise UsageError(
            "the two configurations are the same once make olddefconfig has settled them: there "
            "is nothing to search. What differs in the files does not take in this tree"
            if ends.refused
            else "the two configurations are the same once make olddefconfig has settled them: "
            "there is nothing to search"
        )
    facts = [store.recipe, ends.good.digest, ends.bad.digest]
    identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return ConfigBuilder(mixture, store, identity)
