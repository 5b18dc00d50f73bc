"""A plan as a picture: what it would say, and after how many trials, over the true crash rate.

Lines differ in dashes and have their names beside them: nothing is told by colour alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.report.page import check_place
from pytest_flaky_repro.report.sentences import confidence, percent
from pytest_flaky_repro.report.svg import PALETTE as C

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pytest_flaky_repro.stats import Plan
    from pytest_flaky_repro.stats.fixed import FixedTest
    from pytest_flaky_repro.stats.plan import OperatingPoint

FORMATS = (".svg", ".png", ".pdf")
_POINTS = 121
_LIMIT = 0.999


@dataclass(frozen=True)
class PlanPicture:
    """What is drawn. ``seconds_per_trial`` already counts the guests at once."""

    plan: Plan
    fixed: FixedTest | None
    budget: int | None
    seconds_per_trial: float


def check(path: Path) -> None:
    """UsageError unless a picture can be drawn there; nothing is drawn yet."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--picture {path}: expected a name that ends in {', '.join(FORMATS)}")
    check_place(path, "--picture")
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise UsageError(
            "--picture needs matplotlib: pip install 'pytest-flaky-repro[report]'"
        ) from error
    del mpl


def draw(path: Path, picture: PlanPicture) -> None:
    """Writes the picture, in the format that the file's name ends in."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "font.size": 10,
        "svg.fonttype": "none",
        "svg.hashsalt": "flaky-repro",
        "text.parse_math": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": C["grid"],
        "legend.frameon": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(7.2, 6.4), layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True)
        points = picture.plan.operating_curve(_rates(picture.plan), picture.budget)
        _chances(above, picture, points)
        _trials(below, picture, points)
        design = picture.plan.design
        figure.suptitle(
            f"confidence {confidence(design.confidence_safe)}, minimum rate "
            f"{percent(design.min_rate)}, noise {percent(design.noise)}"
        )
        undated = {"Date": None} if path.suffix.lower() == ".svg" else {}
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata=undated)


def _rates(plan: Plan) -> list[float]:
    """From nothing to a few times the minimum rate, evenly."""
    most = min(_LIMIT, 3 * plan.design.min_rate)
    return [most * i / (_POINTS - 1) for i in range(_POINTS)]


def _chances(axes: Axes, picture: PlanPicture, points: Sequence[OperatingPoint]) -> None:
    xs = [100 * point.rate for point in points]
    lines: list[tuple[str, list[float], str, str]] = [
        ("safe", [p.p_safe for p in points], "safe", "-"),
        ("crashes", [p.p_crash for p in points], "crash", "--"),
    ]
    if picture.budget is not None:
        lines.append(("inconclusive", [p.p_inconclusive for p in points], "void", "-."))
    if picture.fixed is not None:
        fixed = [picture.fixed.p_safe(point.rate) for point in points]
        lines.append(("safe, fixed length", fixed, "muted", ":"))
    for name, ys, colour, dashes in lines:
        axes.plot(xs, ys, dashes, color=C[colour], linewidth=2, label=name)
    _mark_rates(axes, picture.plan)
    axes.set_ylabel("chance to be said")
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.legend(loc="center right")
    axes.grid(visible=True, linewidth=0.6)


def _trials(axes: Axes, picture: PlanPicture, points: Sequence[OperatingPoint]) -> None:
    xs = [100 * point.rate for point in points]
    ys = [point.expected_trials for point in points]
    axes.plot(xs, ys, color=C["accent"], linewidth=2, label="sequential, on average")
    if picture.fixed is not None:
        axes.axhline(
            picture.fixed.trials, color=C["muted"], linestyle=":", linewidth=2, label="fixed length"
        )
    _mark_rates(axes, picture.plan)
    axes.set_ylabel("trials to the verdict")
    axes.set_xlabel("true crash rate of a trial")
    axes.set_xlim(0, xs[-1])
    axes.set_ylim(0, None)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}%")
    axes.legend(loc="center right")
    axes.grid(visible=True, linewidth=0.6)
    unit, size = _unit(axes.get_ylim()[1] * picture.seconds_per_trial)
    per_unit = picture.seconds_per_trial / size

    def time(trials: Any) -> Any:
        return trials * per_unit

    def trials(time: Any) -> Any:
        return time / per_unit

    second = axes.secondary_yaxis("right", functions=(time, trials))
    second.set_ylabel(unit)


def _mark_rates(axes: Axes, plan: Plan) -> None:
    design = plan.design
    axes.axvline(100 * design.min_rate, color=C["ink"], linewidth=0.8)
    if design.noise:
        axes.axvline(100 * design.noise, color=C["ink"], linewidth=0.8, linestyle="--")


def _unit(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 10800 else ("hours", 3600.0)
