"""Culprit searches in a report: what was tried, what each try showed, and whom it points at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.culprit.aim import Aim
from pytest_flaky_repro.culprit.candidates import Candidate, Subset, Universe
from pytest_flaky_repro.culprit.ledger import FILES, Book, standing
from pytest_flaky_repro.culprit.links import Link, Seen
from pytest_flaky_repro.culprit.result import Claim, Kind
from pytest_flaky_repro.culprit.testing import unit_of
from pytest_flaky_repro.report import plots
from pytest_flaky_repro.report.culprit import confirmed, headline, probability
from pytest_flaky_repro.report.sentences import confidence, downwards, upwards
from pytest_flaky_repro.stats.search.chain import Chain, Prior
from pytest_flaky_repro.stats.search.rates import NOISE_FLOOR, learned_rates

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEANING = (
    "The suspects' percentages are posterior probabilities, from these trials, of being the first "
    "candidate without which the crash is gone. The search's answer also rests on what confirmed "
    "it: the trials without the culprit, and with nothing else."
)
ROWS_MOST, SUSPECTS_MOST, LABELS_MOST = 60, 12, 14


@dataclass(frozen=True)
class Search:
    """A search as the page shows it. ``campaigns`` are evidence files of its trials."""

    title: str
    word: str
    lines: Sequence[str]
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    plots: Sequence[plots.Plot]
    campaigns: frozenset[Path]


@dataclass
class _Records:
    """The files of one question, read."""

    head: Mapping[str, Any]
    book: Book
    files: list[Path] = field(default_factory=list)
    campaigns: set[Path] = field(default_factory=set)


def searches_below(folders: Iterable[Path]) -> list[Search]:
    """Every culprit search whose evidence lies below the folders; runs of one are put together."""
    found: dict[str, _Records] = {}
    for file, records in standing(sorted({file for each in folders for file in _files(each)})):
        question = str(records[0]["question"])
        book = Book(records[0]["info"].get("boot_size", 1))
        known = found.setdefault(question, _Records(records[0], book))
        known.files.append(file)
        for record in records[1:]:
            known.book.enter(record["type"], record)
            if record["type"] == "trial" and record.get("record"):
                known.campaigns.add(Path(record["record"].rpartition(":")[0]))
    return [_search(records) for records in found.values()]


def _files(folder: Path) -> Iterable[Path]:
    return folder.rglob(FILES) if folder.is_dir() else ()


def _search(records: _Records) -> Search:
    names = records.head["candidates"]
    weights = records.head.get("weights") or [1.0] * len(names)  # none in the oldest evidence
    pairs = zip(names, weights, strict=True)
    universe = Universe([Candidate(name, weight) for name, weight in pairs])
    folder = records.files[-1].parent
    book, drawn = records.book, []
    unit = unit_of(book.boot_size)
    suspects = _suspects(universe, book, records.head["info"].get("noise", NOISE_FLOOR))
    prefixes = _prefixes(universe, book)
    if prefixes:
        drawn.append(_picture_of_prefixes(prefixes, len(universe), unit))
    if suspects:
        drawn.append(_picture_of_suspects(suspects))
    trials = sum(tally.trials for tally in book.tallies.images.values())
    crashes = sum(tally.crashed for tally in book.tallies.images.values())
    builds, skips = len(book.tallies.built), len(book.tallies.skipped)
    lines = [
        (
            f"{len(universe)} candidates, {builds} subsets built, {skips} that could not be; "
            f"{trials} {unit}, {crashes} of them crashed."
        ),
        *_confirmed(book.answer, records.head["info"], unit),
        MEANING,
        *(f"Evidence: {file}" for file in records.files[-3:]),
    ]
    return Search(
        title=f"Culprit search: {records.head['info'].get('title') or folder.name}",
        word=_word(book.answer, suspects, records.head["info"].get("confidence", 0.99)),
        lines=lines,
        head=("bad in the build", "crashed", "survived", "note"),
        rows=_rows(universe, book),
        plots=drawn,
        campaigns=frozenset(records.campaigns),
    )


def _word(answer: Mapping[str, Any], suspects: Sequence[tuple[str, float]], asked: float) -> str:
    """What the newest run said at its end; before that, who is most suspect."""
    if answer:
        kind = Kind(answer["kind"])
        said = headline(kind, [found["names"] for found in answer["sets"]])
        if kind is Kind.UNRESOLVED:
            return f"{said}: {answer['why']}"
        return f"{said} (P = {probability(answer['probability'], asked)})"
    if not suspects:
        return "No candidate stands out: all bad never crashed, or was not run."
    name, chance = suspects[0]
    return f"Most suspect: {name} ({100 * chance:.3g}%)"


def _confirmed(answer: Mapping[str, Any], info: Mapping[str, Any], unit: str) -> list[str]:
    """What the newest answer rests on: each confirming image's trials, and the chance of error."""
    lines = []
    for each in (c for found in answer.get("sets", ()) for c in found.get("confirmations", ())):
        bounds = f"rate {downwards(each['rate_lower'])} to {upwards(each['rate_upper'])}"
        if "confidence" in info:
            bounds += f" at {confidence(info['confidence'])} each"
        seen = (each["words"], each["survived"], each["crashed"], each["error"])
        lines.append(confirmed(Claim(each["claim"]), *seen, bounds, unit))
    return lines


