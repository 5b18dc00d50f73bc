"""What a guest is made of, before any of it runs."""

from __future__ import annotations

import enum
import os
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError


class Accel(enum.Enum):
    """How QEMU executes guest code."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True)
class Emulator:
    """A QEMU that was found to start. ``firmware`` is None for the machine's own."""

    path: Path
    version: str
    sandbox: bool
    firmware: Path | None


class MemoryFile:
    """Bytes that QEMU opens by path and that no disk holds.

    A kernel that is rebuilt in mid-campaign cannot slip in, and nothing is left to clean up,
    however this process ends.
    """

    def __init__(self, name: str, content: bytes) -> None:
        try:
            self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        except OSError as error:
            raise InfrastructureError(f"no memory file for the {name}: {error}") from error
        try:
            with open(self.descriptor, "wb", closefd=False) as file:
                file.write(content)
        except OSError as error:
            os.close(self.descriptor)
            raise InfrastructureError(f"no memory for the {name}: {error}") from error

    @property
    def path(self) -> Path:
        """Valid in a process that inherits the descriptor."""
        return Path(f"/proc/self/fd/{self.descriptor}")

    def close(self) -> None:
        os.close(self.descriptor)


def memory_files(kernel: bytes, initramfs: bytes) -> tuple[MemoryFile, MemoryFile]:
    """Both of a guest's images, or neither."""
    first = MemoryFile("kernel", kernel)
    try:
        return first, MemoryFile("initramfs", initramfs)
    except InfrastructureError:
        first.close()
        raise


@dataclass(frozen=True)
class GuestSpec:
    """One virtual machine: the same spec boots the same guest, up to luck."""

    kernel: MemoryFile
    initramfs: MemoryFile
    accel: Accel
    smp: int = 1
    memory_mib: int = 256
    machine: str = "pc"
    append: str = ""

    def __enter__(self) -> GuestSpec:  # noqa: PYI034 - Self needs Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        """Gives the images' memory back; no guest may be started from this any more."""
        self.kernel.close()
        self.initramfs.close()


@dataclass(frozen=True)
class Deadlines:
    """Limits of one guest's phases.

    ``*_cpu_s`` are seconds of QEMU's own CPU time, which a loaded host does not stretch;
    ``idle_s`` is wall time in which a silent guest used almost no CPU; ``wall_cap_s`` is the
    last resort.
    """

    boot_cpu_s: float = 120.0
    run_grace_cpu_s: float = 10.0
    leave_cpu_s: float = 10.0
    idle_s: float = 15.0
    wall_cap_s: float = 900.0
