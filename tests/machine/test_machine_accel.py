"""KVM is believed when a guest ran under it, and only then; whatever this machine has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.accel import choose_accel, describe_quickly, probe_loop
from pytest_flaky_repro.machine.conversation import GuestGone
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.spec import Accel, Deadlines
from pytest_flaky_repro.machine.stop import StopSignal

if TYPE_CHECKING:
    from tests.machine.conftest import Lab

NOTHING = "int main(void) { return 0; }"


def boots_under_kvm(lab: Lab, kernel: Path) -> bool:
    """The truth, found out the long way."""
    spec = lab.experiment(NOTHING, kernel).guest_spec(Accel.KVM)
    stop = StopSignal()
    limits = Deadlines(boot_cpu_s=8.0, idle_s=5.0, wall_cap_s=15.0)
    guest = Guest(lab.emulator, spec, stop=stop, limits=limits)
    try:
        guest.boot()
    except GuestGone:
        return False
    finally:
        guest.kill()
        stop.close()
    return True


def test_the_choice_is_what_really_boots(lab: Lab, bare_kernel: Path, tmp_path: Path) -> None:
    spec_for = lab.experiment(NOTHING, bare_kernel).guest_spec
    choice = choose_accel("auto", lab.emulator, spec_for, "sha", tmp_path)
    boots = boots_under_kvm(lab, bare_kernel)
    assert choice.accel is (Accel.KVM if boots else Accel.TCG)
    assert choice.reason


def test_demanding_kvm_is_an_error_where_it_does_not_work(
    lab: Lab, bare_kernel: Path, tmp_path: Path
) -> None:
    spec_for = lab.experiment(NOTHING, bare_kernel).guest_spec
    auto = choose_accel("auto", lab.emulator, spec_for, "sha", tmp_path)
    if auto.accel is Accel.KVM:
        demanded = choose_accel("kvm", lab.emulator, spec_for, "sha", tmp_path)
        assert demanded.accel is Accel.KVM
        return
    with pytest.raises(UsageError, match=r"--repro-accel kvm: .*kvm.*auto or tcg"):
        choose_accel("kvm", lab.emulator, spec_for, "sha", tmp_path)


def test_tcg_needs_no_probe(lab: Lab, bare_kernel: Path, tmp_path: Path) -> None:
    spec_for = lab.experiment(NOTHING, bare_kernel).guest_spec
    assert choose_accel("tcg", lab.emulator, spec_for, "sha", tmp_path).accel is Accel.TCG
    assert not list(tmp_path.glob("kvm/*"))


def test_the_header_agrees_with_the_probe() -> None:
    problem = probe_loop().problem
    assert describe_quickly("tcg") == "tcg"
    if problem is None:
        assert describe_quickly("auto").startswith("kvm")
    else:
        assert describe_quickly("auto") == f"tcg (no KVM: {problem})"
        assert describe_quickly("kvm") == f"kvm is unusable: {problem}"


def test_a_boot_that_was_tried_is_not_tried_again(
    lab: Lab, bare_kernel: Path, tmp_path: Path
) -> None:
    """A kept answer counts only where the loop ran: without KVM the question does not arise."""
    spec_for = lab.experiment(NOTHING, bare_kernel).guest_spec
    first = choose_accel("auto", lab.emulator, spec_for, "sha", tmp_path)
    kept = list(tmp_path.glob("kvm/*.json"))
    assert len(kept) == (1 if probe_loop().problem is None else 0)
    for file in kept:
        file.write_text(json.dumps({"problem": "it was said before"}))
    second = choose_accel("auto", lab.emulator, spec_for, "sha", tmp_path)
    assert second.reason == ("it was said before" if kept else first.reason)