def _rows(universe: Universe, book: Book) -> list[tuple[str, ...]]:
    """A row for each subset, the largest first; what equal images share is said."""
    tallies = book.tallies
    masks = sorted({*tallies.built, *tallies.skipped}, key=lambda m: -m.bit_count())
    rows: list[tuple[str, ...]] = []
    first: dict[str, str] = {}  # who was shown first with an image
    for mask in masks[:ROWS_MOST]:
        words = book.words.get(mask) or str(Subset(universe, mask))
        images = tallies.built.get(mask, ())
        same = [first[image] for image in images if image in first]
        notes = [tallies.skipped.get(mask, "")]
        notes += [f"the same build as {other}: the same trials" for other in same]
        for image in images:
            first.setdefault(image, words)
        tally = tallies.of(mask)
        note = "; ".join(filter(None, notes))
        rows.append((words, f"{tally.crashed}", f"{tally.survived}", note))
    if len(masks) > ROWS_MOST:
        rows.append((f"{len(masks) - ROWS_MOST} more", "", "", ""))
    return rows


def _suspects(universe: Universe, book: Book, noise: float) -> list[tuple[str, float]]:
    """The posterior over the first level's chain of prefixes; empty before the first crash."""
    aim = Aim(weights=[candidate.weight for candidate in universe], noise=noise)
    everything = book.tallies.of(aim.everything)
    if not everything.crashed:
        return []
    link = Link.of(0, tuple(range(len(universe))))
    seen = Seen.of(link, book.tallies, aim.everything)
    rates = learned_rates(everything.survived, everything.crashed, aim.noise)
    prior = Prior.of(aim.nothing, list(aim.weights))
    chain = Chain(prior, rates, seen.tests, seen.leaps, seen.same, aim.alone)
    named = [
        (universe[k - 1].name if k else "none of them", float(chance))
        for k, chance in enumerate(chain.posterior())
    ]
    return sorted(named, key=lambda each: -each[1])


def _prefixes(universe: Universe, book: Book) -> list[tuple[int, int, int]]:
    """Length, crashes and survivals of each prefix that was tested."""
    found = []
    for mask in sorted(book.tallies.built):
        length, tally = Subset(universe, mask).prefix, book.tallies.of(mask)
        if length is not None and tally.trials:
            found.append((length, tally.crashed, tally.survived))
    return found


def _picture_of_prefixes(
    prefixes: Sequence[tuple[int, int, int]], total: int, unit: str
) -> plots.Plot:
    crashed = [(j, c, s) for j, c, s in prefixes if c]
    clean = [(j, c, s) for j, c, s in prefixes if not c]

    def paint(axes: Axes) -> None:
        colours = plots.C
        axes.vlines([j for j, _, _ in crashed], 0, [c / (c + s) for j, c, s in crashed],
                    color=colours["crash"], linewidth=2)  # fmt: skip
        axes.plot([j for j, _, _ in crashed], [c / (c + s) for _, c, s in crashed], "X",
                  color=colours["crash"], markersize=8, label="crashed")  # fmt: skip
        axes.plot([j for j, _, _ in clean], [0] * len(clean), "o", color=colours["safe"],
                  markersize=8, label="survived all")  # fmt: skip
        for j, c, s in prefixes if len(prefixes) <= LABELS_MOST else ():
            axes.annotate(f"{c}/{c + s}", (j, c / (c + s)), (0, 7), textcoords="offset points",
                          ha="center", fontsize=8)  # fmt: skip
        axes.set(xlim=(-0.04 * total, 1.04 * total), ylim=(-0.08, 1.2))
        axes.set(xlabel="the first so many candidates are bad", ylabel=f"{unit} that crashed")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, borderpad=0)

    rows = tuple((f"{j}", f"{c}", f"{s}") for j, c, s in prefixes[:ROWS_MOST])
    return plots.Plot(
        plots.draw(paint),
        "Tested prefixes",
        f"Share of {unit} that crashed, by how many of the {total} candidates were bad.",
        plots.Table(("bad candidates", "crashed", "survived"), rows),
    )


def _picture_of_suspects(suspects: Sequence[tuple[str, float]]) -> plots.Plot:
    top = suspects[:SUSPECTS_MOST]

    def paint(axes: Axes) -> None:
        axes.barh(range(len(top)), [100 * p for _, p in top], color=plots.C["accent"], height=0.6)
        axes.set_yticks(range(len(top)), [plots.shortened(name, 26) for name, _ in top])
        axes.set(xlim=(0, 100), ylim=(len(top) - 0.4, -0.6), xlabel="posterior probability, %")
        axes.grid(visible=False, axis="y")

    rest = len(suspects) - len(top)
    return plots.Plot(
        plots.draw(paint, 0.8 + 0.22 * len(top)),
        "Suspects",
        "The posterior probability of each candidate, the most suspect first.",
        plots.Table(
            ("candidate", "probability"),
            tuple((name, f"{100 * p:.3g}%") for name, p in top),
            f"{rest} more share the rest." if rest else "",
        ),
    )
