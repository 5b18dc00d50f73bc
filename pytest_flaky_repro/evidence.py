"""Evidence of campaigns: what was planned, launched, and came of it (in a journal: journal.py).

A file's first line is the plan; each trial has a launch line (before its guest is started), a
start line (when the guest said START) and a trial line (when it ended). The last line says what
ended the run, unless it was interrupted. A later run that continues an earlier one writes a file of
its own, whose plan line names the files it continues.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.journal import (
    Journal,
    holds_records,
    hostname,
    now,
    read_records,
    refuse_if_written,
)
from pytest_flaky_repro.outcomes import Outcome

UNFINISHED = "launched, and the run ended before the trial did"
DAMAGED = "its records are damaged"
AGAIN = "Free some space or name another folder with --repro-evidence, then go on: --repro-resume"


@dataclass(frozen=True)
class Trial:
    """One trial's record. Times in seconds; ``console`` is a path relative to the file's folder."""

    experiment: str
    ticket: int
    seed: str
    host: str
    accel: str
    boot: str
    started: str | None  # when START came, ISO 8601 UTC; None if it never did
    boot_s: float
    exposure_s: float
    outcome: Outcome
    title: str = ""
    status: str | None = None  # "exit 3", "signal 11", "time over"
    console: str | None = None
    detail: str = ""
    alternates: tuple[str, ...] = ()
    kind: str | None = None  # the class of crash
    arm: str = "test"  # which of a campaign's experiments: test, control, ...
    place: int = 1  # among the trials of its boot
    spent: str = ""  # why its boot took no further trial, if it could have

    @property
    def number(self) -> int:
        """The trial as people count: the first is 1 (its ticket is 0)."""
        return self.ticket + 1


@dataclass(frozen=True)
class PlanRecord:
    """What a campaign set out to do. ``parameters`` is everything that the hash covers."""

    experiment: str
    parameters: Mapping[str, Any]
    item: str
    kernel: str
    continues: tuple[str, ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)  # not covered: versions, paths

    @property
    def digest(self) -> str:
        text = json.dumps(self.parameters, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(f"{self.experiment} {text}".encode()).hexdigest()


@dataclass(frozen=True)
class History:
    """What earlier runs of the same plan left: trials in launch order, with no holes."""

    files: tuple[str, ...] = ()
    trials: tuple[Trial, ...] = ()

    @property
    def next_ticket(self) -> int:
        return self.trials[-1].ticket + 1 if self.trials else 0


class EvidenceWriter:
    """Appends to a new file of its own, safe to use from several threads that share a lock."""

    def __init__(self, folder: Path, plan: PlanRecord) -> None:
        self.folder = folder
        self._journal = Journal(folder, "trials", AGAIN)
        self.path = self._journal.path
        record = asdict(plan) | {"hash": plan.digest, "created": now(), "host": hostname()}
        self._journal.append("plan", record)

    def launch(self, ticket: int, seed: str, arm: str, boot: str = "") -> None:
        """``boot``: the boot that the trial shares with others, if it does."""
        shared = {"boot": boot} if boot else {}
        facts = {"ticket": ticket, "seed": seed, "arm": arm, "at": now()}
        self._journal.append("launch", facts | shared)

    def start(self, ticket: int, at: str) -> None:
        self._journal.append("start", {"ticket": ticket, "at": at})

    def trial(self, trial: Trial) -> None:
        record = asdict(trial) | {"outcome": trial.outcome.value, "at": now()}  # the trial's end
        self._journal.append("trial", record)

    def keep_console(self, ticket: int, console: bytes) -> str:
        """Writes a trial's console beside the evidence; returns its name there."""
        name = f"{self.path.stem}-trial{ticket + 1:05}.console"
        self._journal.keep(name, console)
        return name

    def end(self, conclusion: str, why: str) -> None:
        """What ended the run, for reports: a disk that is full by now takes no verdict away."""
        with suppress(InfrastructureError):
            self._journal.append("end", {"conclusion": conclusion, "why": why, "at": now()})

    def close(self) -> None:
        self._journal.close()


def load_history(folder: Path, plan: PlanRecord) -> History:
    """What the newest chain of files of this plan holds, for ``--repro-resume``.

    UsageError when there are only other plans' (the difference to the newest is named), or when it
    is still being written.
    """
    found = [(file, list(read_records(file))) for file in sorted(folder.glob("trials-*.jsonl"))]
    found = [(file, records) for file, records in found if records]  # no plan: nothing launched
    if not found:
        return History()
    same = [pair for pair in found if pair[1][0].get("hash") == plan.digest]
    newest, records = found[-1]
    if same and records[0]["type"] == "plan":
        newest, records = _last_of(same)  # what was tried in between stays what it is
    refuse_if_written(newest, "--repro-resume")
    if records[0]["type"] != "plan":
        msg = (
            f"--repro-resume: {newest} lost the line with its plan, so what its trials were is "
            "unknown. Run without --repro-resume to start anew (the old evidence stays)."
        )
        raise UsageError(msg)
    _refuse_another_plan(newest, records[0], plan)
    chain = [*records[0]["continues"], newest.name]
    read = {file.name: records for file, records in found}
    files = [read.get(name) or list(read_records(folder / name)) for name in chain]
    return History(tuple(chain), tuple(replayed(files, plan.experiment)))


