"""The guest agent's binary: compiled once a source and compiler, kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError, start_error

SOURCES = ("agent.c", "cleaning.h", "frames.h", "syscalls.h")

FLAGS = (
    "-std=gnu11",
    "-O2",
    "-static",
    "-nostdlib",
    "-ffreestanding",  # no libc: the smallest kernels and a plain host compiler are enough
    "-fno-pie",
    "-no-pie",
    "-fno-stack-protector",  # its canary lives in thread storage, which nobody sets up here
    "-fno-tree-loop-distribute-patterns",  # memcpy must not be compiled into a call of memcpy
    "-fno-asynchronous-unwind-tables",
    "-Wl,--build-id=none",
    "-s",
)


def source_digest() -> str:
    """Identifies the agent: what it does, whoever compiled it. Part of an experiment's identity."""
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((_here() / name).read_bytes())
    return digest.hexdigest()


def binary(cache: Path, compiler: str | None = None) -> bytes:
    """The agent as a static x86-64 ELF; ``compiler`` defaults to $CC, then ``cc``."""
    cc = compiler or os.environ.get("CC", "cc")
    path = shutil.which(cc)
    if path is None:
        msg = (
            f"the C compiler {cc!r} was not found; it builds the guest agent (once). "
            "Install one (apt-get install gcc) or set CC."
        )
        raise InfrastructureError(msg)
    stat = Path(path).stat()
    tag = f"{source_digest()} {path} {stat.st_size} {stat.st_mtime_ns} {' '.join(FLAGS)}"
    kept = cache / "agent" / hashlib.sha256(tag.encode()).hexdigest()[:24]
    if not kept.is_file():
        _compile(path, kept)
    return kept.read_bytes()


def _compile(cc: str, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        made = Path(folder) / "init"
        command = [cc, *FLAGS, "-o", str(made), str(_here() / "agent.c")]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            msg = f"the guest agent could not be compiled: {cc} did not start: {error}"
            raise start_error(cc, error) or InfrastructureError(msg) from error
        if done.returncode:
            msg = f"the guest agent does not compile:\n{' '.join(command)}\n{done.stderr}"
            raise InfrastructureError(msg)
        made.replace(to)  # whole or not at all, also when several processes build it


def _here() -> Path:
    return Path(__file__).parent
