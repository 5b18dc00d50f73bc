"""A kernel under ``flaky-repro doctor``: the file, its configuration, what it will be told."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pytest_flaky_repro.commands.findings import BLOCKS, GOOD, NOTE, Finding
from pytest_flaky_repro.errors import ReproError
from pytest_flaky_repro.machine import kernel_config, kernel_needs
from pytest_flaky_repro.machine.command_line import bad_words
from pytest_flaky_repro.machine.kernel_config import KernelConfig
from pytest_flaky_repro.machine.kernel_image import KernelImage, memory_lacking
from pytest_flaky_repro.machine.kernel_needs import Demands, Lack
from pytest_flaky_repro.machine.kernel_words import told_by_words

GUESSED = "words"  # the subject of what was told by the texts in an image, not by its .config


@dataclass(frozen=True)
class _Told:
    """What the words in an image tell; all other options are taken to be set."""

    options: Mapping[str, str]

    def value(self, name: str) -> str:
        unset = {"CMDLINE_OVERRIDE": "n", "SERIAL_8250_RUNTIME_UARTS": "4", "NR_CPUS": ""}
        return self.options.get(name, unset.get(name, "y"))


def examine_kernel(
    kernel: KernelImage, options: argparse.Namespace, demands: Demands, archive_size: int
) -> Iterator[Finding]:
    """``archive_size`` in bytes: the initramfs has to fit into memory beside the kernel."""
    yield Finding("kernel", GOOD, f"{kernel.path}: {kernel.banner or 'a bzImage without a banner'}")
    yield from _memory(kernel, options.memory, archive_size)
    for bad in bad_words(options.append, options.smp):
        state = BLOCKS if bad.blocks else NOTE
        yield Finding("append", state, f"{bad.word}: {bad.effect}", f"leave out {bad.word}")
    yield from _configuration(kernel, demands)


def _memory(kernel: KernelImage, memory_mib: int, archive_size: int) -> Iterator[Finding]:
    lacking = memory_lacking(kernel, archive_size, memory_mib)
    if lacking is not None:
        yield Finding("memory", BLOCKS, lacking, "--repro-memory 256")


def _configuration(kernel: KernelImage, demands: Demands) -> Iterator[Finding]:
    vmlinux: bytes | None = None
    config: KernelConfig | None = None
    unread = ""
    try:
        vmlinux = kernel_config.unpack(kernel)
        config = kernel_config.embedded_config(vmlinux)
    except ReproError as error:
        unread = str(error).removeprefix(f"{kernel.path}: ")
        yield Finding("config", NOTE, unread)
    config = config or kernel_config.config_beside(kernel)
    if config is not None:
        yield from _judged(config, demands)
    elif vmlinux is not None:
        yield from _guessed(kernel, vmlinux, demands)


def _judged(config: KernelConfig, demands: Demands) -> Iterator[Finding]:
    where = f"read {'' if config.embedded else 'from '}{config.source}"
    found = list(kernel_needs.lacks(config, demands))
    if not found:
        yield Finding("config", GOOD, f"{where}: nothing is missing")
    for lack in found:
        yield _finding("config", lack)
    if found:
        mend = kernel_needs.mend(found)
        yield Finding("config", NOTE, f"{where}; to mend all of this in the kernel's tree", mend)
    extras = kernel_needs.extras(config)
    if extras:
        text = f"left out, which matters only to reproducers that use it: {', '.join(extras)}"
        yield Finding("config", GOOD, text)


def _guessed(kernel: KernelImage, vmlinux: bytes, demands: Demands) -> Iterator[Finding]:
    told = told_by_words(kernel, vmlinux)
    found = [lack for lack in kernel_needs.lacks(_Told(told), demands) if lack.blocks]
    for lack in found:
        text = f"{lack.option}, going by the texts in the image: {lack.symptom}"
        yield Finding(GUESSED, BLOCKS, text, kernel_needs.mend([lack]))
    names = ", ".join(told)
    text = f"no .config in the image (IKCONFIG=n) nor beside it; its texts tell only of {names}"
    yield Finding("config", NOTE, text, "" if found else "--boot tries it out")


def _finding(subject: str, lack: Lack) -> Finding:
    return Finding(subject, BLOCKS if lack.blocks else NOTE, f"{lack.option}: {lack.symptom}")
