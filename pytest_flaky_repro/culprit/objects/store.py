"""Both variants of every object, kept by their content."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError

# Not loaded into the running kernel, and different whenever the command line is: DWARF has the
# flags in it (DW_AT_producer), .comment the compiler's version.
_SAYS_NOTHING = (".comment", ".GCC.command.line")


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class ObjectStore:
    """Files under their SHA-256. What is in it never changes; deleting it loses only time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest[2:]

    def put(self, path: Path) -> str:
        """Keeps a copy; returns its digest."""
        digest = digest_of(path)
        kept = self.path(digest)
        if not kept.exists():
            _copy(path, kept)
        return digest

    def place(self, digest: str, target: Path) -> None:
        """Puts a copy at ``target``, as new as if it had just been made."""
        _copy(self.path(digest), target)

    def same_code(self, one: str, other: str) -> bool:
        """Whether two objects are the same but for debug information and the compiler's name."""
        if one == other:
            return True
        with tempfile.TemporaryDirectory() as scratch:
            stripped = [
                self._stripped(d, Path(scratch) / str(n)) for n, d in enumerate((one, other))
            ]
        return stripped[0] == stripped[1]

    def _stripped(self, digest: str, target: Path) -> bytes:
        removed = [f"--remove-section={name}" for name in _SAYS_NOTHING]
        command = ["objcopy", "--strip-debug", *removed, str(self.path(digest)), str(target)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:  # no ELF that objcopy knows: then only equal bytes are equal
            return digest.encode()
        return target.read_bytes()


def _copy(source: Path, target: Path) -> None:
    """A whole file or none, whenever this is stopped."""
    with _space_for(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            shutil.copyfile(source, part)  # no metadata: its time is now
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _space_for(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InfrastructureError(
            f"{target}: {error.strerror}. Free some space and run this again: it goes on where it "
            "was; or name a folder on another disk with --work"
        ) from error
