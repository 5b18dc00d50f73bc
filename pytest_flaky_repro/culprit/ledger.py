"""A search's evidence: append-only JSON lines, on disk before they count.

One file a run, in the search's folder. The head says what was searched for; then come builds,
skips and trials, each a line of a journal (journal.py), and what the run answered. Going on means
reading all files of the same question: counts add up in any order, so evidence of another machine
may simply be put beside them. A run that begins anew names those that it leaves behind.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.candidates import Subset, Universe
from pytest_flaky_repro.culprit.command_files import changed_files
from pytest_flaky_repro.culprit.result import CulpritSet, Kind
from pytest_flaky_repro.culprit.tallies import Tallies
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.journal import (
    EvidenceWarning,
    Journal,
    hostname,
    is_written,
    now,
    read_records,
    refuse_if_written,
)
from pytest_flaky_repro.stats.statement import counted

FILES = "search-*.jsonl"
AGAIN = "Free some space or name another folder with --evidence, then go on: --resume"


@dataclass(frozen=True)
class Question:
    """What identifies a search: evidence of other questions is never added to it."""

    universe: str
    builder: str
    tester: str
    crash: str | None

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


@dataclass
class Seconds:
    """Time spent, by what on."""

    builds: list[float] = field(default_factory=list)
    skips: list[float] = field(default_factory=list)
    survivals: list[float] = field(default_factory=list)
    crashes: list[float] = field(default_factory=list)
    rest: float = 0.0  # trials that taught nothing


@dataclass
class Book:
    """Everything that the records say, in the form in which the search needs it.

    With a ``boot_size`` above 1, what is called a trial here is a boot of so many at most.
    """

    boot_size: int = 1
    tallies: Tallies = field(default_factory=Tallies)
    seconds: Seconds = field(default_factory=Seconds)
    titles: dict[str, Counter[str]] = field(default_factory=dict)  # crash titles of each image
    names: dict[str, set[str]] = field(default_factory=dict)  # titles and alternates, likewise
    seeds: dict[str, list[str]] = field(default_factory=dict)  # of each image's crashes
    reported: Counter[str] = field(default_factory=Counter)  # trials of each image, of any outcome
    others: Counter[str] = field(default_factory=Counter)
    infrastructure: int = 0
    untestable: dict[str, str] = field(default_factory=dict)
    words: dict[int, str] = field(default_factory=dict)  # a subset, as its backend puts it
    newest: dict[int, Mapping[str, Any]] = field(default_factory=dict)  # builds of each subset
    answer: Mapping[str, Any] = field(default_factory=dict)  # until more is tried
    unknown: Counter[str] = field(default_factory=Counter)  # trials of images whose build is lost
    _counted: set[tuple[str, str]] = field(default_factory=set)  # images and seeds

    def enter(self, kind: str, record: Mapping[str, Any]) -> None:
        """Counts one record. The same seed on the same image is the same trial, and counts once."""
        self.answer = record if kind == "answer" else {}
        if "words" in record:
            self.words[int(record["mask"], 16)] = record["words"]
        if kind == "build":
            self._build(record)
            self.newest[int(record["mask"], 16)] = record
        elif kind == "skip":
            self.tallies.skip(int(record["mask"], 16), record["reason"])
            self.seconds.skips.append(record["seconds"])
        elif kind in ("trial", "untestable") and record["image"] not in self.tallies.images:
            self.unknown[record["image"]] += kind == "trial"
        elif kind == "untestable":
            self.untestable[record["image"]] = record["reason"]
            for mask in self.tallies.masks[record["image"]]:
                self.tallies.skip(mask, record["reason"])
        elif kind == "trial" and not self._is_counted(record["image"], record["seed"]):
            self._trial(record["image"], record)

    def _is_counted(self, image: str, seed: str) -> bool:
        """Two runs, or machines, with one --seed repeat each other: that is no more evidence."""
        if not seed:
            return False
        known = (image, seed) in self._counted
        self._counted.add((image, seed))
        return known

    def images(self) -> dict[int, Image]:
        """What was built of each subset, by whatever run, as far as it is still there."""
        found = {mask: _image_of(record) for mask, record in self.newest.items()}
        return {mask: image for mask, image in found.items() if image is not None}

    def _build(self, record: Mapping[str, Any]) -> None:
        mask, image = int(record["mask"], 16), record["image"]
        if mask not in self.tallies.built:
            self.seconds.builds.append(record["seconds"])
        self.tallies.build(mask, image, int(record.get("brought", "0"), 16))
        if image in self.untestable:
            self.tallies.skip(mask, self.untestable[image])

    def _trial(self, image: str, record: Mapping[str, Any]) -> None:
        outcome = TrialOutcome(record["outcome"])
        self.reported[image] += 1
        if outcome is TrialOutcome.SURVIVED:
            self.tallies.survive(image)
            self.seconds.survivals.append(record["seconds"])
        elif outcome is TrialOutcome.CRASHED:
            self.tallies.crash(image)
            self.seconds.crashes.append(record["seconds"])
            self.titles.setdefault(image, Counter())[record["title"]] += 1
            names = {record["title"], *record["alternates"]} - {""}
            self.names.setdefault(image, set()).update(names)
            self.seeds.setdefault(image, []).append(record["seed"])
        else:
            self.seconds.rest += record["seconds"]
            self.infrastructure += outcome is TrialOutcome.INFRASTRUCTURE
            if outcome is TrialOutcome.OTHER:
                self.others[record["title"]] += 1

    def signature(self, images: Iterable[str]) -> Signature | None:
        """All names of the crashes of these images; None before the first."""
        names = {name for image in images for name in self.names.get(image, ())}
        return Signature(titles=frozenset(names)) if names else None


def _image_of(record: Mapping[str, Any]) -> Image | None:
    """What a record of a build names, if it is there: records of another machine's may be read."""
    path = Path(record["kernel"])
    if not record["kernel"]:  # nothing was built: words, say
        return Image(record["image"])
    if not path.exists():
        return None
    kernel = path if path.is_file() else None
    return Image(record["image"], kernel, artefact=record.get("artefact", record["kernel"]))