def _last_of(
    found: Sequence[tuple[Path, list[dict[str, Any]]]],
) -> tuple[Path, list[dict[str, Any]]]:
    """The newest file that no other continues: a clock that was set back misnames the newest."""
    continued = {name for _, records in found for name in records[0].get("continues", ())}
    return [pair for pair in found if pair[0].name not in continued][-1]


def replayed(files: Sequence[Sequence[Mapping[str, Any]]], experiment: str) -> list[Trial]:
    """The trials of a chain of files, in launch order.

    A launch without a trial line is LOST if it had started, VOID if it had not. A ticket without
    any line is LOST too: what it came to is unknown.
    """
    trials: dict[int, Trial] = {}
    for records in files:
        started = {r["ticket"]: r["at"] for r in records if r["type"] == "start"}
        for record in records:
            if record["type"] == "launch":
                began = started.get(record["ticket"])
                trials.setdefault(record["ticket"], _unfinished(record, experiment, began))
            elif record["type"] == "trial":
                trials[record["ticket"]] = trial_of(record)
    return [
        trials.get(ticket) or _unknown(ticket, experiment)
        for ticket in range(max(trials, default=-1) + 1)
    ]


def _unknown(ticket: int, experiment: str) -> Trial:
    blank = {"ticket": ticket, "seed": ""}
    return replace(_unfinished(blank, experiment, now()), started=None, detail=DAMAGED)


def _unfinished(launch: Mapping[str, Any], experiment: str, began: str | None) -> Trial:
    return Trial(
        experiment=experiment,
        ticket=launch["ticket"],
        seed=launch["seed"],
        host=hostname(),
        accel="",
        boot=launch.get("boot", ""),
        started=began,
        boot_s=0.0,
        exposure_s=0.0,
        outcome=Outcome.LOST if began else Outcome.INFRASTRUCTURE,
        detail=UNFINISHED,
        arm=launch.get("arm", "test"),
    )


def trial_of(record: Mapping[str, Any]) -> Trial:
    """A Trial from its line."""
    known = {name: record[name] for name in Trial.__dataclass_fields__ if name in record}
    known["outcome"] = Outcome(record["outcome"])
    known["alternates"] = tuple(record.get("alternates", ()))
    return Trial(**known)


def folder_name(item: str) -> str:
    """A folder for one item's evidence: readable, unique, and never a path of its own."""
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", item).strip(".-") or "item"
    if len(readable) > 80:  # the end tells tests apart; it begins with a whole word
        readable = readable[-80:].partition("-")[2] or readable[-80:]
    return f"{readable}-{hashlib.sha256(item.encode()).hexdigest()[:10]}"


def without_copies(
    records: Mapping[Path, list[dict[str, Any]]],
) -> dict[Path, list[dict[str, Any]]]:
    """Each file once, the fullest copy: an artifact unpacked twice must not count twice."""
    kept: dict[tuple[str, str, str], Path] = {}
    for file, lines in records.items():
        if not lines or lines[0]["type"] != "plan":
            continue  # a run that died before its plan was whole launched nothing
        key = (file.name, lines[0]["created"], lines[0]["host"])
        if key not in kept or len(lines) > len(records[kept[key]]):
            kept[key] = file
    return {file: records[file] for file in kept.values()}


def files_below(folder: Path) -> Iterator[Path]:
    """The evidence files in a folder and below it; a file stands for itself.

    UsageError for what is neither, before anything is read of the others.
    """
    if folder.is_file():
        if not holds_records(folder):
            raise UsageError(
                f"{folder}: this file holds no evidence. Expected a folder of --repro-evidence, or "
                "a file trials-*.jsonl of one"
            )
        yield folder
    elif folder.is_dir():
        yield from folder.rglob("trials-*.jsonl")
    else:
        raise UsageError(f"{folder}: no such folder. Give folders with evidence")


def _refuse_another_plan(path: Path, record: Mapping[str, Any], plan: PlanRecord) -> None:
    if record["hash"] == plan.digest:
        return
    before, after = record["parameters"], json.loads(json.dumps(dict(plan.parameters)))
    keys = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    keys = [key for key in keys if key != "lines"] or keys  # lines follow from the other ones
    changed = "; ".join(f"{k}: was {before.get(k)!r}, is {after.get(k)!r}" for k in keys)
    msg = (
        f"--repro-resume: {path} holds evidence of another plan, and trials of different plans "
        f"cannot be added up. What differs: {changed or 'the experiment'}. "
        "Run without --repro-resume to start anew (the old evidence stays)."
    )
    raise UsageError(msg)
