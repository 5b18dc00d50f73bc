"""What kind of file a user calls a kernel (Documentation/arch/x86/boot.rst)."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.file_kinds import is_bzimage, name_kind

_MIB = 1 << 20
_LOADED_AT = 16 << 20  # pref_address of every x86-64 kernel: what lies below is not used for it


@dataclass(frozen=True)
class KernelImage:
    """A bzImage for 64-bit x86, whole in memory."""

    path: Path
    content: bytes
    sha256: str
    banner: str  # release and build, from the image's own header; may be empty

    @property
    def release(self) -> str:
        """The first word of the banner: what uname -r will say."""
        return self.banner.partition(" ")[0]

    @property
    def memory_needed(self) -> int:
        """Bytes of memory, from address 0, that the kernel takes before it knows the memory map.

        init_size behind the address that it prefers; a relocatable kernel may do with less.
        """
        init_size: int = struct.unpack_from("<I", self.content, 0x260)[0]
        return _LOADED_AT + init_size


def memory_lacking(kernel: KernelImage, archive_size: int, memory_mib: int) -> str | None:
    """What is wrong with so little memory; None where kernel and initramfs fit into it."""
    needed = -(-(kernel.memory_needed + archive_size) // _MIB)
    if memory_mib >= needed:
        return None
    return (
        f"{memory_mib} MiB: the kernel and its initramfs take {needed} MiB before the first "
        "program runs; the guest would reset without a word"
    )


def read_kernel(path: Path, source: str = "--kernel") -> KernelImage:
    """Reads and checks an image; UsageError says what the file is instead, and the mend."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{source}: {path}: no such file. Give the path of a bzImage."
        raise UsageError(msg) from error
    except OSError as error:
        hint = _in_folder(path)
        msg = (
            f"{source}: {path} cannot be read: {error.strerror}. Give the path of a bzImage{hint}."
        )
        raise UsageError(msg) from error
    problem = _problem(content)
    if problem is not None:
        msg = f"{source}: {path} is not a bzImage for 64-bit x86: {problem}"
        raise UsageError(msg)
    return KernelImage(path, content, hashlib.sha256(content).hexdigest(), _banner(content))


def _in_folder(path: Path) -> str:
    """Whoever names the folder of a build means the image in it."""
    image = path / "arch/x86/boot/bzImage"
    return f", such as {image}" if image.is_file() else ""


def _problem(content: bytes) -> str | None:  # noqa: PLR0911 - one answer a kind of file
    if not content:
        return "it is empty"
    if not is_bzimage(content):
        kind = name_kind(content)
        if kind is not None:
            return f"it is {kind[0]}. {kind[1]}"
        return "it has no Linux boot header (HdrS). Use arch/x86/boot/bzImage of a kernel build."
    version = int.from_bytes(content[0x206:0x208], "little")
    if version < 0x20C:
        return (
            f"its boot protocol is {version >> 8}.{version & 255:02}; 2.12 (Linux 3.8) is needed."
        )
    if not content[0x236] & 1:  # xloadflags, XLF_KERNEL_64
        return "it is a 32-bit kernel. Build with CONFIG_64BIT=y."
    if len(content) < protected_mode_offset(content) + syssize(content):
        return "it is cut short: its header promises more bytes than the file has. Copy it again."
    return None


def protected_mode_offset(content: bytes) -> int:
    """Where the real-mode setup code ends (setup_sects)."""
    return ((content[0x1F1] or 4) + 1) * 512


def syssize(content: bytes) -> int:
    """Bytes of the protected-mode part."""
    paragraphs: int = struct.unpack_from("<I", content, 0x1F4)[0]
    return paragraphs * 16


def _banner(content: bytes) -> str:
    """kernel_version: an offset, less 0x200, to a NUL-terminated string."""
    at = struct.unpack_from("<H", content, 0x20E)[0]
    if not at:
        return ""
    text = content[at + 0x200 : at + 0x200 + 256].split(b"\0")[0]
    return text.decode("ascii", "replace")
