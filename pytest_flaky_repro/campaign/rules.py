"""How one trial's facts become its record, and its record a vote."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from pytest_flaky_repro import crash
from pytest_flaky_repro.crash import CrashClass, Ending, Phase, Reading, Signature, Vanished
from pytest_flaky_repro.evidence import UNFINISHED, Trial
from pytest_flaky_repro.machine.conversation import STOPPED, Ended, Gone
from pytest_flaky_repro.machine.trial import TrialFacts
from pytest_flaky_repro.outcomes import Outcome, Vote

TIME_OVER = "time over"  # the status of a reproducer that was still running at the end
CUT_SHORT = (STOPPED, UNFINISHED)  # ``detail`` of trials that we stopped, or a run left behind


class OtherCrash(enum.Enum):
    """What another crash than the expected one does (``--repro-other``)."""

    FAIL = "fail"  # ends the campaign: the kernel crashes, though not as expected
    COUNT = "count"  # counts as the expected one would
    IGNORE = "ignore"  # its trial taught nothing about the expected one: LOST


class HungTrial(enum.Enum):
    """What a guest that hangs after START does (``--repro-hung``)."""

    LOST = "lost"
    CRASH = "crash"


@dataclass(frozen=True)
class Rules:
    """What counts as the crash. Part of the plan: evidence gathered by other rules is not added."""

    expected: Signature | None = None
    other: OtherCrash = OtherCrash.FAIL
    hung: HungTrial = HungTrial.LOST
    ok_exit: frozenset[int] = frozenset({0})
    classes: frozenset[CrashClass] | None = None

    def vote(self, trial: Trial) -> Vote:
        """How the trial enters the statistics."""
        if trial.outcome is Outcome.HUNG and self.hung is HungTrial.CRASH:
            return Vote.CRASH
        if trial.outcome is Outcome.CRASHED and not self.is_expected(trial):
            return Vote.LOST if self.other is OtherCrash.IGNORE else Vote.CRASH
        return trial.outcome.vote

    def is_expected(self, trial: Trial) -> bool:
        """Whether a crashed trial shows the crash that was asked for (any, if none was named)."""
        if self.expected is None:
            return True
        return self.expected.matches(
            Reading(Outcome.CRASHED, trial.title, frozenset(trial.alternates))
        )

    def parameters(self) -> dict[str, object]:
        """For the plan's hash."""
        classes = None if self.classes is None else sorted(c.value for c in self.classes)
        return {
            "crash": str(self.expected) if self.expected is not None else None,
            "other": self.other.value,
            "hung": self.hung.value,
            "ok_exit": sorted(self.ok_exit),
            "crash_classes": classes,
        }


_VANISHED = {
    Gone.EXITED: Vanished.QEMU_EXITED,
    Gone.FAILED: Vanished.QEMU_FAILED,
    Gone.KILLED: Vanished.KILLED,
    Gone.STALLED: Vanished.STALLED,
    Gone.REPORTED: Vanished.KILLED,  # by us, once the report was whole: the report decides
    Gone.STOPPED: Vanished.KILLED,
    Gone.SILENCED: Vanished.NONE,
    Gone.UNTRUSTED: Vanished.KILLED,
    Gone.CHANGED: Vanished.KILLED,
}


def read_facts(facts: TrialFacts, rules: Rules) -> Reading:
    """The truthful outcome and title of one trial."""
    end = facts.end
    begun = facts.phase in (Phase.RUN, Phase.END)
    console = facts.trial_console if begun and facts.trial_console is not None else facts.console
    ending = Ending(
        phase=facts.phase,
        exit_code=end.code if end is not None and end.how is Ended.EXIT else None,
        signal=end.code if end is not None and end.how is Ended.SIGNAL else None,
        timed_out=end is not None and end.how is Ended.TIME,
        console=console,
        output=end.output if end is not None else b"",
        ok_exit=rules.ok_exit,
        vanished=_VANISHED[facts.gone] if facts.gone is not None else Vanished.NONE,
        dead_detail=facts.detail or None,
    )
    return crash.judge(ending, rules.classes)


def outcome_of(facts: TrialFacts, reading: Reading) -> Outcome:
    """The reading's outcome, less what the harness must not let count."""
    if facts.gone is Gone.UNTRUSTED:
        return Outcome.LOST if facts.phase in (Phase.RUN, Phase.END) else Outcome.INFRASTRUCTURE
    if facts.phase in (Phase.BOOT, Phase.READY):
        return Outcome.BOOT_FAILED if facts.phase is Phase.BOOT else Outcome.INFRASTRUCTURE
    if reading.outcome is not Outcome.SURVIVED:
        return reading.outcome
    if facts.gone is Gone.STALLED or (facts.end is not None and facts.end.stuck):
        return Outcome.HUNG  # its processes outlived SIGKILL, or it could not reboot
    return Outcome.SURVIVED if facts.gone is None else Outcome.LOST  # killed or silenced


def status_of(facts: TrialFacts) -> str | None:
    """How the reproducer ended, in two words."""
    if facts.end is None:
        return None
    if facts.end.how is Ended.TIME:
        return TIME_OVER
    return f"{facts.end.how.value} {facts.end.code}"
