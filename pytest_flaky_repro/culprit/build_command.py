"""One run of a command that builds something: its log, its end, and what a failure means."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.culprit.disk import NOTHING, SPARE, is_full, why
from pytest_flaky_repro.errors import InfrastructureError

FULL = "No space left on device"  # strerror(ENOSPC), as every tool prints it
_KILLED = ("Killed signal terminated program", "Killed (program cc1", ": Killed")
_TAIL_BYTES = 16384
_GRACE_S = 5.0
_LOCK = ".building"


@dataclass(frozen=True)
class BuildEnd:
    """How a build command ended: ``status`` is as subprocess has it, ``tail`` the log's end."""

    status: int
    tail: str

    @property
    def reason(self) -> str:
        """Why it failed, in a line: the first error that the end of the log shows."""
        lines = [line.strip() for line in self.tail.splitlines() if line.strip()]
        errors = [line for line in lines if "error:" in line.lower() or line.startswith("ERROR")]
        said = (errors or lines[-1:] or ["it said nothing"])[0]
        ended = f"exit {self.status}" if self.status >= 0 else f"signal {-self.status}"
        return f"{ended}: {said[:300]}"


def run_build(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> BuildEnd:
    """Runs ``argv`` in ``folder`` with its output in ``log``; the folder is locked meanwhile.

    The command is told to end (SIGTERM) when this thread ends, however it ends. Whatever it
    started has inherited the lock, so that a later run waits for the last of it. Raises
    InfrastructureError for what says nothing about the thing that is built: the command cannot be
    started, the disk is full, the compiler was killed.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as lock, log.open("wb") as output:
            status = _run(argv, folder, environment, output.fileno(), lock)
    except OSError as error:
        raise _cannot(folder, error) from error
    end = BuildEnd(status, _tail(log))
    if any(is_full(place, SPARE if status else NOTHING) for place in (folder, log.parent)):
        raise _full(argv, folder, log)
    if status != 0:
        _refuse_infrastructure(end, argv, folder, log)
    return end


def _full(argv: Sequence[str], folder: Path, log: Path) -> InfrastructureError:
    return InfrastructureError(
        f"the disk is full: {argv[0]} failed in {folder} ({log}). "
        "Free some space, then go on with --repro-resume"
    )


def _cannot(folder: Path, error: OSError) -> InfrastructureError:
    where = error.filename or folder
    return InfrastructureError(
        f"nothing can be built in {folder}: {where}: {why(error)}. "
        "Mend that, then go on with --repro-resume"
    )


def _run(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], output: int, lock: int
) -> int:
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    child = subprocess.Popen(
        [*tied, *argv],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=[lock],
        start_new_session=True,  # Ctrl-C is ours to handle
    )
    try:
        return child.wait()
    except BaseException:
        _end_group(child)
        raise


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """SIGTERM first: make then removes what is half written."""
    _signal_group(child.pid, signal.SIGTERM)
    try:
        child.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        _signal_group(child.pid, signal.SIGKILL)
        child.wait()


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return  # nobody of it is left


def _refuse_infrastructure(end: BuildEnd, argv: Sequence[str], folder: Path, log: Path) -> None:
    if FULL in end.tail:
        raise _full(argv, folder, log)
    if end.status < 0 or any(text in end.tail for text in _KILLED):
        raise InfrastructureError(
            f"{argv[0]} or its compiler was killed in {folder} ({end.reason}; {log}). When memory "
            "was short, build with fewer jobs; then go on with --repro-resume"
        )
    if end.status in (126, 127) and folder.is_dir():
        raise InfrastructureError(f"the build command cannot be run: {end.reason} ({log})")


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace")


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """Holds the folder: an earlier run's compiler may still be at work in it."""
    descriptor = os.open(folder.parent / f"{folder.name}{_LOCK}", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
