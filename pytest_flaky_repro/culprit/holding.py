"""A folder in which one search at a time builds."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_flaky_repro.culprit.disk import why
from pytest_flaky_repro.errors import InfrastructureError, UsageError

LOCK = "lock"


@contextmanager
def held(folder: Path, option: str) -> Iterator[None]:
    """Holds a folder, which is made if need be; ``option`` names another one.

    For all of a search: what one puts into a tree, another would build. Raises UsageError when
    another search is at work there. A process that ends, however it ends, lets go.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("w")
    except OSError as error:
        raise InfrastructureError(
            f"{folder} cannot be built in: {why(error)}. Name another folder with {option}"
        ) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{folder}: another search is at work here; wait for it, or name another folder "
                f"with {option}"
            ) from None
        yield
