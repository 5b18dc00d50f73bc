"""One truthful outcome for each trial: kernel before user, and the harness never votes."""

from __future__ import annotations

import pytest

from pytest_flaky_repro.crash import (
    CrashClass,
    Ending,
    Phase,
    Reading,
    Signature,
    Vanished,
    judge,
    parse_classes,
)
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Outcome

OOPS = b"""\
[    6.513348] general protection fault, probably for non-canonical address 0xdead4ead: 0000 [#1]
[    6.513868] CPU: 0 PID: 92 Comm: insmod Tainted: G           OE      6.1.0 #1
[    6.516883] RIP: 0010:probe_gpf+0xe/0x19 [probe]
[    6.516883] Call Trace:
[    6.516883]  <TASK>
[    6.516883]  probe_init+0x8f/0x1000 [probe]
[    6.516883]  </TASK>
[    6.816883] ---[ end trace 0000000000000000 ]---
"""
TITLE = "general protection fault in probe_gpf"


def ended(status: int, output: bytes = b"", console: bytes = b"") -> Ending:
    return Ending(Phase.END, exit_code=status, output=output, console=console)


@pytest.mark.parametrize("phase", [Phase.BOOT, Phase.READY])
def test_a_report_before_start_never_votes(phase: Phase) -> None:
    reading = judge(Ending(phase, console=OOPS))
    assert reading.outcome is Outcome.BOOT_FAILED
    assert reading.title == TITLE


@pytest.mark.parametrize("phase", [Phase.RUN, Phase.END])
def test_a_report_after_start_is_a_crash(phase: Phase) -> None:
    reading = judge(Ending(phase, exit_code=0, console=OOPS))
    assert reading.outcome is Outcome.CRASHED
    assert (reading.title, reading.kind) == (TITLE, CrashClass.OOPS)
    assert reading.alternates == {"bad-access in probe_gpf"}


@pytest.mark.parametrize("status", [137, 139])
def test_the_kernel_speaks_before_the_process_that_its_oops_killed(status: int) -> None:
    assert judge(ended(status, console=OOPS)).title == TITLE


def test_the_end_frame_with_status_zero_is_a_survival() -> None:
    reading = judge(ended(0))
    assert (reading.outcome, reading.title, reading.kind) == (Outcome.SURVIVED, "", None)


def test_a_running_reproducer_at_the_end_of_its_time_is_a_survival() -> None:
    assert judge(Ending(Phase.RUN, timed_out=True)).outcome is Outcome.SURVIVED


def test_ok_exit_widens_survival() -> None:
    ending = Ending(Phase.END, exit_code=3, ok_exit=frozenset({0, 3}))
    assert judge(ending).outcome is Outcome.SURVIVED
    assert judge(ended(3)).title == "exit status 3"
    assert judge(ended(3)).kind is CrashClass.EXIT


@pytest.mark.parametrize(
    ("ending", "title", "kind"),
    [
        (Ending(Phase.END, signal=11), "SIGSEGV in reproducer", CrashClass.SIGNAL),
        (Ending(Phase.END, signal=9), "SIGKILL in reproducer", CrashClass.KILLED),
        (ended(134), "SIGABRT in reproducer", CrashClass.SIGNAL),
        (ended(136), "SIGFPE in reproducer", CrashClass.SIGNAL),
    ],
)
def test_signals_are_crashes_with_their_name(ending: Ending, title: str, kind: CrashClass) -> None:
    reading = judge(ending)
    assert (reading.outcome, reading.title, reading.kind) == (Outcome.CRASHED, title, kind)


def test_the_reproducers_own_report_titles_its_bad_end() -> None:
    output = b"free(): invalid pointer\n"
    assert judge(ended(134, output)).title == "free(): invalid pointer"
    assert judge(ended(0, output)).outcome is Outcome.SURVIVED


def test_ubsan_counts_although_the_status_is_zero() -> None:
    output = b"r.c:12:7: runtime error: division by zero\n"
    reading = judge(ended(0, output))
    assert (reading.outcome, reading.kind) == (Outcome.CRASHED, CrashClass.UBSAN_USER)


@pytest.mark.parametrize(
    ("vanished", "outcome"),
    [
        (Vanished.NONE, Outcome.LOST),
        (Vanished.KILLED, Outcome.LOST),
        (Vanished.QEMU_FAILED, Outcome.LOST),
        (Vanished.STALLED, Outcome.HUNG),
        (Vanished.QEMU_EXITED, Outcome.CRASHED),
    ],
)
def test_a_machine_that_vanished_without_a_report(vanished: Vanished, outcome: Outcome) -> None:
    reading = judge(Ending(Phase.RUN, vanished=vanished))
    assert reading.outcome is outcome
    assert reading.title


