"""Evidence: append-only JSON lines, on disk before they count.

A file belongs to one writer. Its first line is the plan; each trial has a launch line (before its
guest is started), a start line (when the guest said START) and a trial line (when it ended).
Each line ends with a checksum of its own (``crc``: CRC-32 of the line up to it).
A later run that continues an earlier one writes a file of its own, whose plan line names the
files it continues.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import socket
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.outcomes import Outcome

SCHEMA = 1
UNFINISHED = "launched, and the run ended before the trial did"
DAMAGED = "its records are damaged"
AGAIN = "Free some space or name another folder with --repro-evidence, then go on: --repro-resume"


class EvidenceWarning(UserWarning):
    """Something in an evidence file could not be used."""


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
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path, self._descriptor = _new_file(folder)
        except OSError as error:
            raise _cannot_write(folder, error) from error
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)  # says to others: still being written
        record = asdict(plan) | {"hash": plan.digest, "created": now(), "host": hostname()}
        self._append("plan", record)

    def launch(self, ticket: int, seed: str, arm: str, boot: str = "") -> None:
        """``boot``: the boot that the trial shares with others, if it does."""
        shared = {"boot": boot} if boot else {}
        self._append("launch", {"ticket": ticket, "seed": seed, "arm": arm, "at": now()} | shared)

    def start(self, ticket: int, at: str) -> None:
        self._append("start", {"ticket": ticket, "at": at})

    def trial(self, trial: Trial) -> None:
        record = asdict(trial) | {"outcome": trial.outcome.value, "at": now()}  # the trial's end
        self._append("trial", record)

    def keep_console(self, ticket: int, console: bytes) -> str:
        """Writes a trial's console beside the evidence; returns its name there."""
        name = f"{self.path.stem}-trial{ticket + 1:05}.console"
        try:
            (self.folder / name).write_bytes(console)
        except OSError as error:
            raise _cannot_write(self.folder / name, error) from error
        return name

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _append(self, kind: str, record: Mapping[str, Any]) -> None:
        text = json.dumps({"schema": SCHEMA, "type": kind, **record}).encode()
        line = b'%s, "crc": %d}\n' % (text[:-1], zlib.crc32(text[:-1]))
        try:
            done = os.write(self._descriptor, line)
            if done != len(line):
                raise OSError(errno.ENOSPC, "the disk is full")
            if os.fstat(self._descriptor).st_nlink == 0:
                raise OSError(errno.ENOENT, "the file was deleted meanwhile")
            os.fdatasync(self._descriptor)
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The records of one file. A line that is not whole is dropped with a warning."""
    try:
        content = path.read_bytes()
    except OSError as error:
        msg = f"the evidence file {path} cannot be read: {error.strerror}"
        raise UsageError(msg) from error
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            record = _record(line)
        except ValueError:
            message = f"{path}:{number}: not a whole record, left out"
            warnings.warn(message, EvidenceWarning, stacklevel=2)
            continue
        if record.get("schema") != SCHEMA:
            msg = (
                f"{path}:{number}: evidence of schema {record.get('schema')}, this version reads "
                f"{SCHEMA}. Use the version that wrote it."
            )
            raise UsageError(msg)
        yield record


def _record(line: bytes) -> dict[str, Any]:
    """One line; ValueError when it is not whole, or not what was written."""
    text, _, _ = line.rpartition(b', "crc": ')
    record = json.loads(line)
    if not isinstance(record, dict) or not isinstance(record.get("type"), str):
        raise ValueError("not a record")  # noqa: TRY004 - one kind of damage among others
    if record.pop("crc", None) != zlib.crc32(text) and record.get("schema") == SCHEMA:
        raise ValueError("the checksum is wrong")
    return record


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


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def hostname() -> str:
    return socket.gethostname()


def _new_file(folder: Path) -> tuple[Path, int]:
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
    path = folder / f"trials-{stamp}-{os.getpid()}.jsonl"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return path, os.open(path, flags, 0o644)


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
    """The evidence files in a folder and below it; a file stands for itself."""
    if folder.is_file():
        yield folder
    elif folder.is_dir():
        yield from folder.rglob("trials-*.jsonl")
    else:
        raise UsageError(f"{folder}: no such folder. Give folders with evidence")


def refuse_if_written(path: Path, option: str) -> None:
    """UsageError, naming the ``option`` that wants to go on from it, while a run writes to it."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"{option}: {path} is still being written by another run. Wait for its end."
            raise UsageError(msg) from None


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


def _cannot_write(path: Path, error: OSError) -> InfrastructureError:
    return InfrastructureError(f"evidence cannot be written to {path}: {error.strerror}. {AGAIN}")
