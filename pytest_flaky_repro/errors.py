"""Errors a user meets. Each message says what was expected, what was seen, and the mend."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

TOO_MANY_PROCESSES = "too many processes or threads: ulimit -u, or the pids limit of a container"


class ReproError(Exception):
    """Base of everything this package raises on purpose."""


class UsageError(ReproError):
    """Bad input: an option, a marker, a file. Names the source and the mend."""


class InfrastructureError(ReproError):
    """The harness failed, so nothing was learned about the kernel."""


def start_error(what: str, error: OSError) -> InfrastructureError | None:
    """For a program that was refused a process (EAGAIN, fork(2)); None for any other reason."""
    if error.errno != errno.EAGAIN:
        return None
    return InfrastructureError(f"{what} could not be started: {TOO_MANY_PROCESSES}")


@contextmanager
def told_by(source: str) -> Iterator[None]:
    """Puts ``source``, such as ``--initrd``, before the UsageErrors of layers that know none."""
    try:
        yield
    except UsageError as error:
        if not source:
            raise
        raise type(error)(f"{source}: {error}") from error