def test_a_silent_reset_is_a_crash() -> None:
    reading = judge(Ending(Phase.RUN, vanished=Vanished.QEMU_EXITED))
    assert reading.title == "unexpected kernel reboot"
    console = (
        b"[    0.000000] Linux version 6.1.0 (a@b)\n[    3.100000] Run /init as init process\n"
        b"[    0.000000] Linux version 6.1.0 (a@b)\n"
    )
    reading = judge(Ending(Phase.RUN, console=console, timed_out=True))
    assert (reading.outcome, reading.title) == (Outcome.CRASHED, "unexpected kernel reboot")


def test_a_vanished_machine_before_start_is_infrastructure() -> None:
    reading = judge(Ending(Phase.BOOT, vanished=Vanished.KILLED, dead_detail="QEMU: signal 9"))
    assert (reading.outcome, reading.title) == (Outcome.INFRASTRUCTURE, "QEMU: signal 9")
    assert judge(Ending(Phase.BOOT)).outcome is Outcome.BOOT_FAILED


def test_segfault_lines_count_only_where_switched_on() -> None:
    line = b"[    9.057824] child[92]: segfault at 0 ip 0000000000401701 sp 00007ffe error 6\n"
    assert judge(ended(0, console=line)).outcome is Outcome.SURVIVED
    on = parse_classes("+segfault_line")
    assert judge(ended(0, console=line), on).title == "segfault in child"


def test_classes_switched_off_are_not_looked_for() -> None:
    assert judge(ended(0, console=OOPS), parse_classes("-oops")).outcome is Outcome.SURVIVED
    assert judge(ended(0, console=OOPS), parse_classes("oops")).outcome is Outcome.CRASHED


@pytest.mark.parametrize(
    ("ending", "name"),
    [
        (Ending(Phase.END, signal=6), "signal"),
        (ended(134), "signal"),  # a shell's word for it
        (Ending(Phase.END, signal=9), "killed"),
        (ended(3), "exit"),
    ],
    ids=["signal", "shell", "killed", "exit"],
)
def test_a_bad_end_of_a_class_switched_off_is_a_survival(ending: Ending, name: str) -> None:
    """It counted whatever the classes were."""
    assert judge(ending).outcome is Outcome.CRASHED
    assert judge(ending, parse_classes(name)).outcome is Outcome.CRASHED
    for classes in (f"-{name}", "panic", "kernel"):
        assert judge(ending, parse_classes(classes)).outcome is Outcome.SURVIVED
    others = ",".join(f"-{other}" for other in ("signal", "killed", "exit") if other != name)
    assert judge(ending, parse_classes(others)).outcome is Outcome.CRASHED


def test_a_report_counts_though_the_class_of_the_bad_end_is_off() -> None:
    output = b"free(): invalid pointer\n"
    assert judge(ended(134, output), parse_classes("-signal")).title == "free(): invalid pointer"
    assert judge(ended(134, output), parse_classes("-signal,-glibc")).outcome is Outcome.SURVIVED
    line = b"[    9.057824] child[92]: segfault at 0 ip 0000000000401701 sp 00007ffe error 6\n"
    asked = parse_classes("segfault_line")
    assert judge(ended(139, console=line), asked).title == "segfault in child"


def test_no_class_makes_a_survival_of_a_machine_that_is_gone() -> None:
    """Without its reset as a crash, there is nothing left to be known of the trial."""
    gone = Ending(Phase.RUN, vanished=Vanished.QEMU_EXITED)
    reading = judge(gone, parse_classes("-reboot"))
    assert (reading.outcome, reading.title) == (Outcome.LOST, "unexpected kernel reboot")


def test_an_unknown_class_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"saw 'lockups'; choose from all, default"):
        parse_classes("lockups")


def test_a_signature_matches_titles_and_alternates_of_crashes_only() -> None:
    reading = judge(ended(139, console=OOPS))
    assert Signature.parse(r"fault in probe_\w+").matches(reading)
    assert Signature.parse("^bad-access in probe_gpf$").matches(reading)
    assert not Signature.parse("KASAN").matches(reading)
    assert Signature.of(reading).matches(reading)
    assert not Signature.parse("").matches(Reading(Outcome.SURVIVED, ""))


def test_a_bad_signature_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="expected a regular expression"):
        Signature.parse("foo(")


def test_two_trials_are_of_one_kind_when_their_titles_meet() -> None:
    one = Reading(Outcome.CRASHED, "a in f", frozenset({"bad-access in f"}))
    two = Reading(Outcome.CRASHED, "b in f", frozenset({"bad-access in f"}))
    assert one.same_kind(two)
    assert not one.same_kind(Reading(Outcome.CRASHED, "b in g"))
    vague = Reading(Outcome.CRASHED, "a in f", generic=True)
    assert not vague.same_kind(vague)
