"""One real boot under ``flaky-repro doctor --boot``: does the guest answer, and how soon."""

from __future__ import annotations

import argparse
import os
import time

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import Conditions, assemble
from pytest_flaky_repro.commands.findings import BLOCKS, GOOD, Finding
from pytest_flaky_repro.guest.reproducer import Payload
from pytest_flaky_repro.machine.accel import choose_accel
from pytest_flaky_repro.machine.conversation import GuestGone
from pytest_flaky_repro.machine.diagnosis import boot_failure, ready_fault
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.kernel_image import KernelImage
from pytest_flaky_repro.machine.process import cpu_seconds
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.slots import Slots
from pytest_flaky_repro.machine.stop import StopSignal


def boot_once(kernel: KernelImage, options: argparse.Namespace) -> Finding:
    """Boots, waits for the agent, and ends the guest."""
    emulator = find_emulator(options.qemu)
    experiment = assemble(
        kernel,
        Payload((), (), "none"),
        Conditions(options.smp, options.memory, options.machine, options.append, trial_time=0.0),
        options.initrd,
        cache_folder(),
        os.environ,
    )
    choice = choose_accel(
        options.accel, emulator, experiment.guest_spec, kernel.sha256, cache_folder()
    )
    stop = StopSignal()
    with (
        experiment.guest_spec(choice.accel) as spec,
        Slots().acquire(options.smp, options.memory, stop) as slot,
    ):
        machine = QemuMachine(emulator, spec)
        assert slot is not None
        began = time.monotonic()
        guest = machine.boot(slot, stop)
        try:
            ready = guest.boot()
            took, spent = time.monotonic() - began, cpu_seconds(guest.pid)
        except GuestGone as gone:
            guest.kill()
            return Finding("boot", BLOCKS, boot_failure(guest.console.content(), gone)[0])
        finally:
            guest.kill()
            stop.close()
    fault = ready_fault(ready, options.smp)
    if fault is not None:
        return Finding("boot", BLOCKS, fault)
    return Finding(
        "boot", GOOD,
        f"{ready.release}: ready after {took:.1f} s, {spent:.1f} s of CPU time under "
        f"{choice.accel.value}, {ready.cpus} CPU(s), {ready.memory >> 20} MiB, "
        f"frames on {ready.port}",
    )  # fmt: skip
