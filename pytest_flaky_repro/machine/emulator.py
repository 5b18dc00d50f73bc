"""Finds a QEMU that starts."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.machine.spec import Emulator

DEFAULT = "qemu-system-x86_64"
INSTALL = "apt-get install --no-install-recommends qemu-system-x86"


@functools.lru_cache(maxsize=8)
def find_emulator(wanted: str | None = None) -> Emulator:
    """The QEMU at ``wanted`` (``--repro-qemu``), or the one on PATH.

    Features are tried, not read off the version number.
    """
    path = shutil.which(wanted or DEFAULT)
    if path is None and wanted is not None:
        msg = f"--repro-qemu {wanted}: no such program. Name a {DEFAULT}, or install one: {INSTALL}"
        raise UsageError(msg)
    if path is None:
        msg = (
            f"{DEFAULT} was not found on PATH. Install it ({INSTALL}) "
            "or name one with --repro-qemu PATH."
        )
        raise InfrastructureError(msg)
    said = _ask(path, "--version")
    match = re.search(r"version ([0-9]+\.[0-9.]+[0-9])", said)
    if match is None:
        named = f"--repro-qemu {wanted}: " if wanted is not None else ""
        msg = f"{named}{path} --version did not answer like QEMU: {said.strip()[:200]!r}"
        raise InfrastructureError(msg)
    return Emulator(
        path=Path(path),
        version=match[1],
        sandbox="seccomp" not in _ask(path, "-sandbox", "on", "--version", fails_quietly=True),
        firmware=_firmware(path),
    )


def _firmware(path: str) -> Path | None:
    """qboot, where this QEMU's data folders have it."""
    for folder in _ask(path, "-L", "help").splitlines():
        candidate = Path(folder.strip()) / "qboot.rom"
        if candidate.is_file():
            return candidate
    return None


def _ask(path: str, *arguments: str, fails_quietly: bool = False) -> str:
    command = [path, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        msg = f"{' '.join(command)} did not run: {error}. Name another QEMU with --repro-qemu."
        raise InfrastructureError(msg) from error
    if done.returncode and not fails_quietly:
        msg = f"{' '.join(command)} failed with status {done.returncode}: {done.stderr.strip()}"
        raise InfrastructureError(msg)
    return done.stdout + done.stderr
