"""A look at the culprit: what its bad variant does that the good one does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_flaky_repro.culprit.objects.disassembly import (
    Difference,
    differences,
    disassemble,
    side_by_side,
)
from pytest_flaky_repro.culprit.objects.pairs import Pair
from pytest_flaky_repro.culprit.objects.store import ObjectStore

FUNCTIONS_SHOWN = 12
LISTINGS_SHOWN = 2
ROWS_SHOWN = 60


@dataclass(frozen=True)
class Look:
    """Lines for people, and all functions that differ for machines."""

    lines: tuple[str, ...]
    data: Mapping[str, Any]


def look_at(pair: Pair, store: ObjectStore, listing: Path) -> Look:
    """Disassembles both variants; writes all that differs, side by side, to ``listing``."""
    found = differences(disassemble(store.path(pair.good)), disassemble(store.path(pair.bad)))
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text("\n".join(line for d in found for line in (*_listing(d), "")))
    lines = [
        f"{len(found)} functions of {pair.name} differ; all of them, side by side: {listing}",
        "",
        *_table(found[:FUNCTIONS_SHOWN]),
    ]
    if len(found) > FUNCTIONS_SHOWN:
        lines.append(f"  ... and {len(found) - FUNCTIONS_SHOWN} more")
    probing = [d for d in found if d.weight[0] > 0]  # they come first, if there are any
    for difference in (probing or found)[:LISTINGS_SHOWN]:
        rows = _listing(difference)
        lines += ["", *rows[:ROWS_SHOWN]]
        if len(rows) > ROWS_SHOWN:
            lines.append(f"... {len(rows) - ROWS_SHOWN} more rows in {listing.name}")
    data = {
        "object": pair.name,
        "good": str(store.path(pair.good)),
        "bad": str(store.path(pair.bad)),
        "listing": str(listing),
        "functions": [_record(difference) for difference in found],
    }
    return Look(tuple(lines), data)


def _table(found: Sequence[Difference]) -> list[str]:
    heads = ("function", "instructions", "stack bytes", "probes")
    rows = [heads, *((d.name, *d.columns()) for d in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    return [
        "  "
        + "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _listing(difference: Difference) -> list[str]:
    instructions, stack, probes = difference.columns()
    head = (
        f"{difference.name}: {instructions} instructions, {stack} bytes of stack, {probes} probes"
    )
    left = f"good: {difference.host.name}" if difference.host else "good"
    if difference.host:
        head += f"; inlined into {difference.host.name} when good"
    return [head, f"{left:46}   bad", *side_by_side(difference)]


def _record(difference: Difference) -> dict[str, Any]:
    record: dict[str, Any] = {"function": difference.name}
    for word, function in (("good", difference.good), ("bad", difference.bad)):
        record[word] = function and {
            "instructions": len(function.instructions),
            "stack": function.stack,
            "probes": function.probes,
        }
    return record
