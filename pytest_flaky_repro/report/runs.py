"""Evidence files as a report reads them: each run with its plan, its trials and their launches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import Trial, files_below, replayed, without_copies
from pytest_flaky_repro.journal import read_records


@dataclass(frozen=True)
class Run:
    """One campaign's evidence: the newest file and those it continues.

    ``plan`` is the newest plan record. ``trials`` are in launch order. ``launched`` and ``ended``
    map a ticket to a time on the host's clock, in seconds since the epoch.
    """

    file: Path
    plan: Mapping[str, Any]
    trials: tuple[Trial, ...]
    launched: Mapping[int, float]
    ended: Mapping[int, float]
    end: Mapping[str, Any] = field(default_factory=dict)  # what ended it; {} if nobody wrote it

    @property
    def parameters(self) -> Mapping[str, Any]:
        parameters: Mapping[str, Any] = self.plan["parameters"]
        return parameters

    def console(self, trial: Trial) -> Path | None:
        """Where the trial's console is; beside the evidence, whatever the record says."""
        return self.file.parent / Path(trial.console).name if trial.console else None


def runs_below(
    folders: Iterable[Path], *, but: Collection[Path] = (), may_be_none: bool = False
) -> list[Run]:
    """The runs of all evidence below the folders, ``but`` (resolved) files shown elsewhere.

    UsageError when there is none, unless that may be.
    """
    folders = list(folders)
    files = sorted({file for folder in folders for file in files_below(folder)})
    runs = runs_of(file for file in files if file.resolve() not in but)
    if not runs and not may_be_none:
        names = ", ".join(str(folder) for folder in folders)
        raise UsageError(
            f"no evidence (trials-*.jsonl with a whole plan line) was found below {names}. "
            "Give the folder of --repro-evidence (.repro unless you named another)"
        )
    return runs


def runs_of(files: Iterable[Path]) -> list[Run]:
    """The runs of these files; a file that another one continues is part of that one's run."""
    records = without_copies({file: list(read_records(file)) for file in files})
    continued = {
        file.parent / name for file, lines in records.items() for name in lines[0]["continues"]
    }
    runs = [_run(file, records) for file in records if file not in continued]
    return sorted(runs, key=lambda run: (str(run.plan["created"]), run.file))


def _run(file: Path, records: Mapping[Path, list[dict[str, Any]]]) -> Run:
    head = records[file][0]
    chain = [file.parent / Path(name).name for name in head["continues"]]
    parts: list[Sequence[Mapping[str, Any]]] = [
        records[part] if part in records else list(read_records(part)) for part in (*chain, file)
    ]
    trials = replayed(parts, head["experiment"])
    ends = [record for record in parts[-1] if record["type"] == "end"]
    times = _times(parts, "launch"), _times(parts, "trial")
    return Run(file, head, tuple(trials), *times, *ends[-1:])


def _times(parts: Iterable[Iterable[Mapping[str, Any]]], kind: str) -> dict[int, float]:
    """When the records of a kind were written, by ticket; earlier versions wrote no time."""
    return {
        record["ticket"]: moment(record["at"])
        for part in parts
        for record in part
        if record["type"] == kind and "at" in record
    }


def moment(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time."""
    return datetime.fromisoformat(text).timestamp()
