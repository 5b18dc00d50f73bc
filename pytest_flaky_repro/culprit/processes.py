"""Trials as ordinary processes on this machine: no guest, no kernel, a command and its status."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_flaky_repro.campaign.waste import VOID_AT_START, is_too_much
from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable
from pytest_flaky_repro.errors import InfrastructureError

CANNOT_TEST = 125  # as git bisect run has it
NOT_RUN = {126: "the shell cannot execute the command", 127: "the shell cannot find the command"}
_SHELL_SIGNAL = 128  # the shell's status for a command that died of signal n is 128 + n
_LAST_SIGNAL = 64
_TAIL = 4096
_DAY_S = 86400.0  # poll(2) counts milliseconds in an int


class ProcessTester:
    """Runs a shell command for each trial.

    Its folder is the image's artefact, if that is one. Exit status 0, or still running after
    ``time_limit`` seconds (None: it may take as long as it likes), is survived; 125 teaches
    nothing; 126 and 127, a command that is not there, are an InfrastructureError; any other status
    and any signal is a crash titled ``exit status N`` or ``signal NAME``. Where too many trials are
    125 or another crash than the target, the image cannot be tested. The command finds
    ``CULPRIT_ARTEFACT``, ``REPRO_SEED`` (the trial's own), the image's words and those of
    ``environment`` (``NAME=VALUE``). ``jobs`` run at once; what a trial leaves running is killed at
    its end. ``seed`` None: a random one. ``files`` are what the command names, by their digests.
    """

    def __init__(
        self,
        command: str,
        time_limit: float | None = None,
        jobs: int = 1,
        seed: str | None = None,
        *,
        environment: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
    ) -> None:
        self._command = command
        self._time_limit = time_limit
        self._jobs = jobs
        self.seed = seed if seed is not None else secrets.token_hex(8)
        self._environment = tuple(environment)
        self.files = dict(files or {})

    @property
    def identity(self) -> str:
        how = [self._command, self._time_limit, self._environment, self.files]
        facts = json.dumps(["process", *how])
        return hashlib.sha256(facts.encode()).hexdigest()

    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None:
        """See :class:`~pytest_flaky_repro.culprit.testing.Tester`."""
        running: deque[_Running] = deque()
        ticket, survived, waste = already, 0, _Waste()
        try:
            while survived < survivals:
                reason = waste.too_much()
                if reason is not None:
                    return Untestable(reason)
                while len(running) < min(self._jobs, survivals - survived):
                    running.append(self._launch(image, ticket))
                    ticket += 1
                report = _judge(_first_ended(running), target)
                on_trial(report)
                if report.outcome is TrialOutcome.CRASHED:
                    return None
                survived += report.outcome is TrialOutcome.SURVIVED
                waste.add(report)
        finally:
            for trial in running:
                trial.end()
        return None

    def _launch(self, image: Image, ticket: int) -> _Running:
        seed = hashlib.sha256(f"{self.seed} {image.id} {ticket}".encode()).hexdigest()[:16]
        artefact = Path(image.artefact) if image.artefact else None
        environment = {
            **os.environ,
            **dict(word.split("=", 1) for word in (*self._environment, *image.environment)),
            "REPRO_SEED": seed,
            "CULPRIT_ARTEFACT": image.artefact,
        }
        folder = artefact if artefact is not None and artefact.is_dir() else Path.cwd()
        return _start(self._command, folder, environment, seed, self._time_limit)


@dataclass
class _Waste:
    """Trials of one run that taught nothing; what earlier runs lost is not counted again."""

    trials: int = 0
    void: int = 0
    others: int = 0
    last: str = ""

    def add(self, report: TrialReport) -> None:
        void = report.outcome is TrialOutcome.INFRASTRUCTURE
        other = report.outcome is TrialOutcome.OTHER
        self.trials += 1
        self.void += void
        self.others += other
        if void or other:
            self.last = report.title or report.detail

    def too_much(self) -> str | None:
        """Why the image cannot be tested, by the rule that guests are held to."""
        if VOID_AT_START <= self.void == self.trials:
            return f"{self.last} ({self.void} times in a row)"
        if not is_too_much(self.void + self.others, self.trials):
            return None
        return (
            f"{self.void + self.others} of {self.trials} trials taught nothing ({self.void} could "
            f"not be run, {self.others} were other crashes than the one that counts); "
            f"the last: {self.last}"
        )


@dataclass
class _Running:
    """A trial's process, until it is reaped."""

    process: subprocess.Popen[bytes]
    pidfd: int
    seed: str
    started: float
    deadline: float
    ended: float | None = None
    time_over: bool = False
    tail: bytes = field(default=b"")

    def drain(self) -> bool:
        """Keeps the last of what is there to read; False at the end of it."""
        assert self.process.stdout is not None
        try:
            piece = os.read(self.process.stdout.fileno(), 65536)
        except BlockingIOError:
            return True
        self.tail = (self.tail + piece)[-_TAIL:]
        return bool(piece)

    def end(self) -> None:
        """Kills whatever of it is left, and reaps it."""
        _kill_group(self.process.pid)
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _start(
    command: str, folder: Path, environment: Mapping[str, str], seed: str, time_limit: float | None
) -> _Running:
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    try:
        process = subprocess.Popen(
            [*tied, "/bin/sh", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
    except OSError as error:
        raise InfrastructureError(f"no process can be started: {error.strerror}") from error
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    now = time.monotonic()
    deadline = now + time_limit if time_limit is not None else math.inf
    return _Running(process, os.pidfd_open(process.pid), seed, now, deadline)


def _first_ended(running: deque[_Running]) -> _Running:
    """Waits for the trial that was launched first, and takes it out; drains all meanwhile.

    It has the earliest deadline, so the others' need no watching.
    """
    poll = select.poll()
    drained: dict[int, _Running] = {}
    for trial in running:
        assert trial.process.stdout is not None
        drained[trial.process.stdout.fileno()] = trial
        poll.register(trial.process.stdout.fileno(), select.POLLIN)
        if trial.ended is None:
            poll.register(trial.pidfd, select.POLLIN)
    ends = {trial.pidfd: trial for trial in running}
    first = running[0]
    while first.ended is None:
        left = first.deadline - time.monotonic()
        if left <= 0:
            first.time_over = True
            first.ended = time.monotonic()
        for descriptor, _ in poll.poll(min(max(0.0, left), _DAY_S) * 1000 + 1):
            if descriptor in ends:
                ends[descriptor].ended = ends[descriptor].ended or time.monotonic()
                poll.unregister(descriptor)
            elif not drained[descriptor].drain():
                poll.unregister(descriptor)
    running.popleft()
    while first.drain() and _has_more(first):
        pass
    first.end()
    return first


def _has_more(trial: _Running) -> bool:
    """Whether there is output left to read right now."""
    assert trial.process.stdout is not None
    return bool(select.select([trial.process.stdout], [], [], 0)[0])


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nobody of it is left


def _judge(trial: _Running, target: Signature | None) -> TrialReport:
    assert trial.ended is not None
    seconds = trial.ended - trial.started
    status = trial.process.returncode
    said = trial.tail.decode("utf-8", "replace").strip().rpartition("\n")[2]
    if trial.time_over or status == 0:
        return TrialReport(TrialOutcome.SURVIVED, seconds, trial.seed)
    if status in NOT_RUN:
        raise InfrastructureError(_not_run(status, said))
    if status == CANNOT_TEST:
        why = f"the command says that it cannot test (exit {CANNOT_TEST})"
        detail = f"{why}: {said}" if said else why
        return TrialReport(TrialOutcome.INFRASTRUCTURE, seconds, trial.seed, detail=detail)
    title = _title(status)
    outcome = TrialOutcome.CRASHED if _is_wanted(title, target) else TrialOutcome.OTHER
    return TrialReport(outcome, seconds, trial.seed, title, detail=said)


def _not_run(status: int, said: str) -> str:
    """Nothing that an image could be blamed for: what is not there today may be tomorrow."""
    what = f"{NOT_RUN[status]} (exit {status}{f': {said}' if said else ''})"
    return (
        f"a trial cannot be run: {what}. Nothing was noted of it: mend --run-command, then go on "
        f"with --resume; where one build lacks what it needs, have it exit {CANNOT_TEST}"
    )


def _is_wanted(title: str, target: Signature | None) -> bool:
    if target is None or title in target.titles:
        return True
    return target.pattern is not None and target.pattern.search(title) is not None


def _title(status: int) -> str:
    number = -status if status < 0 else status - _SHELL_SIGNAL
    if not 0 < number <= _LAST_SIGNAL:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"
