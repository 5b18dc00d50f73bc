"""One run of a command that builds something, with its log; it is told to end when we do."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pytest_flaky_repro.culprit.build_end import BuildEnd
from pytest_flaky_repro.culprit.disk import why
from pytest_flaky_repro.errors import InfrastructureError

_TAIL_BYTES = 16384
_GRACE_S = 5.0
_LOCK = ".building"


def run_build(
    argv: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path
) -> BuildEnd:
    """Runs ``argv`` in ``folder`` with its output in ``log``; the folder is locked meanwhile.

    Whatever the command started has inherited the lock, so that a later run waits for the last of
    it. Raises InfrastructureError for what says nothing about the thing that is built: the command
    cannot be started, the disk is full, the compiler was killed.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder) as lock, log.open("wb") as output:
            status = run_tied(argv, folder, environment, output.fileno(), inherited=[lock])
    except OSError as error:
        raise _cannot(folder, error) from error
    end = BuildEnd(status, _tail(log))
    end.refuse_obstacles(argv[0], folder, log)
    if end.status in (126, 127) and folder.is_dir():
        raise InfrastructureError(f"the build command cannot be run: {end.reason} ({log})")
    return end


def _cannot(folder: Path, error: OSError) -> InfrastructureError:
    where = error.filename or folder
    return InfrastructureError(
        f"nothing can be built in {folder}: {where}: {why(error)}. "
        "Mend that, then go on with --resume"
    )


def run_tied(
    argv: Sequence[str],
    folder: Path | None,
    environment: Mapping[str, str],
    output: int,
    inherited: Sequence[int] = (),
) -> int:
    """Runs a command that is told to end (SIGTERM) when this thread ends, however it ends.

    Returns its status; all it prints goes to the descriptor ``output``.
    """
    setpriv = shutil.which("setpriv")
    tied = [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []
    child = subprocess.Popen(
        [*tied, *argv],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        pass_fds=inherited,
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
