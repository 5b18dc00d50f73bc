"""What a kernel was built without, told by the words that are not in it.

A kernel without IKCONFIG still holds the texts of the code it was built from. Each mark below is
in every x86-64 kernel that has the option, and in none that lacks it: checked on the test kernels
and Debian's. Only an option that a text stands for can be told in this way.
"""

from __future__ import annotations

from pytest_flaky_repro.machine.kernel_image import KernelImage

MARKS = {
    "PRINTK": b"ignore_loglevel",  # kernel/printk/printk.c, a parameter under CONFIG_PRINTK
    "SERIAL_8250_CONSOLE": b"uart8250",  # drivers/tty/serial/8250/8250_early.c comes with it
    "BLK_DEV_INITRD": b"no cpio magic",  # init/initramfs.c
}


def told_by_words(kernel: KernelImage, vmlinux: bytes) -> dict[str, str]:
    """Options that the image itself gives away: ``y`` or ``n``; SMP by its banner."""
    told = {option: "y" if mark in vmlinux else "n" for option, mark in MARKS.items()}
    words = kernel.banner.partition("#")[2].split()
    if words:
        told["SMP"] = "y" if "SMP" in words else "n"
    return told
