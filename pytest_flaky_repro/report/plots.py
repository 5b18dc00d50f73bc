"""The pictures of a report, by matplotlib; each with a title, a description and its numbers.

Nothing is told by colour alone: regions are hatched and named, kinds of trials have shapes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.outcomes import Vote
from pytest_flaky_repro.report.svg import STAND_IN
from pytest_flaky_repro.report.timeline import Bar, columns_of
from pytest_flaky_repro.stats.lines import NEVER
from pytest_flaky_repro.stats.statement import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pytest_flaky_repro.stats import Curve, Plan, RateBounds

C = STAND_IN
WIDTH, HEIGHT = 4.9, 2.9  # inches: small, so that its text is readable on a phone
LABEL = 22  # characters of a row's name
POINTS_MOST = 400  # of a line; more are thinned
BARS_MOST, LANES_MOST, COLUMNS = 300, 16, 60

_GROUND: Any = {"facecolor": C["paper"], "edgecolor": "none", "pad": 1}

LOOKS: dict[Vote, tuple[str, str, str, str]] = {  # word, colour, marker, hatch
    Vote.SURVIVAL: ("survived", "safe", "", ""),
    Vote.CRASH: ("crashed", "crash", "X", "xxxx"),
    Vote.LOST: ("lost", "lost", "v", "////"),
    Vote.VOID: ("never started", "void", "s", "----"),
}


@dataclass(frozen=True)
class Table:
    """A plot's numbers, for who cannot see it or wants them exactly."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A drawing in stand-in colours (see svg.py), and what it shows in words and numbers."""

    drawing: str
    title: str
    description: str
    table: Table


def draw(paint: Callable[[Axes], None], height: float = HEIGHT) -> str:
    """An SVG of one pair of axes that ``paint`` fills."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    ink, muted = C["ink"], C["muted"]
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "flaky-repro",
        "font.size": 10,
        "font.family": "sans-serif",
        "text.color": ink,
        "axes.edgecolor": muted,
        "axes.labelcolor": ink,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": muted,
        "ytick.color": muted,
        "xtick.labelcolor": ink,
        "ytick.labelcolor": ink,
        "grid.color": C["grid"],
        "hatch.linewidth": 0.6,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "axes.unicode_minus": False,
        "text.parse_math": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        figure.patch.set_alpha(0.0)
        axes = figure.add_subplot()
        axes.patch.set_alpha(0.0)
        axes.grid(visible=True, linewidth=0.6)
        axes.set_axisbelow(True)
        paint(axes)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


# ---- the sequential test


def path(plan: Plan, votes: Sequence[Vote], said: str, unit: str = "trials") -> Plot:
    """The campaign's way over trials and crashes, between the lines that decide."""
    from matplotlib.ticker import MaxNLocator

    steps = _steps(votes)
    trials, crashes = steps[-1]
    rows = max(crashes + 1, 2 if plan.design.noise == 0 else 3)
    safe = [(x, plan.safe_at(x)) for x in range(rows + 1)]
    crash = [(x, plan.crash_at(x)) for x in range(1, rows + 1)]
    reach = max([trials, *(n for x, n in safe[: crashes + 1] if n < NEVER)])
    right = 1.12 * max(reach, 4)

    def paint(axes: Axes) -> None:
        _safe_region(axes, safe, right)
        _crash_region(axes, crash, right, rows)
        shown = _thinned(steps)
        axes.step(*_columns(shown), where="post", color=C["ink"], linewidth=1.8)
        pairs = zip(shown[1:], shown, strict=False)
        marks = [(n, x) for (n, x), (_, before) in pairs if x > before]
        axes.plot(*_columns(marks), "X", color=C["crash"], markersize=6, label="a crash")
        axes.plot([trials], [crashes], "o", color=C["ink"], markersize=7, label="the end")
        axes.set(xlim=(0, right), ylim=(-0.15 * rows / 3, rows), xlabel=unit, ylabel="crashes")
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))

    one = unit[:-1]
    table = [
        (
            f"{x}",
            _threshold(plan.safe_at(x), "never"),
            _threshold(plan.crash_at(x), "any") if x else "",
        )
        for x in range(min(rows, 40) + 1)
    ]
    return Plot(
        draw(paint),
        "The sequential test",
        f"Crashes against {unit}: {crashes} crashed of {counted(trials, unit)}; {said}. In the "
        "hatched region on the right the verdict is safe, in the one at the top left it is "
        "crashes.",
        Table(("crashes", f"safe from {one}", f"crashes up to {one}"), tuple(table)),
    )


