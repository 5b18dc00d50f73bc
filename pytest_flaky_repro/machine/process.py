"""A QEMU process that cannot outlive the thread that started it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence

from pytest_flaky_repro.errors import InfrastructureError, start_error

_IF_PARENT_LIVES = ("/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')
_TICKS = os.sysconf("SC_CLK_TCK")


def spawn(argv: Sequence[str], inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    """Starts ``argv`` with the given descriptors open, its stderr piped.

    The kernel kills it when the *thread* that called this ends (PR_SET_PDEATHSIG, prctl(2)), so
    that thread must stay for as long as the process is wanted. ``setpriv`` sets it between fork
    and exec: running Python there is not safe in a process with threads. A parent that dies before
    that is not noticed by it, so a shell looks once more who the parent is.
    """
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        msg = (
            "setpriv (util-linux) was not found on PATH; it ties QEMU's life to ours. "
            "Install it: apt-get install util-linux"
        )
        raise InfrastructureError(msg)
    try:
        return subprocess.Popen(
            [setpriv, "--pdeathsig", "KILL", "--", *_IF_PARENT_LIVES, str(os.getpid()), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=inherited,
            start_new_session=True,  # Ctrl-C is ours to handle, not QEMU's
        )
    except OSError as error:
        refused = start_error("QEMU", error)
        raise refused or InfrastructureError(f"could not start QEMU: {error}") from error


def cpu_seconds(pid: int) -> float:
    """User and system time of a process (fields 14 and 15 of proc_pid_stat(5)); 0 if it is gone."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    fields = text[text.rindex(")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def wanted_seconds(pid: int) -> float:
    """CPU time that a process had, and the time its threads stood in line for more.

    The first two numbers of each thread's schedstat, in nanoseconds
    (Documentation/scheduler/sched-stats.rst); only what it had, where the host's kernel keeps none.
    """
    total = 0
    for text in _of_threads(pid, "schedstat"):
        had, waited = text.split()[:2]
        total += int(had) + int(waited)
    return total / 1e9 if total else cpu_seconds(pid)


def is_in_line(pid: int) -> bool:
    """Whether a thread of it could run right now, or runs (state R in proc_pid_stat(5)).

    A wait that is not over is in no schedstat yet.
    """
    return any(text[text.rindex(")") + 2] == "R" for text in _of_threads(pid, "stat"))


def _of_threads(pid: int, name: str) -> Iterator[str]:
    """One file of each of a process's threads; without those that are gone."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 - see _read
    except (FileNotFoundError, ProcessLookupError):
        return
    for thread in threads:
        try:
            text = _read(f"/proc/{pid}/task/{thread}/{name}")
        except OSError:
            continue
        if text:
            yield text


def _read(path: str) -> str:
    """No Path: it interns each part, and each process has parts of its own."""
    with open(path) as file:  # noqa: PTH123
        return file.read()


def describe_exit(returncode: int, stderr: str) -> str:
    """Why QEMU is gone, in words."""
    import signal

    if returncode < 0:
        try:
            name = signal.Signals(-returncode).name
        except ValueError:
            name = f"signal {-returncode}"
        said = f"QEMU was killed by {name}"
    else:
        said = f"QEMU exited with status {returncode}"
    return f"{said}: {stderr.strip()[-2000:]}" if stderr.strip() else said
