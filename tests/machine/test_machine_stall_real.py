"""The ladder of stall detectors on real guests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.machine.conversation import Gone
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.machine.conftest import Lab

HALT = """
    #include <sys/reboot.h>
    #include <unistd.h>
    int main(void) { sleep(1); reboot(RB_HALT_SYSTEM); return 0; }
"""
NOTHING = "int main(void) { return 0; }"


@pytest.mark.parametrize(("which", "smp"), [("bare_kernel", 1), ("smp_kernel", 2)])
def test_a_dead_guest_does_not_cost_its_whole_trial_time(
    lab: Lab, request: pytest.FixtureRequest, which: str, smp: int
) -> None:
    """Halted is not powered off: without ACPI, QEMU stays, and nothing ever comes again."""
    kernel: Path = request.getfixturevalue(which)
    trial = lab.trial(lab.experiment(HALT, kernel, smp=smp, trial_time=1000.0))
    assert trial.facts.gone is Gone.STALLED
    assert trial.outcome is Outcome.HUNG
    assert "halted with interrupts off" in trial.title


def test_a_stuck_guest_is_asked_for_backtraces(lab: Lab, smp_kernel: Path) -> None:
    experiment = lab.experiment(NOTHING, smp_kernel, append="sysrq_always_enabled")
    with lab.guest(experiment) as (guest, _):
        guest.boot()
        guest._ask_for_backtraces()
        console = guest.console.content()
    assert b"sysrq: Show backtrace of all active CPUs" in console
    assert b"sysrq: Show State" in console


def test_a_kernel_without_sysrq_is_asked_in_vain(lab: Lab, bare_kernel: Path) -> None:
    with lab.guest(lab.experiment(NOTHING, bare_kernel)) as (guest, _):
        guest.boot()
        guest._ask_for_backtraces()
        assert b"sysrq: " not in guest.console.content()
