"""``flaky-repro culprit objects``: whose flags, or whose compiler, make it crash."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pytest_flaky_repro.commands.culprit.backend import Backend, Section, say
from pytest_flaky_repro.commands.culprit.shared import check_guests
from pytest_flaky_repro.culprit.disk import writing
from pytest_flaky_repro.culprit.objects.builder import ObjectsBuilder
from pytest_flaky_repro.culprit.objects.linking import Replay
from pytest_flaky_repro.culprit.objects.look import look_at
from pytest_flaky_repro.culprit.objects.pairs import Objects
from pytest_flaky_repro.culprit.objects.workplace import Inputs, Workplace
from pytest_flaky_repro.culprit.objects.wrapper import Variant
from pytest_flaky_repro.culprit.result import Claim, Result
from pytest_flaky_repro.errors import UsageError

SHOWN = 12  # excluded objects that are named on the terminal


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("--source", type=Path, required=True, metavar="DIR", help="the kernel's source tree")
    argument(
        "--build", type=Path, required=True, metavar="DIR",
        help="a configured build of it: its .config is used, nothing there is changed",
    )  # fmt: skip
    argument("--good-flags", default="", metavar="FLAGS", help="behind all others; default: none")
    argument("--bad-flags", default="", metavar="FLAGS", help="write --bad-flags='-fno-inline ...'")
    argument("--good-cc", default="gcc", metavar="CC", help="default: gcc")
    argument("--bad-cc", metavar="CC", help="default: the good one")
    argument(
        "--only", action="append", default=[], metavar="GLOB",
        help="only these objects are candidates, such as 'arch/x86/entry/*'; repeatable",
    )  # fmt: skip
    argument("--exclude", action="append", default=[], metavar="GLOB", help="never these")
    argument(
        "--make-arg", action="append", default=[], metavar="WORD",
        help="for make, such as ARCH=x86_64; repeatable",
    )  # fmt: skip
    argument("--build-jobs", type=int, default=0, metavar="N", help="make -jN; default: all cores")
    argument(
        "--work", type=Path, metavar="DIR",
        help="where the object tree and both variants are kept (default: in the evidence's folder)",
    )  # fmt: skip
    argument("--rebuild", action="store_true", help="make both full builds again")


def backend(options: argparse.Namespace, stack: ExitStack) -> Backend:
    inputs = Inputs(
        options.source,
        options.build,
        Variant(options.good_cc, options.good_flags),
        Variant(options.bad_cc or options.good_cc, options.bad_flags),
        tuple(options.make_arg),
    )
    folder = _folder(options, inputs)
    check_guests(options)
    place = Workplace(folder, inputs, options.build_jobs)
    stack.enter_context(place.locked())
    if options.rebuild:
        place.forget()
    with writing(folder):
        found = place.objects(say, tuple(options.only), tuple(options.exclude))
    builder = place.builder(found)
    if not options.resume:
        builder.forget_failures()
    for line in summary(found, folder):
        say(line)
    return Backend(
        builder,
        title=f"objects of {options.source.name}: {inputs.bad} against {inputs.good}",
        afterwards=lambda result: _afterwards(result, builder, found),
    )


def _folder(options: argparse.Namespace, inputs: Inputs) -> Path:
    if options.build_jobs < 0:
        raise UsageError(f"--build-jobs {options.build_jobs}: expected a number of jobs, 1 or more")
    home = options.work or Path(options.evidence or ".repro")
    inputs.check(Path(home))
    return Path(options.work or Path(home) / f"objects-{inputs.key}").resolve()


def summary(found: Objects, folder: Path) -> list[str]:
    """What became of all the objects, in numbers, and those that had to be left out by name."""
    reasons = Counter(found.excluded.values())
    apart = {why: times for why, times in reasons.items() if times > 5}
    named = {name: why for name, why in found.excluded.items() if why not in apart}
    sublinked = [pair.name for pair in found.pairs if pair.name not in found.members]
    candidates, same, excluded = len(found.pairs), len(found.same), len(found.excluded)
    lines = [
        (
            f"{candidates} candidates; {same} more objects are the same in both variants, "
            f"{excluded} cannot be bad and stay good in every kernel"
        )
    ]
    lines += [f"  {times} objects: {why}" for why, times in apart.items()]
    lines += [f"  {name}: {why}" for name, why in list(named.items())[:SHOWN]]
    if len(named) > SHOWN:
        lines.append(f"  ... and {len(named) - SHOWN} more: {folder}/objects-*.json")
    if sublinked:
        lines.append(
            f"{len(sublinked)} of the candidates are linked into something else first (a vDSO, "
            "say): where one of these changes, make does the linking"
        )
    return lines


def _afterwards(result: Result, builder: ObjectsBuilder, found: Objects) -> Sequence[Section]:
    pairs = {pair.name: pair for pair in found.pairs}
    sections = []
    for name in result.names:
        listing = builder.folder / "listings" / f"{name.replace('/', '-')}.txt"
        look = look_at(pairs[name], builder.store, listing)
        sections.append(Section(f"a look at {name}", look.lines, look.data))
    kernels = _kernels(result)
    sections.append(
        Section(
            "the builds",
            [*(f"{what}: {path}" for what, path in kernels.items()), _linked(builder)],
            {
                "kernels": kernels,
                "replayed_link": builder.linker.replay.value,
                "excluded": dict(found.excluded),
                "same": len(found.same),
                "candidates": len(builder.pairs),
                "folder": str(builder.folder),
            },
        )
    )
    return sections


def _kernels(result: Result) -> dict[str, str]:
    """The kernels to show to others: all good but the culprit, all bad but it."""
    return {
        str(confirmation.subset): str(confirmation.image.kernel)
        for culprit in result.sets
        for confirmation in culprit.confirmations
        if confirmation.image is not None
        and confirmation.claim in {Claim.SUFFICIENT, Claim.COMPLETE}
    }


def _linked(builder: ObjectsBuilder) -> str:
    return {
        Replay.TRUSTED: "linked without make, which gave the same image twice before",
        Replay.UNTRIED: "linked by make",
        Replay.REFUSED: f"linked by make: {builder.linker.reason}",
    }[builder.linker.replay]
