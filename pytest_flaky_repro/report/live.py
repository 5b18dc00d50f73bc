"""What runs now: on a terminal a block that is redrawn, in a log a line when there is news.

The block stands below the line that pytest writes, and the cursor always goes back to where it
was: so letters, percentages and results of tests come out as without it.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from pytest_flaky_repro.report.sentences import counted, duration, printable, upwards
from pytest_flaky_repro.stats.bounds import rate_bounds

if TYPE_CHECKING:
    import pytest

    from pytest_flaky_repro.campaign.loop import Snapshot
    from pytest_flaky_repro.evidence import Trial

WHEN = "repro-progress"
LOG_EVERY_S = 30.0
SLOTS_EVERY_S = 2.0
BLOCK_MOST = 12  # lines

DOWN, UP, SAVE, BACK, ERASE_BELOW = "\x1bD", "\x1b[%dA", "\x1b7", "\x1b8", "\x1b[J"
"""ECMA-48 and DEC VT100. DOWN (IND) scrolls where it must and keeps the column."""


# ---- what a campaign tells


def began_before(trial: Trial, moment: float) -> bool:
    """Whether the trial's guest said START before ``moment`` (seconds since the epoch)."""
    return trial.started is not None and (
        datetime.fromisoformat(trial.started).timestamp() < moment
    )


def figures(snapshot: Snapshot, earlier: int) -> dict[str, Any]:
    """A running campaign in plain data; ``earlier`` of its trials took no time of this run."""
    tally, sure = snapshot.tally, snapshot.confidence
    bounds = rate_bounds(tally, sure) if tally.trials_low and sure is not None else None
    done = tally.trials_low - earlier
    left = snapshot.elapsed_s * snapshot.needed / done if snapshot.needed and done > 0 else None
    return {
        "item": snapshot.subject.item,
        "kernel": snapshot.subject.kernel,
        "trials": tally.trials_low,
        "crashes": tally.crashes,
        "void": snapshot.void,
        "lost": snapshot.lost,
        "running": snapshot.running,
        "needed": snapshot.needed,
        "seconds_left": left,
        "confidence": sure,
        "rate_lower": bounds.lower if bounds is not None else None,
        "rate_upper": bounds.upper if bounds is not None else None,
        "crashes_wanted": snapshot.crashes_wanted,
        "trials_allowed": snapshot.trials_allowed,
        "unit": "boots" if snapshot.shares_boots else "trials",
    }


def line(told: Mapping[str, Any], worker: str = "", width: int | None = None) -> str:
    """One campaign in one line; with a width, the name gives way to the numbers."""
    start, name = f"  [{worker}] " if worker else "  ", printable(told["item"])
    rest = ", ".join(_parts(told))
    room = None if width is None else max(10, width - len(start) - len(rest) - 2)
    if room is not None and len(name) > room:
        name = f"…{name[1 - room :]}"
    whole = f"{start}{name}: {rest}"
    return whole if width is None else whole[:width]


def _parts(told: Mapping[str, Any]) -> list[str]:
    if not told["trials"] and "running" not in told:
        return ["getting ready"]
    unit = told["unit"]
    parts = [counted(told["trials"], unit), f"{told['crashes']} crashed"]
    parts += [f"{told['lost']} lost"] * bool(told["lost"])
    parts += [f"{told['void']} void"] * bool(told["void"])
    if told["crashes_wanted"]:
        parts.append(
            f"calibrating: {told['crashes_wanted']} crashes wanted, "
            f"at most {counted(told['trials_allowed'], unit)} (--repro-calibrate-trials)"
        )
    elif told["rate_upper"] is not None:
        parts.append(f"rate <= {upwards(told['rate_upper'])}")
    if told["needed"]:
        parts.append(f"safe in {told['needed']}")
    if told["seconds_left"] is not None:
        parts.append(f"about {duration(told['seconds_left'])}")
    return parts


# ---- where it is shown


class Screen(Protocol):
    """Where progress is shown. ``take`` gets every report before pytest prints it."""

    def take(self, report: pytest.TestReport) -> None: ...

    def draw(self) -> None: ...

    def clear(self) -> None: ...


def screen_for(config: pytest.Config, reporter: pytest.TerminalReporter) -> Screen:
    """A block on a terminal that is ours alone, else a log."""
    is_shared = config.getoption("capture") == "no"  # the tests print there too
    if reporter.isatty and os.environ.get("TERM") != "dumb" and not is_shared:
        return Block(config, reporter)
    return Log(config, reporter)


