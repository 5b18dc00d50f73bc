"""The configuration a kernel was built with: read out of its image, or from a file beside it.

With CONFIG_IKCONFIG=y the kernel carries its .config, packed with gzip, between two marks
(kernel/configs.c). The kernel itself lies packed in the bzImage, where the boot header's
payload_offset and payload_length say (Documentation/arch/x86/boot.rst), followed by its unpacked
size in four bytes for all packings but gzip (scripts/Makefile.lib, size_append).
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.guest.compression import recognise
from pytest_flaky_repro.guest.decompression import decompress
from pytest_flaky_repro.machine.kernel_image import KernelImage, protected_mode_offset

_MARK = b"IKCFG_ST"
_LIMIT = 1 << 24  # bytes; a full .config has some 300,000
_LINE = re.compile(r"CONFIG_(?P<set>\w+)=(?P<value>.+)|# CONFIG_(?P<unset>\w+) is not set")
_TITLE = re.compile(r"(?m)^# Linux/\S+ (?P<version>[0-9]+\.[0-9]+\S*) Kernel Configuration")


@dataclass(frozen=True)
class KernelConfig:
    """Options and their values, without ``CONFIG_``; ``source`` says where they were read."""

    options: Mapping[str, str]
    source: str
    embedded: bool

    def value(self, name: str) -> str:
        """``y``, ``m``, ``n``, a number or a quoted text; ``n`` for what is not mentioned."""
        return self.options.get(name, "n")

    def __contains__(self, name: str) -> bool:
        return self.value(name) == "y"


def unpack(kernel: KernelImage) -> bytes:
    """The vmlinux inside a bzImage.

    UsageError when it is damaged, or packed in a way that needs a tool this machine has not.
    """
    offset, length = struct.unpack_from("<II", kernel.content, 0x248)
    start = protected_mode_offset(kernel.content) + offset
    payload = kernel.content[start : start + length]
    if not length or len(payload) < length:
        msg = f"{kernel.path}: the boot header does not say where the packed kernel lies"
        raise UsageError(msg)
    try:
        packed = recognise(payload[:16], "the packed kernel").value
        return decompress(packed, payload if packed == "gzip" else payload[:-4])[0]
    except UsageError as error:
        msg = f"{kernel.path}: the kernel in it cannot be unpacked: {error}"
        raise UsageError(msg) from error


def embedded_config(vmlinux: bytes) -> KernelConfig | None:
    """The configuration inside an unpacked kernel; None without CONFIG_IKCONFIG=y.

    UsageError when it is there and damaged.
    """
    at = vmlinux.find(_MARK + b"\x1f\x8b")
    if at < 0:
        return None
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(vmlinux[at + len(_MARK) :], _LIMIT)
    except zlib.error as error:
        msg = f"the configuration in the image (IKCONFIG) is damaged: {error}"
        raise UsageError(msg) from error
    return KernelConfig(parse(text.decode("utf-8", "replace")), "in the image (IKCONFIG)", True)


def config_beside(kernel: KernelImage) -> KernelConfig | None:
    """The configuration in a file that belongs to the image, as builds and distributions put it.

    A file of another version, or one whose SMP contradicts the banner, is passed over.
    """
    for path in _candidates(kernel):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        options = parse(text)
        if options and _belongs(kernel, text, options):
            return KernelConfig(options, str(path), False)
    return None


def parse(text: str) -> dict[str, str]:
    """The options of a .config file, in order."""
    options = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            options[match["set"] or match["unset"]] = match["value"] or "n"
    return options


def _candidates(kernel: KernelImage) -> Iterator[Path]:
    folder = kernel.path.absolute().parent
    if kernel.release:
        yield folder / f"config-{kernel.release}"
    yield from (folder / "config", folder / ".config")
    if folder.parts[-3:] in (("arch", "x86", "boot"), ("arch", "x86_64", "boot")):
        yield folder.parents[2] / ".config"
    if kernel.release:
        yield Path("/boot") / f"config-{kernel.release}"
        yield Path("/usr/lib/modules") / kernel.release / "config"


def _belongs(kernel: KernelImage, text: str, options: Mapping[str, str]) -> bool:
    title = _TITLE.search(text)
    same = title is None or kernel.release.startswith(title["version"])
    words = kernel.banner.partition("#")[2].split()
    return same and ("SMP" in words) == (options.get("SMP") == "y")
