"""What a disk that cannot be written to is called: never a property of what is built."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError

_FULL = (errno.ENOSPC, errno.EDQUOT)
SPARE = 1 << 20  # bytes: with less, a failed tool may have been unable even to say why
NOTHING = 1 << 14  # with less, one that says nothing may have written half of its output


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What fails in here for the disk's sake is an InfrastructureError that names the place."""
    try:
        yield
    except BrokenPipeError:
        raise  # somebody reads our output no longer: that is no disk
    except OSError as error:
        mend = "Free some space" if error.errno in _FULL else "Mend that"
        raise InfrastructureError(
            f"{error.filename or folder}: {why(error)}. {mend}, then go on with --resume"
        ) from error


def write_whole(path: Path, text: str) -> None:
    """All of it or nothing: who is ended half-way leaves what was there before."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, errors="surrogateescape")
    part.replace(path)


def why(error: OSError) -> str:
    """Its reason; one of shutil's has a list of them."""
    if error.strerror:
        return error.strerror
    reasons = error.args[0] if error.args else []
    return str(reasons[0][-1] if isinstance(reasons, list) and reasons else error)


def is_full(folder: Path, spare: int = SPARE) -> bool:
    """Whether nothing can be written there, even a few lines of a log."""
    try:
        return shutil.disk_usage(folder).free < spare
    except OSError:
        return False
