"""The initramfs of a trial: the agent, the device nodes it needs, the reproducer, overlays."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest import agent
from pytest_flaky_repro.guest.compression import overlay
from pytest_flaky_repro.guest.cpio import write_archive
from pytest_flaky_repro.guest.entries import (
    Directory,
    Entry,
    File,
    Node,
    NodeKind,
    with_parents,
)
from pytest_flaky_repro.guest.shell import busybox_entries

LAYOUT_VERSION = 1

_FOLDERS = ("dev", "proc", "sys", "tmp", "bin", "etc", "root", "repro")
_BASE = tuple(Directory(name, mode=0o1777 if name == "tmp" else 0o755) for name in _FOLDERS)

# The agent must find these without devtmpfs (Documentation/admin-guide/devices.txt).
_NODES = (
    Node("dev/console", NodeKind.CHARACTER, 5, 1, mode=0o600),
    Node("dev/kmsg", NodeKind.CHARACTER, 1, 11, mode=0o600),
    Node("dev/null", NodeKind.CHARACTER, 1, 3, mode=0o666),
    Node("dev/zero", NodeKind.CHARACTER, 1, 5, mode=0o666),
    Node("dev/full", NodeKind.CHARACTER, 1, 7, mode=0o666),
    Node("dev/random", NodeKind.CHARACTER, 1, 8, mode=0o666),
    Node("dev/urandom", NodeKind.CHARACTER, 1, 9, mode=0o666),
    Node("dev/tty", NodeKind.CHARACTER, 5, 0, mode=0o666),
    Node("dev/ttyS0", NodeKind.CHARACTER, 4, 64, mode=0o600),
    Node("dev/ttyS1", NodeKind.CHARACTER, 4, 65, mode=0o600),
)


@dataclass(frozen=True)
class GuestImage:
    """An initramfs and what identifies it.

    ``digest`` covers the agent's source, this layout, the reproducer's files and the overlays,
    so it does not depend on which compiler built the agent.
    """

    archive: bytes
    digest: str
    has_shell: bool


def build_image(
    files: Sequence[Entry],
    overlays: Sequence[Path],
    cache: Path,
    environment: Mapping[str, str],
) -> GuestImage:
    """The image for one reproducer; ``overlays`` (``--initrd``) are laid over it in order.

    The host's busybox comes along where there is one: a program that calls system(3) must not
    take a missing shell for a survival.
    """
    shell = _shell(environment)
    brought = with_parents([*_BASE, *_NODES, *shell, *files])
    init = File("init", agent.binary(cache), mode=0o755)
    base = write_archive([*brought, init])
    archive = overlay(base, overlays) if overlays else base  # an unreadable one is named here
    digest = hashlib.sha256(f"layout {LAYOUT_VERSION}\n".encode())
    without_agent = hashlib.sha256(write_archive(brought)).hexdigest()
    for part in (agent.source_digest(), without_agent, *(_sha256(path) for path in overlays)):
        digest.update(part.encode() + b"\n")
    return GuestImage(archive, digest.hexdigest(), has_shell=bool(shell))


def _shell(environment: Mapping[str, str]) -> tuple[Entry, ...]:
    try:
        return busybox_entries(environment)
    except UsageError:  # scripts ask for it themselves, and say what to install
        return ()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
