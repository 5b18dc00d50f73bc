"""What a file is that was given for a kernel or an archive and is neither: told by its first bytes.

Magic numbers are those of the formats' own documents: the kernel's Documentation/arch (arm64/
booting.rst, riscv/boot-image-header.rst) and zImage header, the ELF gABI, the PE format, U-Boot's
image.h, and qcow2.txt of QEMU.
"""

from __future__ import annotations

import struct

_BUILD = "Use arch/x86/boot/bzImage of the same build."
_MACHINES = {3: "i386", 40: "arm", 62: "x86-64", 183: "arm64", 243: "RISC-V", 21: "ppc64"}
_ELF_TYPES = {1: "an object file", 2: "a program", 3: "a program or library", 4: "a core file"}

# (where, magic, what it is, the mend)
_MAGIC: tuple[tuple[int, bytes, str, str], ...] = (
    (0x38, b"ARM\x64", "an arm64 Image", "Only x86-64 guests are supported."),
    (0x38, b"RSC\x05", "a RISC-V Image", "Only x86-64 guests are supported."),
    (0x24, b"\x18\x28\x6f\x01", "a 32-bit arm zImage", "Only x86-64 guests are supported."),
    (0, b"\x1f\x8b", "a gzip file", "Unpack it first (gunzip), or use the bzImage of the build."),
    (0, b"BZh", "a bzip2 file", "Unpack it first (bunzip2)."),
    (0, b"\xfd7zXZ\0", "an xz file", "Unpack it first (unxz)."),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file", "Unpack it first (unzstd)."),
    (0, b"\x02\x21\x4c\x18", "an lz4 file", "Unpack it first (unlz4)."),
    (0, b"\x04\x22\x4d\x18", "an lz4 file", "Unpack it first (unlz4)."),
    (0, b"\x89LZO", "an lzop file", "Unpack it first (lzop -d)."),
    (0, b"\x27\x05\x19\x56", "a U-Boot uImage", _BUILD),
    (0, b"\xd0\x0d\xfe\xed", "a device tree or FIT image", _BUILD),
    (0, b"QFI\xfb", "a qcow2 disk image", "A kernel is wanted, not a disk: " + _BUILD),
    (0, b"!<arch>\ndebian", "a Debian package", "Unpack it: dpkg-deb -x; the kernel is in boot/."),
    (0, b"!<arch>\n", "an archive of object files", _BUILD),
    (0, b"\xed\xab\xee\xdb", "an RPM package", "Unpack it: rpm2cpio; the kernel is vmlinuz."),
    (0, b"070701", "a cpio archive (an initramfs?)", "Give it as --initrd, and a bzImage here."),
    (0, b"070702", "a cpio archive (an initramfs?)", "Give it as --initrd, and a bzImage here."),
    (0x101, b"ustar", "a tar archive", _BUILD),
)
_UNIFIED = b".linux\0\0"  # the section of a unified kernel image that holds the kernel


def name_kind(content: bytes) -> tuple[str, str] | None:
    """What the file is and what to do about it; None for what is not recognised.

    A bzImage is recognised too: as a kernel, for whoever wanted an archive.
    """
    if content.startswith(b"\x7fELF"):
        return _elf(content)
    if is_bzimage(content):
        return "a kernel (bzImage)", "Give it as --kernel."
    for place, magic, what, mend in _MAGIC:
        if content[place : place + len(magic)] == magic:
            return what, mend
    if content.startswith(b"MZ"):
        what = "a unified kernel image" if _UNIFIED in content[:4096] else "an EFI program"
        return what, "Use the bzImage that was packed into it (objcopy -O binary -j .linux)."
    return None


def is_bzimage(content: bytes) -> bool:
    """Whether there is a Linux boot header for x86 (Documentation/arch/x86/boot.rst)."""
    return (
        len(content) >= 0x268
        and content[0x202:0x206] == b"HdrS"
        and content[0x1FE:0x200] == b"\x55\xaa"
    )


def _elf(content: bytes) -> tuple[str, str]:
    order = ">" if content[5:6] == b"\x02" else "<"
    kind, machine = struct.unpack_from(f"{order}HH", content, 16) if len(content) > 20 else (0, 0)
    name = f" for {_MACHINES.get(machine, f'machine {machine}')}" if machine else ""
    if b"Linux version " in content:
        what = f"an ELF file: a vmlinux{name}"
    else:
        what = f"an ELF file ({_ELF_TYPES.get(kind, 'a vmlinux?')}{name})"
    return what, _BUILD if machine in (0, 62) else "Only x86-64 guests are supported."
