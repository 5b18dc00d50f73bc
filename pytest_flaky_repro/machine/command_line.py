"""Words on the kernel's command line that would spoil a campaign. Pure.

Documentation/admin-guide/kernel-parameters.txt; each was tried in a guest.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class BadWord:
    """A word, what it does, and whether nothing works with it."""

    word: str
    effect: str
    blocks: bool


_ONE_CPU = ("nosmp", "maxcpus=0", "maxcpus=1", "nr_cpus=1", "possible_cpus=1")


def bad_words(append: str, smp: int) -> Iterator[BadWord]:
    """What ``append`` breaks for a guest of ``smp`` CPUs."""
    for word in _split(append):
        name, _, value = word.partition("=")
        if name == "rdinit":
            yield BadWord(word, "the kernel does not start our /init, and no trial begins", True)
        elif name == "8250.nr_uarts" and value == "0":
            yield BadWord(word, "no serial port is set up: nothing will ever be printed", True)
        elif name in ("printk.devkmsg", "printk_devkmsg") and value == "off":
            yield BadWord(word, "/dev/kmsg is closed: no trial can be marked in the log", True)
        elif word in _ONE_CPU and smp > 1:
            yield BadWord(word, f"one CPU is used, --repro-smp asked for {smp}", True)
        elif name == "panic" and not value.startswith("-"):
            yield BadWord(word, "a panic does not end the guest at once: crashes take long", False)


def _split(append: str) -> list[str]:
    try:
        return shlex.split(append)
    except ValueError:  # a quotation mark too many is for the kernel to mind
        return append.split()
