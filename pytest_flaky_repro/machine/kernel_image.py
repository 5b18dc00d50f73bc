"""What kind of file a user calls a kernel (Documentation/arch/x86/boot.rst)."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import UsageError


@dataclass(frozen=True)
class KernelImage:
    """A bzImage for 64-bit x86, whole in memory."""

    path: Path
    content: bytes
    sha256: str
    banner: str  # release and build, from the image's own header; may be empty


def read_kernel(path: Path, source: str = "--kernel") -> KernelImage:
    """Reads and checks an image; UsageError says what the file is instead, and the mend."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        msg = f"{source}: {path}: no such file. Give the path of a bzImage."
        raise UsageError(msg) from error
    except OSError as error:
        msg = f"{source}: {path} cannot be read: {error.strerror}. Give the path of a bzImage."
        raise UsageError(msg) from error
    problem = _problem(content)
    if problem is not None:
        msg = f"{source}: {path} is not a bzImage for 64-bit x86: {problem}"
        raise UsageError(msg)
    return KernelImage(path, content, hashlib.sha256(content).hexdigest(), _banner(content))


def _problem(content: bytes) -> str | None:  # noqa: PLR0911 - one answer a kind of file
    if not content:
        return "it is empty"
    if content[:4] == b"\x7fELF":
        return "it is an ELF file (a vmlinux?). Use arch/x86/boot/bzImage of the same build."
    if content[:2] == b"\x1f\x8b":
        return "it is a gzip file. Unpack it first (gunzip), or use the bzImage of the build."
    if content[0x38:0x3C] == b"ARM\x64":
        return "it is an arm64 Image. Only x86-64 guests are supported."
    if (
        len(content) < 0x268
        or content[0x202:0x206] != b"HdrS"
        or content[0x1FE:0x200] != b"\x55\xaa"
    ):
        return "it has no Linux boot header (HdrS). Use arch/x86/boot/bzImage of a kernel build."
    version = int.from_bytes(content[0x206:0x208], "little")
    if version < 0x20C:
        return (
            f"its boot protocol is {version >> 8}.{version & 255:02}; 2.12 (Linux 3.8) is needed."
        )
    if not content[0x236] & 1:  # xloadflags, XLF_KERNEL_64
        return "it is a 32-bit kernel. Build with CONFIG_64BIT=y."
    sectors, paragraphs = content[0x1F1] or 4, struct.unpack_from("<I", content, 0x1F4)[0]
    if len(content) < (sectors + 1) * 512 + paragraphs * 16:
        return "it is cut short: its header promises more bytes than the file has. Copy it again."
    return None


def _banner(content: bytes) -> str:
    """kernel_version: an offset, less 0x200, to a NUL-terminated string."""
    at = struct.unpack_from("<H", content, 0x20E)[0]
    if not at:
        return ""
    text = content[at + 0x200 : at + 0x200 + 256].split(b"\0")[0]
    return text.decode("ascii", "replace")