def _steps(votes: Sequence[Vote]) -> list[tuple[int, int]]:
    """The corners of the way: (trials, crashes) at the start, at each crash, and at the end."""
    steps, trials, crashes = [(0, 0)], 0, 0
    for vote in votes:
        trials += vote in (Vote.SURVIVAL, Vote.CRASH)
        if vote is Vote.CRASH:
            crashes += 1
            steps.append((trials, crashes))
    return [*steps, (trials, crashes)]


def _thinned(steps: list[tuple[int, int]]) -> list[tuple[int, int]]:
    every = -(-len(steps) // POINTS_MOST)
    return [*steps[::every], steps[-1]]


def _safe_region(axes: Axes, line: Sequence[tuple[int, int]], right: float) -> None:
    ys, xs = [], []
    for x, n in line:
        ys += [x - 0.5, x + 0.5]
        xs += [min(n, right)] * 2
    colour = C["safe"]
    axes.fill_betweenx(
        ys, xs, right, facecolor="none", edgecolor=colour, hatch=r"\\\\", linewidth=0
    )
    axes.plot(xs, ys, color=colour, linewidth=1.4)
    axes.annotate("safe", (right, 0), (-4, -6), textcoords="offset points", color=colour,
                  ha="right", weight="bold", bbox=_GROUND)  # fmt: skip


def _crash_region(axes: Axes, line: Sequence[tuple[int, int]], right: float, rows: int) -> None:
    xs = [min(n, right) for _, n in line for _ in (0, 1)]
    ys = [y for x, _ in line for y in (x - 0.5, x + 0.5)]
    colour = C["crash"]
    axes.fill_betweenx(ys, 0, xs, facecolor="none", edgecolor=colour, hatch="////", linewidth=0)
    axes.plot([0, *xs], [ys[0], *ys], color=colour, linewidth=1.4)
    axes.annotate("crashes", (0, rows), (4, -12), textcoords="offset points", color=colour,
                  weight="bold", bbox=_GROUND)  # fmt: skip


def _threshold(number: int, beyond: str) -> str:
    """``beyond``: what no number means, on this line."""
    return beyond if number >= NEVER else f"{number:,}"


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


# ---- crash rates


@dataclass(frozen=True)
class RateRow:
    """A crash rate with its interval, and how to call it."""

    name: str
    word: str
    colour: str
    marker: str
    seen: float | None
    bounds: RateBounds
    unit: str = "trials"  # what it is a rate of


def rates(rows: Sequence[RateRow], min_rates: Sequence[float], note: str) -> Plot:
    """Crash rates with intervals, a line each."""
    units = " or a ".join(sorted({row.unit[:-1] for row in rows}, reverse=True))
    largest = max(row.bounds.upper for row in rows)
    smallest = min(row.bounds.upper for row in rows)
    wide = largest > 25 * smallest
    floor = min([smallest, *(r.bounds.lower for r in rows if r.bounds.lower > 0)]) / 3

    def paint(axes: Axes) -> None:
        for y, row in enumerate(rows):
            low, high = row.bounds.lower, row.bounds.upper
            colour = C[row.colour]
            left = max(low, floor) if wide else low
            axes.plot([left, high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
            axes.plot([high], [y], "|", color=colour, markersize=10, markeredgewidth=2)
            axes.plot([left], [y], "<" if wide and low < floor else "|", color=colour,
                      markersize=6 if low < floor and wide else 10, markeredgewidth=2)  # fmt: skip
            if row.seen is not None and (row.seen > 0 or not wide):
                axes.plot([row.seen], [y], row.marker, color=colour, markersize=7, clip_on=False)
        for rate in min_rates:
            axes.axvline(rate, color=C["muted"], linestyle="--", linewidth=1)
        if wide:
            axes.set_xscale("log")
        else:
            axes.set_xlim(0, min(1.0, 1.05 * largest))
        axes.set_yticks(range(len(rows)), [shortened(row.name, LABEL) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(f"crash rate of a {units}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        axes.grid(visible=False, axis="y")

    table = tuple(
        (row.name, row.word, row.unit, "" if row.seen is None else f"{100 * row.seen:.3g}%",
         f"{100 * row.bounds.lower:.3g}%", f"{100 * row.bounds.upper:.3g}%")
        for row in rows
    )  # fmt: skip
    return Plot(
        draw(paint, 0.9 + 0.3 * len(rows)),
        "Crash rates",
        "The crash rate of each campaign, with its interval.",
        Table(("campaign", "verdict", "of", "seen", "at least", "at most"), table, note),
    )


def shortened(text: str, most: int) -> str:
    """Text of at most so many characters; its end tells more than its start."""
    return text if len(text) <= most else "…" + text[1 - most :]


# ---- time to crash


def survival(curve: Curve) -> Plot:
    """How many trials are still running, over time; trials that did not crash are ticks."""
    steps = list(curve.steps)
    every = -(-len(steps) // POINTS_MOST)
    steps = [*steps[::every], steps[-1]] if every > 1 else steps
    last = max([steps[-1].time, *curve.censored[-1:]])
    times = [0.0, *(s.time for s in steps), last]
    shares = [1.0, *(s.survival for s in steps), steps[-1].survival]
    lower = [1.0, *(s.lower for s in steps), steps[-1].lower]
    upper = [1.0, *(s.upper for s in steps), steps[-1].upper]
    ticks = list(curve.censored[:: -(-len(curve.censored) // 100) or 1])
    bottom = max(0.0, min(lower) - 0.15 * (1 - min(lower)))

    def paint(axes: Axes) -> None:
        axes.fill_between(times, lower, upper, step="post", facecolor="none",
                          edgecolor=C["accent"], hatch="////", linewidth=0)  # fmt: skip
        axes.step(times, shares, where="post", color=C["accent"], linewidth=2)
        axes.plot(ticks, [curve.survival_at(t) for t in ticks], "|", color=C["ink"], markersize=9,
                  label="did not crash by then")  # fmt: skip
        axes.set(xlim=(0, last * 1.03 or 1), ylim=(bottom, 1 + 0.05 * (1 - bottom)))
        axes.set(xlabel="seconds since START", ylabel="not crashed yet")
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}%")
        if ticks:
            axes.legend(loc="lower left")

    rows = tuple(
        (f"{s.time:.3g}", f"{s.at_risk}", f"{s.crashes}", f"{100 * s.survival:.1f}%",
         f"{100 * s.lower:.1f}% to {100 * s.upper:.1f}%")
        for s in _some(steps, 40)
    )  # fmt: skip
    crashes = sum(s.crashes for s in curve.steps)
    half = f"half of the trials by {curve.median:.3g} s" if curve.median else "fewer than half"
    return Plot(
        draw(paint),
        "Time to crash",
        f"Kaplan-Meier curve of {counted(curve.trials, 'trials')}: {crashes} crashed, {half}; the "
        "others are counted as long as they ran.",
        Table(
            ("seconds", "still running", "crashed then", "not crashed", "limits"),
            rows,
            f"Limits: pointwise, {100 * curve.confidence:g}%, for a number of trials fixed "
            "beforehand; they describe, they do not decide.",
        ),
    )


def _some(rows: Sequence[Any], most: int) -> Sequence[Any]:
    """At most so many rows, spread evenly, the last one among them."""
    if len(rows) <= most:
        return rows
    return [rows[round(i * (len(rows) - 1) / (most - 1))] for i in range(most)]


# ---- the time line


def timeline(bars: Sequence[Bar]) -> Plot:
    """Trials over time by lane; columns of counts where there are too many to tell apart."""
    lanes = max(bar.lane for bar in bars) + 1
    single = len(bars) <= BARS_MOST and lanes <= LANES_MOST
    unit, scale = _unit(max(bar.end for bar in bars))
    seen = [vote for vote in LOOKS if any(bar.vote is vote for bar in bars)]

    def paint(axes: Axes) -> None:
        (_paint_bars if single else _paint_columns)(axes, bars, seen, scale)
        axes.set_xlabel(f"{unit} since the first launch")
        axes.set_xlim(left=0)
        axes.grid(visible=False, axis="y")
        axes.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, columnspacing=1,
            handletextpad=0.4, handlelength=1.2, borderpad=0,
        )  # fmt: skip

    counts = ", ".join(f"{sum(b.vote is v for b in bars)} {LOOKS[v][0]}" for v in seen)
    table = tuple(
        (f"{column.begin / scale:.3g} to {column.end / scale:.3g}",
         *(str(column.counts.get(vote, 0)) for vote in LOOKS))
        for column in columns_of(bars, min(20, len(bars)))
    )  # fmt: skip
    shown = "by lane" if single else f"counted in {COLUMNS} stretches of time"
    return Plot(
        draw(paint, min(HEIGHT, 1.25 + 0.24 * lanes) if single else HEIGHT),
        "Trials over time",
        f"{counted(len(bars), 'trials')} {shown}, {lanes} at once at most: {counts}.",
        Table((f"{unit}", *(look[0] for look in LOOKS.values())), table),
    )


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 10800 else ("hours", 3600.0)


def _paint_bars(axes: Axes, bars: Sequence[Bar], seen: Sequence[Vote], scale: float) -> None:
    for vote in seen:
        word, colour, marker, hatch = LOOKS[vote]
        own = [bar for bar in bars if bar.vote is vote]
        for control in (False, True):
            some = [bar for bar in own if bar.control is control]
            if not some:
                continue
            axes.barh(
                [bar.lane + 1 for bar in some],
                [(bar.end - bar.begin) / scale for bar in some],
                left=[bar.begin / scale for bar in some],
                height=0.3 if control else 0.62,
                facecolor="none" if marker else C[colour],
                edgecolor=C[colour] if marker else C["paper"],
                hatch=hatch,
                linewidth=0.8,
                label=None if marker or control else word,
            )
        if marker:
            axes.plot([bar.end / scale for bar in own], [bar.lane + 1 for bar in own], marker,
                      color=C[colour], markersize=7, label=word)  # fmt: skip
    lanes = max(bar.lane for bar in bars) + 1
    axes.set_ylabel("lane")
    axes.set_ylim(0.4, lanes + 0.6)
    axes.set_yticks(range(1, lanes + 1))


def _paint_columns(axes: Axes, bars: Sequence[Bar], seen: Sequence[Vote], scale: float) -> None:
    columns = columns_of(bars, COLUMNS)
    base = [0] * len(columns)
    for vote in seen:
        word, colour, _, hatch = LOOKS[vote]
        heights = [column.counts.get(vote, 0) for column in columns]
        axes.bar(
            [column.begin / scale for column in columns],
            heights,
            width=columns[0].end / scale,
            align="edge",
            bottom=base,
            facecolor="none" if hatch else C[colour],
            edgecolor=C[colour] if hatch else C["paper"],
            hatch=hatch,
            linewidth=0.4,
            label=word,
        )
        base = [b + h for b, h in zip(base, heights, strict=True)]
    axes.set_ylabel("trials that ended")
