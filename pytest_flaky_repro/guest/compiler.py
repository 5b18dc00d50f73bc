"""A reproducer in C: compiled on the host, statically, so that the guest needs no library."""

from __future__ import annotations

import hashlib
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError, start_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FLAGS = ("-O2", "-static", "-pthread")


class CompileError(UsageError):
    """A `.c` reproducer that does not compile; the message holds all the compiler said."""


def compile_static(
    source: Path, cache: Path, cflags: Sequence[str], environment: Mapping[str, str]
) -> bytes:
    """The program that `source` compiles to, with $CC or `cc`.

    Further flags go behind the source, so that `-lfoo` works. The result is kept under `cache` by
    what the compiler would see: the preprocessed text (so headers count), flags and compiler.

    Raises CompileError.
    """
    compiler = shlex.split(environment.get("CC", "")) or ["cc"]
    # By its bare name and from its own folder: __FILE__, and with it the program, is then the
    # same wherever the checkout lies.
    folder, words = source.resolve().parent, [source.name, *cflags]
    text = _run([*compiler, *FLAGS, "-E", *words], folder, source, environment)
    version = _run([*compiler, "--version"], folder, source, environment)
    facts = (text, version, "\0".join([*compiler, *FLAGS, *words]).encode())
    key = hashlib.sha256(b"".join(hashlib.sha256(fact).digest() for fact in facts)).hexdigest()
    kept = cache / "compiled" / key
    if kept.exists():
        return kept.read_bytes()
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as scratch:
            built = Path(scratch) / "program"
            _run([*compiler, *FLAGS, "-o", str(built), *words], folder, source, environment)
            built.replace(kept)
    except OSError as error:
        message = f"cannot write compiled reproducers under {kept.parent}: {error.strerror}"
        raise UsageError(message) from error
    return kept.read_bytes()


def _run(
    command: Sequence[str], folder: Path, source: Path, environment: Mapping[str, str]
) -> bytes:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        message = (
            f"{source}: cannot compile, {command[0]!r} does not start ({error.strerror}):"
            " apt-get install gcc libc6-dev, or name another compiler in CC"
        )
        raise start_error(command[0], error) or CompileError(message) from error
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").rstrip()
        message = (
            f"{source}: does not compile (exit {done.returncode}): {shlex.join(command)}\n"
            f"{said}{_mend(said)}"
        )
        raise CompileError(message)
    return done.stdout


def _mend(said: str) -> str:
    if "cannot find -l" not in said:
        return ""
    return (
        "\nReproducers are linked with -static: the static library (.a) is missing."
        " For the C library itself: apt-get install libc6-dev"
    )
