"""What the two full builds found: which objects have two variants, and which cannot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pytest_flaky_repro.culprit.disk import write_whole


@dataclass(frozen=True)
class Pair:
    """Both variants of one object: the digests of their files in the store."""

    name: str
    good: str
    bad: str


@dataclass(frozen=True)
class Objects:
    """The outcome of two full builds.

    ``pairs`` differ in what is loaded; ``same`` do not; ``excluded`` could not be built or linked
    bad, or are no part of the kernel that runs, each with the reason: they are good in every
    kernel. ``members`` are in vmlinux's own archives; any other (a vDSO's) is linked into
    something of its own first.
    """

    pairs: tuple[Pair, ...]
    same: tuple[str, ...]
    excluded: Mapping[str, str]
    members: frozenset[str]

    def without(self, excluded: Mapping[str, str]) -> Objects:
        """The same, with more objects excluded."""
        left = tuple(pair for pair in self.pairs if pair.name not in excluded)
        return Objects(left, self.same, {**self.excluded, **excluded}, self.members)

    def write(self, path: Path) -> None:
        record: dict[str, Any] = asdict(self) | {"members": sorted(self.members)}
        write_whole(path, json.dumps(record, indent=1))

    @classmethod
    def read(cls, path: Path) -> Objects:
        record = json.loads(path.read_text())
        return cls(
            tuple(Pair(**pair) for pair in record["pairs"]),
            tuple(record["same"]),
            record["excluded"],
            frozenset(record["members"]),
        )


def chosen(
    names: tuple[str, ...], only: tuple[str, ...], exclude: tuple[str, ...]
) -> tuple[str, ...]:
    """The names that match one of ``only`` (if there are any) and none of ``exclude``.

    They are globs; ``*`` goes over slashes, too.
    """
    return tuple(
        name
        for name in names
        if (not only or any(fnmatchcase(name, glob) for glob in only))
        and not any(fnmatchcase(name, glob) for glob in exclude)
    )
