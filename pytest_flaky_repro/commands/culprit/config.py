"""``flaky-repro culprit config``: the options that make a kernel crash."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pytest_flaky_repro import settings as options_of
from pytest_flaky_repro.commands.culprit.backend import Backend, Section, say
from pytest_flaky_repro.commands.culprit.folders import build_folder
from pytest_flaky_repro.commands.culprit.shared import check_guests
from pytest_flaky_repro.culprit.config import dotconfig
from pytest_flaky_repro.culprit.config.builder import ConfigBuilder, make_builder, read_ends
from pytest_flaky_repro.culprit.config.kernels import KernelStore, fingerprint
from pytest_flaky_repro.culprit.config.settling import SourceTree
from pytest_flaky_repro.culprit.holding import held
from pytest_flaky_repro.culprit.result import Claim, Confirmation, CulpritSet, Result
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import folder_name
from pytest_flaky_repro.report.sentences import printable

_X86 = ("x86", "x86_64", "i386")
_MANY = 12
_WORDS = {
    Claim.SUFFICIENT: "good with only these changed",
    Claim.NECESSARY: "good with fewer changed ({subset})",
    Claim.COMPLETE: "bad with only these changed back",
}


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("--source", type=Path, required=True, metavar="DIR", help="the kernel's source tree")
    argument("--good", type=Path, required=True, metavar="FILE", help="a .config that is fine")
    argument("--bad", type=Path, required=True, metavar="FILE", help="a .config that crashes")
    argument(
        "--make", action="append", default=[], metavar="WORDS",
        help="more words for the kernel's make, such as 'CC=gcc-12'; repeatable",
    )  # fmt: skip
    argument("--arch", metavar="ARCH", help="default: what --bad was made for")
    argument("--target", default="bzImage", metavar="T", help="what make builds (bzImage)")
    argument(
        "--image", default="arch/x86/boot/bzImage", metavar="PATH",
        help="the kernel that comes out of it (arch/x86/boot/bzImage)",
    )  # fmt: skip
    argument("--build-jobs", metavar="N", help="make -jN (default: one a core)")
    argument("--build-folder", type=Path, metavar="DIR", help="where kernels are built and kept")


def backend(options: argparse.Namespace, stack: ExitStack) -> Backend:
    """Settles both configurations, puts what differs in order."""
    tree, jobs = _tree(options), _build_jobs(options)
    check_guests(options)
    title = f"config {options.good} {options.bad}"
    folder = options.build_folder or build_folder(options.evidence, folder_name(title))
    folder = folder.resolve()
    stack.enter_context(held(folder, "--build-folder"))
    store = KernelStore(
        tree,
        folder,
        options.image,
        options.target,
        jobs,
        fingerprint(tree.path),
    )
    if not options.resume:
        store.forget_failures()
    ends = read_ends(tree, options.good, options.bad, store.folder / "settling")
    for sentence in ends.refused:
        say(sentence)
    builder = make_builder(tree, ends, store)
    differ = len(builder.candidates)
    say(f"{differ} options differ, in an order in which each comes after what it needs")
    return Backend(builder, title, afterwards=lambda result: _afterwards(builder, result))


def _tree(options: argparse.Namespace) -> SourceTree:
    source = options.source.absolute()
    if not (source / "Kconfig").is_file() or not (source / "Makefile").is_file():
        raise UsageError(
            f"--source {options.source}: expected a kernel's source tree, with Makefile and Kconfig"
        )
    arch = options.arch or dotconfig.architecture(dotconfig.read(options.bad, "--bad"))
    words = [word for text in options.make for word in shlex.split(text)]
    return SourceTree(source, arch or _host_arch(), tuple(words))


def _host_arch() -> str:
    machine = platform.machine()
    return "x86_64" if machine in _X86 else {"aarch64": "arm64"}.get(machine, machine)


def _build_jobs(options: argparse.Namespace) -> int:
    if options.build_jobs is None:
        return len(os.sched_getaffinity(0))
    try:
        return options_of.count(options.build_jobs)
    except ValueError as error:
        raise UsageError(f"--build-jobs {options.build_jobs}: expected {error}") from None


def _afterwards(builder: ConfigBuilder, result: Result) -> list[Section]:
    """For each culprit set: its options, what came with them, and the kernels that show it."""
    return [_about(builder, found) for found in result.sets]


def _about(builder: ConfigBuilder, found: CulpritSet) -> Section:
    lines = [candidate.detail for candidate in found.candidates]
    kernels = []
    for confirmation in found.confirmations:
        lines += _confirmed(builder, confirmation)
        kernels.append(_data(builder, confirmation))
    data = {"options": [candidate.detail for candidate in found.candidates], "kernels": kernels}
    return Section("the options", [printable(line) for line in lines], data)


def _confirmed(builder: ConfigBuilder, confirmation: Confirmation) -> list[str]:
    """One confirming kernel: where it is, and how its configuration differs from what was meant."""
    composition = builder.composition(confirmation.subset)
    image = confirmation.image
    where = image.kernel if image is not None else None
    what = _WORDS[confirmation.claim].format(subset=confirmation.subset)
    lines = [f"{what}: {where if where is not None else 'not built'}"]
    if composition.companions:
        lines.append(f"    with what that needs: {_some(composition.companions)}")
    if composition.missed:
        missed = [str(miss) for miss in composition.missed]
        lines.append(f"    other than asked for: {_some(missed)}")
    return lines


def _data(builder: ConfigBuilder, confirmation: Confirmation) -> dict[str, object]:
    composition = builder.composition(confirmation.subset)
    image = confirmation.image
    return {
        "claim": confirmation.claim.value,
        "kernel": str(image.kernel) if image is not None else None,
        "companions": list(composition.companions),
        "missed": [str(miss) for miss in composition.missed],
    }


def _some(names: Sequence[str]) -> str:
    more = f", and {len(names) - _MANY} more" if len(names) > _MANY else ""
    return ", ".join(names[:_MANY]) + more