class Log:
    """A line at 1, 10, 100, ... trials (or boots), at each new title of a crash, and every 30 s."""

    def __init__(self, config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
        self._config, self._reporter = config, reporter
        self._logged: dict[str, tuple[int, float]] = {}
        self._slots = MachineSlots()

    def take(self, report: pytest.TestReport) -> None:
        if report.when != WHEN:
            return
        told: dict[str, Any] = report.repro_figures
        before, at = self._logged.get(report.nodeid, (0, time.monotonic()))
        self._logged.setdefault(report.nodeid, (0, at))
        trials: int = told["trials"]
        crossed = trials > 0 and (before == 0 or len(str(trials)) > len(str(before)))
        waited = time.monotonic() - at >= LOG_EVERY_S
        if not (report.repro_news or crossed or waited):
            return
        self._logged[report.nodeid] = (trials, time.monotonic())
        text = line(told, report.repro_worker)
        text += f"; new: {printable(report.repro_news)}" if report.repro_news else ""
        text += f"; {self._slots.said()}" if waited else ""
        with uncaptured(self._config):
            fresh_line(self._reporter)
            self._reporter.write_line(text)
            self._reporter.flush()

    def draw(self) -> None:
        """Lines stay."""

    def clear(self) -> None:
        """Lines stay."""


class Block:
    """A line for each campaign that runs now, and one for the machine, redrawn in place."""

    def __init__(self, config: pytest.Config, reporter: pytest.TerminalReporter) -> None:
        self._config, self._reporter = config, reporter
        self._running: dict[str, tuple[str, Mapping[str, Any]]] = {}
        self._slots = MachineSlots()
        self._is_drawn = False

    def take(self, report: pytest.TestReport) -> None:
        if report.when != WHEN:
            self.clear()
            if report.when == "teardown":
                self._running.pop(report.nodeid, None)
            return
        self._running[report.nodeid] = (report.repro_worker, report.repro_figures)
        self.draw()

    def draw(self) -> None:
        if not self._running:
            return
        with uncaptured(self._config):  # only then is stdout the terminal, and knows its size
            columns, rows = shutil.get_terminal_size()
            shown = self._lines(columns - 1, max(1, min(BLOCK_MOST, rows - 2)))
            text = DOWN * len(shown) + UP % len(shown) + SAVE + ERASE_BELOW
            self._write(text + "".join(f"\r\n{each}" for each in shown) + BACK)
        self._is_drawn = True

    def clear(self) -> None:
        if self._is_drawn:
            with uncaptured(self._config):
                self._write(ERASE_BELOW)
            self._is_drawn = False

    def _lines(self, width: int, most: int) -> list[str]:
        running = sorted(self._running.values(), key=lambda each: (len(each[0]), each[0]))
        lines = [line(told, worker, width) for worker, told in running]
        if len(lines) >= most:
            lines = [*lines[: most - 1], f"  and {len(lines) - most + 1} more"[:width]]
        return [*lines, f"  {self._slots.said()}"[:width]] if len(lines) < most else lines

    def _write(self, text: str) -> None:
        file = self._reporter._tw._file  # noqa: SLF001 - what is drawn is no line of pytest's
        file.write(text)
        file.flush()


class MachineSlots:
    """How much of the machine is taken by guests, of all runs on it; looked up now and then."""

    def __init__(self) -> None:
        self._looked, self._said = 0.0, ""

    def said(self) -> str:
        """A few words."""
        now = time.monotonic()
        if not self._said or now - self._looked >= SLOTS_EVERY_S:
            from pytest_flaky_repro.machine.slots import PIECE_MIB, Slots

            slots = Slots()
            taken, there = slots.occupancy(), slots.capacity
            self._said = (
                f"this machine's guests: {taken.cores} of {there.cores} cores, "
                f"{taken.pieces * PIECE_MIB} of {there.pieces * PIECE_MIB} MiB"
            )
            self._looked = now
        return self._said


def fresh_line(reporter: pytest.TerminalReporter) -> None:
    """Ends the line that pytest is writing letters to, if there is one."""
    reporter.ensure_newline()
    if reporter._tw.width_of_current_line:  # noqa: SLF001 - under xdist pytest does not know
        reporter._tw.line()  # noqa: SLF001


@contextmanager
def uncaptured(config: pytest.Config) -> Iterator[None]:
    """Suspends output capture, if there is any, for what a person should see now."""
    capture = config.pluginmanager.get_plugin("capturemanager")
    if capture is None:
        yield
        return
    with capture.global_and_fixture_disabled():
        yield
