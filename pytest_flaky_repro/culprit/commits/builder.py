"""The builder of ``culprit commits``: the tree of each commit of a chain."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from pytest_flaky_repro.culprit.building import Image, Shape, Skipped
from pytest_flaky_repro.culprit.candidates import Candidate, Subset
from pytest_flaky_repro.culprit.commits.builds import CommitBuilds, content_digest
from pytest_flaky_repro.culprit.commits.history import Chain, Commit, Repository


class CommitBuilder:
    """Builds the commits of one chain: with the first ``j`` changes is the ``j``-th commit.

    ``kernel`` is the path of the kernel among what is kept of a build; without one, an image's
    artefact is the folder of what is kept.
    """

    shape = Shape.CHAIN

    def __init__(
        self, chain: Chain, builds: CommitBuilds, facts: Sequence[str], kernel: str | None = None
    ) -> None:
        self.chain = chain
        self._builds = builds
        self.files = builds.recipe.files
        self._kernel = kernel
        self.candidates: Sequence[Candidate] = [
            Candidate(commit.name, detail=commit.subject) for commit in chain.commits
        ]
        range_ = [chain.base, chain.commits[-1].sha]
        self.identity = hashlib.sha256(json.dumps([*range_, *facts]).encode()).hexdigest()

    def build(self, subset: Subset) -> Image | Skipped:
        """What is kept of a commit's build."""
        if subset.prefix is None:
            return Skipped("no commit has just these changes")
        kept = self._builds.get(self.chain.at(subset.prefix))
        if isinstance(kept, Skipped):
            return kept
        if self._kernel is not None:
            return Image.of(kept / self._kernel)
        return Image(content_digest(kept), artefact=str(kept))

    def describe(self, subset: Subset) -> str:
        """The commit that a subset is."""
        if not subset.prefix:
            return f"at {self.chain.base[:12]}, below the first of them"
        return f"at {self.chain.commits[subset.prefix - 1].name}"


def merged_chains(repository: Repository, merge: Commit) -> Iterator[Chain]:
    """What a merge brought in: for each further parent its chain, with the merge at the end.

    The culprit is a commit of a merged branch if that branch's tip crashes, too; the merge itself
    if neither side does.
    """
    for parent in merge.parents[1:]:
        side = repository.side(parent, merge.parents[0])
        if side is not None:
            yield Chain(side.base, (*side.commits, merge))
