"""What the host can do to a campaign: no verdict is wrong for it, and no finished trial is lost."""

from __future__ import annotations

import gc
import random
import resource
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro import journal
from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.evidence import PlanRecord, Trial, load_history, trial_of
from pytest_flaky_repro.journal import EvidenceWarning, read_records
from pytest_flaky_repro.outcomes import Conclusion, Outcome, Vote
from pytest_flaky_repro.stats import Design, plan_for

if TYPE_CHECKING:
    from tests.faults.conftest import Stage

RUN = ("B", "R", "M", "S", "D")
LEAVES = ("g", "x:guest-reset:0")
SURVIVES = (*RUN, "e:exit:0", *LEAVES)
CRASHES = (*RUN, "e:signal:11", *LEAVES)
KILLED = (*RUN, "k:9")
NEVER_STARTS = ("X:1",)
NEEDED = 11  # survivals of the stage's question
NOISY = Design(min_rate=0.4, noise=0.1, confidence_safe=0.9, confidence_crash=0.9)


def always(*script: str) -> Callable[[str], tuple[str, ...]]:
    return lambda _: script


def on_disk(folder: Path) -> list[Trial]:
    """Every trial line, in the order of tickets; what is torn is left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvidenceWarning)
        records = [r for file in sorted(folder.glob("trials-*.jsonl")) for r in read_records(file)]
    trials = [trial_of(record) for record in records if record["type"] == "trial"]
    return sorted(trials, key=lambda trial: trial.ticket)


class After:
    """Survives, and does something to the host when so many trials were played."""

    def __init__(self, trials: int, act: Callable[[], None]) -> None:
        self._left, self._act = trials, act
        self._lock = threading.Lock()

    def __call__(self, _: str) -> tuple[str, ...]:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._act()
        return SURVIVES


# ---- programs and processes


def test_a_qemu_that_vanishes_in_mid_campaign(stage: Stage) -> None:
    copy = stage.folder / "qemu"
    shutil.copy(stage.emulator.path, copy)
    stage.emulator = replace(stage.emulator, path=copy)
    found = stage.campaign(After(6, copy.unlink))
    assert found.conclusion is Conclusion.INFRASTRUCTURE
    assert "not found" in found.why
    assert [t.outcome for t in on_disk(stage.folder / "evidence")][:5] == [Outcome.SURVIVED] * 5
    assert found.tally.trials_low == 5


def test_a_qemu_that_never_starts_is_given_up_at_once(stage: Stage) -> None:
    found = stage.campaign(always(*NEVER_STARTS))
    assert found.conclusion is Conclusion.INFRASTRUCTURE
    assert len(found.trials) <= 3


def test_a_qemu_that_is_always_killed_never_makes_a_kernel_safe(stage: Stage) -> None:
    found = stage.campaign(always(*KILLED), jobs=4)
    assert found.conclusion is Conclusion.INFRASTRUCTURE
    assert found.tally.trials_low == 0


@contextmanager
def at_most(limit: int, what: int) -> Iterator[None]:
    before = resource.getrlimit(what)
    resource.setrlimit(what, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def test_file_descriptors_run_out_at_every_point(stage: Stage) -> None:
    """One more descriptor each time: wherever it hurts, it is said, and nothing is left open."""
    stage.campaign(always(*SURVIVES), folder=stage.folder / "warm")  # every import is done
    gc.collect()
    taken = {int(entry.name) for entry in Path("/proc/self/fd").iterdir()}
    free = [number for number in range(len(taken) + 50) if number not in taken]
    said: list[str] = []
    for spare in range(1, 40):
        folder = stage.folder / f"spare-{spare}"
        with at_most(free[spare], resource.RLIMIT_NOFILE):
            try:
                found = stage.campaign(always(*SURVIVES), folder=folder)
            except InfrastructureError as error:
                said.append(str(error))
                continue
        assert found.conclusion is Conclusion.SAFE
        assert len(on_disk(folder)) == NEEDED
        break
    assert len(said) > 5
    assert all("Too many open files" in text for text in said), said


@pytest.mark.parametrize("allowed", [0, 1, 2, 4])
def test_threads_that_cannot_be_started(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    """A limit on processes, as Python reports it."""
    start, left = threading.Thread.start, [allowed]

    def limited(thread: threading.Thread) -> None:
        if left[0] == 0:
            raise RuntimeError("can't start new thread")
        left[0] -= 1
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", limited)
        with pytest.raises(InfrastructureError, match=r"new thread.*--repro-resume"):
            stage.campaign(always(*SURVIVES), jobs=8)
    folder = stage.folder / "evidence"
    assert stage.campaign(always(*SURVIVES), folder=folder, resume=True).conclusion is (
        Conclusion.SAFE
    )


# ---- disks and folders


def test_evidence_that_is_deleted_in_mid_campaign(stage: Stage) -> None:
    """An unlinked file takes every line and keeps none of them."""
    folder = stage.folder / "evidence"
    with pytest.raises(InfrastructureError, match="was deleted meanwhile"):
        stage.campaign(After(4, lambda: shutil.rmtree(folder)))


def test_a_folder_that_cannot_be_written(stage: Stage) -> None:
    with pytest.raises(InfrastructureError, match="evidence cannot be written to /proc/"):
        stage.campaign(always(*SURVIVES), folder=Path("/proc/sys/evidence"))


def test_a_crash_whose_console_does_not_fit_on_the_disk_is_not_lost(stage: Stage) -> None:
    """The record is small and still goes in; the console is large and does not."""
    big = (*RUN[:-1], "C:40:" + (b"noise " * 5000).hex(), "D", "e:signal:11", *LEAVES)
    folder = stage.folder / "evidence"
    with (
        at_most(100_000, resource.RLIMIT_FSIZE),
        pytest.raises(InfrastructureError, match=r"console.*File too large"),
    ):
        stage.campaign(always(*big), folder=folder)
    (crash,) = on_disk(folder)
    assert crash.outcome is Outcome.CRASHED
    assert "File too large" in crash.detail
    found = stage.campaign(always(*SURVIVES), folder=folder, resume=True)
    assert found.conclusion is Conclusion.CRASHES


def test_a_disk_that_is_full_at_every_size(stage: Stage) -> None:
    """A little more room each time: what was written is read back, and the verdict is the same."""
    for room in range(700, 6000, 650):
        folder = stage.folder / f"room-{room}"
        with at_most(room, resource.RLIMIT_FSIZE), pytest.raises(InfrastructureError):
            stage.campaign(always(*SURVIVES), folder=folder)
        kept = len(on_disk(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EvidenceWarning)
            found = stage.campaign(always(*SURVIVES), folder=folder, resume=True)
        assert found.conclusion is Conclusion.SAFE
        assert len([t for t in found.trials if t.outcome is Outcome.SURVIVED]) == NEEDED
        assert len(on_disk(folder)) - kept == NEEDED - kept


# ---- clocks


def test_a_clock_that_is_set_back_hides_no_trial(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are named after the time: the newest run's name may come first."""
    folder = stage.folder / "evidence"
    stage.campaign(always(*SURVIVES), folder=folder, max_trials=3)
    names = set(folder.glob("trials-*.jsonl"))
    backwards(monkeypatch)
    found = stage.campaign(always(*CRASHES), folder=folder, resume=True)
    assert found.conclusion is Conclusion.CRASHES
    (newest,) = set(folder.glob("trials-*.jsonl")) - names
    assert newest == min(folder.glob("trials-*.jsonl"))
    again = stage.campaign(always(*SURVIVES), folder=folder, resume=True)
    assert again.conclusion is Conclusion.CRASHES
    assert [trial.ticket for trial in again.trials] == [0, 1, 2, 3]


def backwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock says 2001 from now on."""

    class Past(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Past:
            return cls(2001, 1, 1, microsecond=time.monotonic_ns() // 1000 % 1_000_000, tzinfo=tz)

    monkeypatch.setattr(journal, "datetime", Past)


# ---- two at once


def test_two_campaigns_on_one_folder_keep_apart(stage: Stage) -> None:
    folder = stage.folder / "evidence"
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(stage.campaign, always(*script), folder=folder, jobs=2)
            for script in (SURVIVES, CRASHES)
        ]
        said = {run.result().conclusion for run in runs}
    assert said == {Conclusion.SAFE, Conclusion.CRASHES}
    survived, crashed = Outcome.SURVIVED, Outcome.CRASHED
    for file in folder.glob("trials-*.jsonl"):
        kinds = {r["outcome"] for r in read_records(file) if r["type"] == "trial"}
        assert len(kinds & {survived.value, crashed.value}) == 1


def test_a_second_run_does_not_go_on_from_one_that_still_runs(stage: Stage) -> None:
    folder = stage.folder / "evidence"
    refused: list[str] = []

    def resume() -> None:
        try:
            stage.campaign(always(*SURVIVES), folder=folder, resume=True)
        except UsageError as error:
            refused.append(str(error))

    assert stage.campaign(After(3, resume), folder=folder).conclusion is Conclusion.SAFE
    assert "still being written" in refused[0]


# ---- damage


def damaged(content: bytes, rng: random.Random) -> bytes:
    """One of the things that disks, copies and power failures do to a file."""
    at = rng.randrange(content.index(b"\n") + 1, len(content))
    lines = content.splitlines(keepends=True)
    number = rng.randrange(1, len(lines))
    flipped = bytes([content[at] ^ 1 << rng.randrange(8)])
    made: list[Callable[[], bytes]] = [
        lambda: content[:at],
        lambda: content[:at] + flipped + content[at + 1 :],
        lambda: content[:at] + b"\0" * min(512, len(content) - at) + content[at + 512 :],
        lambda: b"".join([*lines, lines[number]]),
        lambda: b"".join([*lines[:number], *lines[number + 1 :]]),
        lambda: b"".join([*lines[:number], *lines[number + 3 :]]),
        lambda: b"".join([lines[0], *rng.sample(lines[1:], len(lines) - 1)]),
        lambda: content + content[content.index(b"\n") + 1 :],
    ]
    return rng.choice(made)()


@pytest.mark.parametrize("rounds", [200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_damaged_evidence_never_makes_a_crash_a_survival(stage: Stage, rounds: int) -> None:
    """Each trial is what it was, or LOST, or VOID; and no ticket disappears from the middle."""
    folder = stage.folder / "evidence"
    mixed = {0: CRASHES, 1: KILLED, 2: NEVER_STARTS}
    stage.campaign(lambda seed: mixed.get(int(seed, 16) % 8, SURVIVES), folder=folder, design=NOISY)
    (file,) = folder.glob("trials-*.jsonl")
    content, rng = file.read_bytes(), random.Random(8)
    record = PlanRecord("e", {"lines": plan_for(NOISY).digest()}, "test_x", "k")
    whole = load_history(folder, record).trials
    assert {Outcome.CRASHED, Outcome.SURVIVED} <= {trial.outcome for trial in whole}
    for _ in range(rounds):
        file.write_bytes(damaged(content, rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", EvidenceWarning)
            try:
                kept = load_history(folder, record).trials
            except UsageError:
                continue
        assert [trial.ticket for trial in kept] == list(range(len(kept)))
        for before, after in zip(whole, kept, strict=False):
            assert after == before or after.outcome.vote in (Vote.LOST, Vote.VOID)