class Ledger:
    """Writes a file of its own, and keeps the book of it and of those it goes on from."""

    def __init__(
        self,
        folder: Path,
        question: Question,
        universe: Universe,
        *,
        resume: bool,
        info: Mapping[str, Any],
    ) -> None:
        self.book = Book(info.get("boot_size", 1))
        self._files = info.get("files", {})
        self.continues = self._replay(folder, question) if resume else ()
        left_behind = () if resume else _ended_runs(folder, question)
        self._journal = Journal(folder, "search", AGAIN)
        self.path = self._journal.path
        head = {
            "question": question.digest,
            **asdict(question),
            "candidates": [candidate.name for candidate in universe],
            "weights": [candidate.weight for candidate in universe],
            "info": dict(info),
            "leaves": left_behind,
            "created": now(),
            "host": hostname(),
        }
        self._journal.append("search", head)

    def _replay(self, folder: Path, question: Question) -> tuple[str, ...]:
        found = []
        others = []
        for path, records in standing(sorted(folder.glob(FILES))):
            if records[0]["question"] != question.digest:
                if any(map(_is_trial, records)):
                    others.append((path, records[0]))  # else there is nothing to be added up
                continue
            refuse_if_written(path, "--resume")
            for record in records[1:]:
                self.book.enter(record["type"], record)
            found.append(path.name)
        if others and not found:
            raise _another_question(*others[-1], question, self._files)
        if lost := self.book.unknown.total():
            message = (
                f"--resume: {counted(lost, 'trials')} in {folder} are left out: the record of what "
                "was built for them is damaged"
            )
            warnings.warn(message, EvidenceWarning, stacklevel=2)
        return tuple(found)

    def build(self, subset: Subset, image: Image, seconds: float) -> None:
        kernel = str(image.kernel or image.artefact)
        facts = {"image": image.id, "seconds": seconds, "kernel": kernel}
        brought = subset.universe.subset(image.brought).mask
        besides = {"brought": f"{brought:x}"} if brought else {}
        self._enter("build", _named(subset) | facts | {"artefact": image.artefact} | besides)

    def skip(self, subset: Subset, reason: str, seconds: float) -> None:
        self._enter("skip", _named(subset) | {"reason": reason, "seconds": seconds})

    def untestable(self, image: str, reason: str) -> None:
        self._enter("untestable", {"image": image, "reason": reason})

    def trial(self, image: str, report: TrialReport) -> None:
        facts = asdict(report) | {"image": image, "outcome": report.outcome.value, "at": now()}
        self._enter("trial", facts)

    def answer(self, kind: Kind, sets: Iterable[CulpritSet], probability: float, why: str) -> None:
        """How this run ended: for readers. A search that goes on thinks for itself."""
        facts = {
            "kind": kind.value,
            "sets": [_answered(found) for found in sets],
            "probability": probability,
            "why": why,
            "at": now(),
        }
        self._enter("answer", facts)

    def close(self) -> None:
        self._journal.close()

    def _enter(self, kind: str, record: Mapping[str, Any]) -> None:
        self._journal.append(kind, record)
        self.book.enter(kind, record)


