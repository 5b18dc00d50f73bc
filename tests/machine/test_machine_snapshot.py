"""Real guests restored from one that was frozen: what they share, and what they must not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.campaign.rules import Rules, outcome_of, read_facts
from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.sharing import Seat
from pytest_flaky_repro.machine.slots import Capacity, Slots
from pytest_flaky_repro.machine.snapshot import FROM_HERE, SnapshotMachine
from pytest_flaky_repro.machine.spec import Accel, Deadlines
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Fault, TrialFacts
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.experiment import Experiment
    from tests.machine.conftest import Lab

TELLER = r"""
    #include <fcntl.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <time.h>
    #include <unistd.h>
    int main(void) {
        unsigned long random;
        struct timespec up, now;
        char line[4096] = {0}, *boot;
        read(open("/dev/urandom", O_RDONLY), &random, sizeof random);
        clock_gettime(CLOCK_MONOTONIC, &up);
        clock_gettime(CLOCK_REALTIME, &now);
        read(open("/proc/cmdline", O_RDONLY), line, sizeof line - 1);
        boot = strstr(line, "FLAKY_REPRO_BOOT=");
        printf("%lx %ld%09ld %ld %d %.16s", random, up.tv_sec, up.tv_nsec, now.tv_sec,
               !access("left", F_OK), boot ? boot + 17 : "-");
        close(open("left", O_CREAT | O_WRONLY, 0600));
        return 0;
    }
"""

RUNS = 8  # all on the same one of six ticks: once in some 80,000


class Copies:
    """A machine and the orders of its trials."""

    def __init__(self, machine: SnapshotMachine, experiment: Experiment, last: int) -> None:
        self.machine, self._experiment, self._last = machine, experiment, last
        self.stop = StopSignal()

    def trial(self, place: int, boot: str = "b00t", seed: str = "5eed") -> TrialFacts:
        order = replace(self._experiment.order(seed, None), seat=Seat(boot, place, self._last))
        with self.machine.slot(self.stop) as slot:
            assert slot is not None
            return self.machine.run(order, slot, self.stop, lambda: None)


@contextmanager
def copies(
    lab: Lab, source: str, kernel: Path, *, smp: int = 1, time: float = 10.0, append: str = ""
) -> Iterator[Copies]:
    experiment = lab.experiment(source, kernel, smp=smp, trial_time=time, append=append)
    with experiment.guest_spec(Accel.TCG) as spec:
        machine = SnapshotMachine(QemuMachine(lab.emulator, spec, limits=Deadlines(idle_s=6.0)))
        made = Copies(machine, experiment, last=8)
        try:
            yield made
        finally:
            machine.close()
            made.stop.close()


def outcome(facts: TrialFacts) -> Outcome:
    return outcome_of(facts, read_facts(facts, Rules()))


def descriptors() -> set[str]:
    """What this process has open that is a guest's memory or state."""
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:
            continue
        if "guest-memory" in target or "guest-state" in target:
            found.add(path.name)
    return found


@pytest.mark.parametrize("smp", [1, 2])
def test_copies_share_their_boot_and_nothing_since(lab: Lab, smp_kernel: Path, smp: int) -> None:
    """The same seed on purpose: fresh entropy does not depend on it.

    Without a better clock this kernel counts ticks, and some runs may begin on the same one.
    """
    with copies(lab, TELLER, smp_kernel, smp=smp) as made:
        found = [made.trial(place) for place in range(1, RUNS + 1)]
    assert [outcome(facts) for facts in found] == [Outcome.SURVIVED] * RUNS, found[-1].detail
    words = [facts.end.output.decode().split() for facts in found if facts.end is not None]
    randoms, uptimes, clocks, left, boots = (list(column) for column in zip(*words, strict=True))
    assert len(set(randoms)) == RUNS
    assert len(set(uptimes)) > 1, "they begin at moments of their own"
    assert left == ["0"] * RUNS
    assert len(set(boots)) == 1
    assert all(abs(int(clock) - time.time()) < 600 for clock in clocks)
    assert found[0].boot_s > found[1].boot_s > 0
    assert all(FROM_HERE in facts.console for facts in found)
    assert descriptors() == set()


