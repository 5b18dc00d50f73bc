"""What a trial came to, from its phase, its console, its status and the fate of its QEMU.

The kernel speaks before the reproducer: a process that dies of an oops returns 137 or 139, and its
status then says nothing of its own. And the harness never votes: what it lost is LOST.
"""

from __future__ import annotations

import enum
import signal as signals
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_flaky_repro.outcomes import Outcome

from .console import read_console
from .kinds import DEFAULT_CLASSES, CrashClass

if TYPE_CHECKING:
    from .reading import Report

REBOOT_TITLE = "unexpected kernel reboot"
_SHELL_SIGNAL = 128  # a shell reports a child's death by signal N as status 128 + N


class Phase(enum.Enum):
    """How far a trial came."""

    BOOT = "boot"  # the guest has not said it is ready
    READY = "ready"  # ready, but the reproducer has not been started
    RUN = "run"  # START was seen, END was not
    END = "end"  # the END frame arrived intact


class Vanished(enum.Enum):
    """How the machine went away, where it did before END."""

    NONE = "none"  # it did not: the harness ended it, or END arrived
    QEMU_EXITED = "qemu_exited"  # QEMU exited with status 0: the guest reset or powered off
    QEMU_FAILED = "qemu_failed"  # QEMU exited with an error status
    KILLED = "killed"  # a signal ended QEMU (the OOM killer, an administrator)
    STALLED = "stalled"  # the guest stopped making progress


@dataclass(frozen=True)
class Ending:
    """What the harness saw of one trial.

    ``console`` is the guest's console, ``output`` the reproducer's own output (head and tail).
    ``timed_out``: the trial time was over and the reproducer was still running. ``dead_detail``
    says in words what became of a machine that vanished.
    """

    phase: Phase
    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    console: bytes = b""
    output: bytes = b""
    ok_exit: frozenset[int] = frozenset({0})
    vanished: Vanished = Vanished.NONE
    dead_detail: str | None = None


@dataclass(frozen=True)
class Reading:
    """The outcome of a trial, its title, and the reports that were read."""

    outcome: Outcome
    title: str
    alternates: frozenset[str] = frozenset()
    kind: CrashClass | None = None
    reports: tuple[Report, ...] = field(default=())
    generic: bool = False

    def same_kind(self, other: Reading) -> bool:
        """Whether two trials show the same crash: their titles meet and neither is generic."""
        if self.generic or other.generic:
            return False
        return not {self.title, *self.alternates}.isdisjoint({other.title, *other.alternates})


def judge(ending: Ending, classes: frozenset[CrashClass] | None = None) -> Reading:
    """Give one trial its outcome and title. ``classes`` as in :func:`read_console`."""
    chosen = DEFAULT_CLASSES if classes is None else classes
    looked_for = chosen | {CrashClass.SEGFAULT_LINE}
    console = read_console(ending.console, classes=looked_for)
    output = tuple(
        report
        for report in read_console(ending.output, classes=looked_for)
        if not report.kind.kernel
    )
    reports = (*console, *output)
    kernel = [report for report in console if report.kind.kernel]
    if ending.phase in (Phase.BOOT, Phase.READY):
        return _not_started(ending, reports, kernel)
    if kernel:
        return _crashed(kernel[0], reports)
    user = [report for report in (*output, *console) if not report.kind.kernel]
    return _by_status(ending, chosen, user, reports) or _unfinished(ending, chosen, reports)


def _not_started(ending: Ending, reports: tuple[Report, ...], kernel: list[Report]) -> Reading:
    if kernel:
        first = kernel[0]
        return Reading(
            Outcome.BOOT_FAILED, first.title, first.alternates, first.kind, reports, first.generic
        )
    if ending.vanished in (Vanished.KILLED, Vanished.QEMU_FAILED):
        return Reading(Outcome.INFRASTRUCTURE, ending.dead_detail or _GONE[ending.vanished])
    title = ending.dead_detail or "the guest never started the reproducer"
    return Reading(Outcome.BOOT_FAILED, title, reports=reports)


_GONE = {
    Vanished.NONE: "the trial ended without a verdict",
    Vanished.QEMU_EXITED: REBOOT_TITLE,
    Vanished.QEMU_FAILED: "QEMU exited with an error before END",
    Vanished.KILLED: "QEMU was killed before END",
    Vanished.STALLED: "the guest stopped making progress",
}


def _crashed(report: Report, reports: tuple[Report, ...]) -> Reading:
    return Reading(
        Outcome.CRASHED, report.title, report.alternates, report.kind, reports, report.generic
    )


def _by_status(
    ending: Ending,
    classes: frozenset[CrashClass],
    user: list[Report],
    reports: tuple[Report, ...],
) -> Reading | None:
    """What the reproducer's own end says, or None if the harness saw no end of it."""
    number = ending.signal
    status = ending.exit_code
    if number is None and status is not None and status not in ending.ok_exit:
        number = _shell_signal(status)
    if number is not None or (status is not None and status not in ending.ok_exit):
        bad = _ended_badly(number, status, user, reports)
        if bad.kind in classes:
            return bad
    # A clean status does not take back what a sanitizer said, nor what was asked to be looked for.
    telling = (r for r in user if r.kind in classes and (r.kind.sanitizer or r.kind is _LINE))
    told = next(telling, None)
    if told is not None:
        return _crashed(told, reports)
    # A bad end of a class that was switched off is one that was said to be fine, as by ok_exit.
    if ending.phase is Phase.END and (number is not None or status is not None):
        return Reading(Outcome.SURVIVED, "", reports=reports)
    return None


_LINE = CrashClass.SEGFAULT_LINE


def _ended_badly(
    number: int | None, status: int | None, user: list[Report], reports: tuple[Report, ...]
) -> Reading:
    titled = next((report for report in user if report.kind is not _LINE), None)
    if titled is not None:
        return _crashed(titled, reports)
    if number is not None:
        return _signalled(number, reports)
    title = f"exit status {status}"
    return Reading(Outcome.CRASHED, title, frozenset(), CrashClass.EXIT, reports)


def _shell_signal(status: int) -> int | None:
    number = status - _SHELL_SIGNAL
    return number if number in {s.value for s in signals.Signals} else None


# Signals that a process does not raise by going wrong: somebody sent them.
_SENT = frozenset({signals.SIGKILL, signals.SIGTERM, signals.SIGINT, signals.SIGHUP})


def _signalled(number: int, reports: tuple[Report, ...]) -> Reading:
    try:
        name = signals.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    kind = CrashClass.KILLED if number in _SENT else CrashClass.SIGNAL
    return Reading(Outcome.CRASHED, f"{name} in reproducer", frozenset(), kind, reports)


def _unfinished(
    ending: Ending, classes: frozenset[CrashClass], reports: tuple[Report, ...]
) -> Reading:
    """No report and no status: survival is said only of a reproducer that was seen running."""
    detail = ending.dead_detail or _GONE[ending.vanished]
    if ending.vanished is Vanished.STALLED:
        return Reading(Outcome.HUNG, detail, reports=reports)
    if ending.vanished is Vanished.QEMU_EXITED and ending.phase is Phase.RUN:
        if CrashClass.REBOOT not in classes:  # no crash, and no end of the trial either
            return Reading(Outcome.LOST, REBOOT_TITLE, reports=reports)
        return Reading(Outcome.CRASHED, REBOOT_TITLE, frozenset(), CrashClass.REBOOT, reports)
    if ending.vanished is Vanished.NONE and ending.timed_out:
        return Reading(Outcome.SURVIVED, "", reports=reports)
    return Reading(Outcome.LOST, detail, reports=reports)
