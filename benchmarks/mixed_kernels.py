"""Measures how long 32 kernels take, each with another half of its objects bad.

    python benchmarks/mixed_kernels.py --source linux --build O --work WORK --bad-flags="..."

makes both full builds in WORK if they are not there, then the same kernels in three ways: compiled
(what has to change sides is compiled again), swapped and made (stored objects, make links), swapped
and replayed (stored objects, only make's link is repeated). The sides are bits of the objects'
names' SHA-1, as hash bisection takes them: the worst case, half of all objects change each time.
Prints one JSON line for each way: kernels, wall and CPU seconds (children's, user and system),
median seconds a kernel, load before and after; and whether all ways gave the same images.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pytest_flaky_repro.culprit.objects.builder import ObjectsBuilder
from pytest_flaky_repro.culprit.objects.linking import Replay
from pytest_flaky_repro.culprit.objects.store import digest_of
from pytest_flaky_repro.culprit.objects.workplace import Inputs, Workplace
from pytest_flaky_repro.culprit.objects.wrapper import Variant

Way = Callable[[Sequence[str]], Path]


def bad_in(kernel: int, names: Sequence[str]) -> list[str]:
    """The objects that are bad in kernel 0, 1, ...: those whose hash has that bit set."""
    return [
        name
        for name in names
        if int.from_bytes(hashlib.sha1(name.encode()).digest(), "big") >> kernel & 1
    ]


def compiled(place: Workplace, builder: ObjectsBuilder) -> Way:
    """Deletes what has to change sides and has make compile it."""
    now: dict[str, bool] = {}

    def make(bad: Sequence[str]) -> Path:
        kbuild, wanted = place.kbuild, set(bad)
        kbuild.files.want_bad(bad)
        for pair in builder.pairs:
            if now.get(pair.name) is not (pair.name in wanted):
                (kbuild.tree / pair.name).unlink(missing_ok=True)
                now[pair.name] = pair.name in wanted
        kbuild.must(kbuild.target(), "compile a mixture")
        return kbuild.image()

    names = [pair.name for pair in builder.pairs]
    builder.mix(bad_in(31, names))  # what the tree holds is known from now on
    now.update({name: name in set(bad_in(31, names)) for name in names})
    return make


def swapped(place: Workplace, replay: Replay) -> Way:
    """Puts stored objects in place; links by make, or by the replayed link (proved first)."""
    builder = place.builder(place.objects(say))
    linker = builder.linker
    if replay is Replay.REFUSED:
        linker.replay = Replay.REFUSED
    else:
        names = [pair.name for pair in builder.pairs if pair.name in linker.members]
        for kernel in range(3):  # the first is make's alone
            builder.mix(bad_in(kernel, names))
        if linker.replay is not Replay.TRUSTED:
            sys.exit(f"the link cannot be replayed here: {linker.reason}")
    return builder.mix


def measure(name: str, way: Way, kernels: int, names: Sequence[str]) -> dict[str, Any]:
    times, images, began, load = [], [], os.times(), os.getloadavg()[0]
    for kernel in range(kernels):
        started = time.monotonic()
        images.append(digest_of(way(bad_in(kernel, names))))
        times.append(time.monotonic() - started)
        print(f"{name}: kernel {kernel + 1} of {kernels}: {times[-1]:.1f} s", file=sys.stderr)
    ended = os.times()
    cpu = (ended.children_user + ended.children_system) - (
        began.children_user + began.children_system
    )
    return {
        "way": name,
        "kernels": kernels,
        "wall_s": round(sum(times), 1),
        "cpu_s": round(cpu, 1),
        "median_s": round(statistics.median(times), 2),
        "load": [load, os.getloadavg()[0]],
        "images": images,
    }


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--build", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--bad-flags", required=True)
    parser.add_argument("--make-arg", action="append", default=[])
    parser.add_argument("--kernels", type=int, default=32)
    parser.add_argument("--compiled", type=int, default=2, help="so many of them compiled, too")
    options = parser.parse_args()
    inputs = Inputs(
        options.source,
        options.build,
        Variant("gcc"),
        Variant("gcc", options.bad_flags),
        tuple(options.make_arg),
    )
    inputs.check(options.work)
    place = Workplace(options.work.resolve(), inputs)
    with place.locked():
        builder = place.builder(place.objects(say))
        # A vDSO's own link is make's in every way: here it would hide what is compared.
        names = [pair.name for pair in builder.pairs if pair.name in builder.linker.members]
        results = [
            measure("swap+replay", swapped(place, Replay.TRUSTED), options.kernels, names),
            measure("swap+make", swapped(place, Replay.REFUSED), options.kernels, names),
        ]
        if options.compiled:
            results.append(measure("compile", compiled(place, builder), options.compiled, names))
    images = [result.pop("images") for result in results]
    for result in results:
        print(json.dumps(result))
    shortest = min(len(found) for found in images)
    same = all(found[:shortest] == images[0][:shortest] for found in images)
    per_kernel = [result["cpu_s"] / result["kernels"] for result in results]
    ratios = [round(cpu / per_kernel[0], 2) for cpu in per_kernel]
    print(json.dumps({"same_images": same, "compared": shortest, "cpu_ratio_a_kernel": ratios}))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
