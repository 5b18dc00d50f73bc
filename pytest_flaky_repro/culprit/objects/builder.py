"""Kernels in which a chosen subset of objects is bad."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pytest_flaky_repro.culprit.building import Image, Shape, Skipped
from pytest_flaky_repro.culprit.candidates import Candidate, Subset
from pytest_flaky_repro.culprit.disk import write_whole, writing
from pytest_flaky_repro.culprit.objects.linking import Linker, LinkFailed
from pytest_flaky_repro.culprit.objects.pairs import Pair
from pytest_flaky_repro.culprit.objects.store import ObjectStore, digest_of
from pytest_flaky_repro.errors import UsageError


@dataclass
class ObjectsBuilder:
    """A Builder: swaps objects in the tree and links. Kernels once made are kept.

    ``pairs`` are the candidates; their order is the search's. Sorted by name, neighbours in it are
    neighbours in the tree, and consecutive kernels differ in few objects. ``rest`` is a digest of
    what makes all other objects, which are the same in every kernel.
    """

    tree: Path
    store: ObjectStore
    pairs: Sequence[Pair]
    linker: Linker
    folder: Path
    rest: str
    shape: Shape = Shape.SET
    if_all_bad_fails: str = (
        " as long as what a boot cannot do without is bad: leave out, with --exclude GLOB, what "
        "runs before there is a stack to speak of, or ask about a part with --only GLOB"
    )

    @cached_property
    def candidates(self) -> Sequence[Candidate]:
        return tuple(Candidate(pair.name) for pair in self.pairs)

    @cached_property
    def identity(self) -> str:
        """Both variants of every candidate, and the rest: it may be all that has changed."""
        pairs = [[pair.name, pair.good, pair.bad] for pair in self.pairs]
        return hashlib.sha256(json.dumps([pairs, self.rest]).encode()).hexdigest()

    def forget_failures(self) -> None:
        """What did not link is tried again: its reason may have been mended."""
        for record in (self.folder / "kernels").glob("*.json"):
            if "skipped" in json.loads(record.read_text()):
                record.unlink()

    def build(self, subset: Subset) -> Image | Skipped:
        with writing(self.folder):
            return self._build(subset)

    def _build(self, subset: Subset) -> Image | Skipped:
        record = self.folder / "kernels" / f"{self._key(subset)}.json"
        if record.exists():
            known = json.loads(record.read_text())
            kept = self._kept(known.get("image", ""))
            if "skipped" in known:
                return Skipped(known["skipped"])
            if kept.exists():
                return Image.of(kernel=kept)
        record.parent.mkdir(parents=True, exist_ok=True)
        try:
            image = self.mix(subset.names)
        except LinkFailed as error:
            write_whole(record, json.dumps({"skipped": str(error)}))
            return Skipped(str(error))
        kept = self._keep(image)
        write_whole(record, json.dumps({"image": kept.name, "bad": subset.names}))
        return Image.of(kernel=kept)

    def mix(self, bad: Sequence[str]) -> Path:
        """Has exactly these bad in the tree, and links; returns the image in the tree.

        Raises LinkFailed.
        """
        wanted = set(bad)
        changed = []
        for pair in self.pairs:
            digest = pair.bad if pair.name in wanted else pair.good
            if self._in_tree[pair.name] != digest:
                self.store.place(digest, self.tree / pair.name)
                self._in_tree[pair.name] = digest
                changed.append(pair.name)
        self._unlinked |= set(changed)
        image = self.linker.link(self._unlinked)
        self._unlinked.clear()
        return image

    @cached_property
    def _in_tree(self) -> dict[str, str]:
        """What lies there: nobody wrote down how far an earlier run got."""
        self.linker.look_at_sources()
        found = {}
        for pair in self.pairs:
            path = self.tree / pair.name
            if not path.exists():
                raise UsageError(f"{path} is gone: start again with --rebuild")
            found[pair.name] = digest_of(path)
        return found

    @cached_property
    def _unlinked(self) -> set[str]:
        """What has changed since the last link that worked."""
        return set()

    def _key(self, subset: Subset) -> str:
        words = json.dumps([self.identity, list(subset.names)])
        return hashlib.sha256(words.encode()).hexdigest()[:24]

    def _kept(self, name: str) -> Path:
        return self.folder / "images" / name

    def _keep(self, image: Path) -> Path:
        images = ObjectStore(self.folder / "images")
        digest = images.put(image)
        kept = self._kept(f"{digest[:16]}-{image.name}")
        if not kept.exists():
            kept.hardlink_to(images.path(digest))
        return kept