def standing(files: Iterable[Path]) -> list[tuple[Path, list[dict[str, Any]]]]:
    """The searches' files among these, with their records, without what a later run left behind.

    A run that died before its head was whole asked for nothing, and one that died before its first
    trial leaves nothing behind: --resume was forgotten, say.
    """
    read = [(path, list(read_records(path))) for path in files]
    runs = [(path, records) for path, records in read if _is_search(records)]
    anew = [(path, r[0].get("leaves", ())) for path, r in runs if any(map(_is_trial, r))]
    left = {path.parent / name for path, names in anew for name in names}
    return [(path, records) for path, records in runs if path not in left]


def _is_search(records: Sequence[Mapping[str, Any]]) -> bool:
    return bool(records) and records[0]["type"] == "search"


def _is_trial(record: Mapping[str, Any]) -> bool:
    return bool(record["type"] == "trial")


def _ended_runs(folder: Path, question: Question) -> tuple[str, ...]:
    """Earlier runs of a question, which one that begins anew leaves behind."""
    heads = [(path, list(islice(read_records(path), 1))) for path in sorted(folder.glob(FILES))]
    return tuple(
        path.name
        for path, head in heads
        if _is_search(head) and head[0]["question"] == question.digest and not is_written(path)
    )


def _answered(found: CulpritSet) -> dict[str, Any]:
    confirmations = [
        {
            **_named(each.subset),
            "claim": each.claim.value,
            "survived": each.survived,
            "crashed": each.crashed,
            "error": each.error,
            "rate_lower": each.rate_lower,
            "rate_upper": each.rate_upper,
        }
        for each in found.confirmations
    ]
    parts = {"names": found.names, "probability": found.probability}
    return parts | {"confirmations": confirmations}


def _named(subset: Subset) -> dict[str, str]:
    return {"mask": f"{subset.mask:x}", "words": str(subset)}


def _another_question(
    path: Path, head: Mapping[str, Any], question: Question, files: Mapping[str, str]
) -> UsageError:
    words = {
        "universe": "the candidates or their order",
        "builder": "what they are built from",
        "tester": "the reproducer or how it is run",
        "crash": "the crash that counts",
    }
    now_asked = asdict(question)
    changed = [word for key, word in words.items() if head.get(key) != now_asked[key]]
    edited = changed_files(head.get("info", {}).get("files", {}), files)
    named = f" (by the content of {', '.join(edited)})" if edited else ""
    return UsageError(
        f"--resume: {path} holds evidence of another search: {' and '.join(changed)} changed"
        f"{named}, and its trials cannot be added up. Run without --resume to start anew (the old "
        "evidence stays)"
    )