def test_two_templates_are_two_boots(lab: Lab, smp_kernel: Path) -> None:
    with copies(lab, TELLER, smp_kernel) as made:
        found = [made.trial(1, boot) for boot in ("one", "two")]
        assert len(descriptors()) == 4
        made.machine.retire("one")
        assert len(descriptors()) == 2
    ends = [facts.end.output.split()[-1] for facts in found if facts.end is not None]
    assert len(set(ends)) == 2


def test_threads_restore_from_one_template_at_once(lab: Lab, bare_kernel: Path) -> None:
    found: dict[int, TrialFacts] = {}
    with copies(lab, "int main(void) { return 0; }", bare_kernel) as made:

        def work(place: int) -> None:
            found[place] = made.trial(place)

        threads = [threading.Thread(target=work, args=(place,)) for place in (1, 2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        made.machine.retire("b00t")
        assert descriptors() == set()
    assert [outcome(facts) for facts in found.values()] == [Outcome.SURVIVED] * 3
    assert sum(facts.boot_s > 0 for facts in found.values()) == 3


def test_a_panic_leaves_the_template_as_it_was(lab: Lab, smp_kernel: Path) -> None:
    source = """
        #include <fcntl.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(void) {
            if (getenv("REPRO_SEED")[0] != 'p') return 0;
            write(open("/proc/sysrq-trigger", O_WRONLY), "c", 1);
            for (;;) pause();
        }
    """
    with copies(lab, source, smp_kernel) as made:
        found = [made.trial(n, seed=seed) for n, seed in ((1, "quiet"), (2, "panic"), (3, "quiet"))]
    assert [outcome(facts) for facts in found] == [
        Outcome.SURVIVED, Outcome.CRASHED, Outcome.SURVIVED,
    ]  # fmt: skip
    assert b"sysrq triggered crash" in found[1].console


def test_a_hang_is_a_hang(lab: Lab, bare_kernel: Path) -> None:
    source = """
        #include <sys/reboot.h>
        int main(void) { reboot(RB_HALT_SYSTEM); for (;;); }
    """
    with copies(lab, source, bare_kernel, time=1.0) as made:
        assert outcome(made.trial(1)) is Outcome.HUNG


def test_frames_over_a_shared_console_are_found_again(lab: Lab, bare_kernel: Path) -> None:
    with copies(lab, "int main(void) { return 4; }", bare_kernel, append="8250.nr_uarts=1") as made:
        for place in (1, 2):
            facts = made.trial(place)
            assert outcome(facts) is Outcome.CRASHED, facts.detail
            assert facts.end is not None
            assert facts.end.code == 4


def test_the_template_s_cpus_are_counted(lab: Lab, bare_kernel: Path) -> None:
    with copies(lab, "int main(void) { return 0; }", bare_kernel, smp=2) as made:
        facts = made.trial(1)
    assert facts.fault is Fault.SETUP
    assert "shows 1 CPU(s)" in facts.detail
    assert descriptors() == set()


def test_a_qemu_that_cannot_freeze_says_so(
    lab: Lab, bare_kernel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_flaky_repro.machine import qmp

    monkeypatch.setitem(qmp._NO_RAM, "capability", "unheard-of")
    with (
        copies(lab, "int main(void) { return 0; }", bare_kernel) as made,
        pytest.raises(InfrastructureError, match=r"cannot be frozen: .*--repro-boot batch or cold"),
    ):
        made.trial(1)
    assert descriptors() == set()


def test_slots_count_a_template_s_memory(lab: Lab, bare_kernel: Path, tmp_path: Path) -> None:
    experiment = lab.experiment("int main(void) { return 0; }", bare_kernel)
    slots = Slots(tmp_path, Capacity(cores=8, pieces=6))
    with experiment.guest_spec(Accel.TCG) as spec:
        cold = QemuMachine(lab.emulator, spec, slots)
        assert cold.at_once == 3  # of 256 + 64 MiB, in pieces of 256
        assert SnapshotMachine(cold).at_once == 2
