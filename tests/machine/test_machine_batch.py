"""Several trials in one real boot: each begins anew, and whatever spoils the boot ends it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.campaign.rules import Rules, outcome_of, read_facts
from pytest_flaky_repro.crash import CrashClass
from pytest_flaky_repro.machine.batch import BatchMachine
from pytest_flaky_repro.machine.conversation import Gone
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.sharing import Seat
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel, Deadlines
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.machine.conftest import Lab

LIMITS = Deadlines(idle_s=6.0)
HEAD = """
    #define _GNU_SOURCE
    #include <fcntl.h>
    #include <sched.h>
    #include <stdio.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mount.h>
    #include <sys/stat.h>
    #include <unistd.h>
"""


def c(body: str) -> str:
    return textwrap.dedent(HEAD) + f"int main(void) {{ {body} }}\n"


class Batch:
    """One boot and its trials."""

    def __init__(
        self, lab: Lab, kernel: Path, body: str, *, smp: int = 1, time: float = 10.0
    ) -> None:
        self._experiment = lab.experiment(c(body), kernel, smp=smp, trial_time=time)
        self._emulator = lab.emulator

    @contextmanager
    def booted(self, last: int = 8) -> Iterator[Batch]:
        self._last, self._place, self._stop = last, 0, StopSignal()
        with self._experiment.guest_spec(Accel.TCG) as spec:
            self.machine = BatchMachine(QemuMachine(self._emulator, spec, limits=LIMITS))
            try:
                yield self
            finally:
                self.machine.let_go()
        self._stop.close()

    def trial(self, boot: str = "b00t", classes: frozenset[CrashClass] | None = None) -> TrialFacts:
        self._place += 1
        order = self._experiment.order(str(self._place), classes)
        order = replace(order, seat=Seat(boot, self._place, self._last))
        first = self._place == 1
        with self.machine.slot(self._stop) if first else nullcontext(Slot(())) as slot:
            assert slot is not None
            return self.machine.run(order, slot, self._stop, lambda: None)


def outcome(facts: TrialFacts) -> Outcome:
    return outcome_of(facts, read_facts(facts, Rules()))


def test_nothing_of_a_trial_is_there_for_the_next(lab: Lab, smp_kernel: Path) -> None:
    """Files in all places, below folders and mounts; a child in a session of its own."""
    body = """
        const char *left[] = {"/tmp/f", "/dev/shm/f", "f", "/root/f", "/tmp/d/e/f", "/repro/d/f"};
        for (int i = 0; i < 6; i++) if (!access(left[i], F_OK)) return 10 + i;
        if (system("true") == 0 && system("pidof sleep") == 0) return 20;
        mkdir("/tmp/d", 0700); mkdir("/tmp/d/e", 0700); mkdir("/repro/d", 0700);
        mount("x", "/repro/d", "tmpfs", 0, 0);
        for (int i = 0; i < 6; i++) if (creat(left[i], 0600) < 0) return 30 + i;
        if (!fork()) { setsid(); for (;;) pause(); }
        return 0;
    """
    with Batch(lab, smp_kernel, body).booted() as batch:
        found = [batch.trial() for _ in range(3)]
    assert [outcome(facts) for facts in found] == [Outcome.SURVIVED] * 3, found[-1]
    assert {facts.boot for facts in found} == {"b00t"}
    assert [facts.boot_s > 0 for facts in found] == [True, False, False]
    assert [facts.spent for facts in found] == [""] * 3


def test_each_trial_has_entropy_of_its_own(lab: Lab, bare_kernel: Path) -> None:
    body = """
        unsigned long v;
        read(open("/dev/urandom", O_RDONLY), &v, sizeof v);
        printf("%lx", v);
        return 0;
    """
    with Batch(lab, bare_kernel, body).booted() as batch:
        found = [batch.trial() for _ in range(3)]
    assert len({facts.end.output for facts in found if facts.end is not None}) == 3


def test_the_last_trial_lets_the_guest_leave(lab: Lab, bare_kernel: Path) -> None:
    with Batch(lab, bare_kernel, "return 0;").booted(last=2) as batch:
        assert batch.trial().spent == ""
        assert b"reboot" in batch.trial().console


def test_a_panic_in_the_middle_costs_nothing_but_itself(lab: Lab, smp_kernel: Path) -> None:
    """The trial before it was judged with its whole console; the next one boots anew."""
    body = """
        if (strcmp(getenv("REPRO_SEED"), "2")) return 0;
        write(open("/proc/sysrq-trigger", O_WRONLY), "c", 1);
        for (;;) pause();
    """
    with Batch(lab, smp_kernel, body).booted() as batch:
        before, panic = batch.trial(), batch.trial()
        after = batch.trial("another")
    assert [outcome(f) for f in (before, panic, after)] == [
        Outcome.SURVIVED, Outcome.CRASHED, Outcome.SURVIVED,
    ]  # fmt: skip
    assert panic.spent
    assert before.trial_console is not None
    assert b"sysrq" not in before.trial_console
    assert after.boot == "another"


def test_a_report_that_does_not_count_ends_the_boot_all_the_same(
    lab: Lab, smp_kernel: Path
) -> None:
    """WARN_ONCE speaks once a boot: what comes after it would be another kernel's trial."""
    body = """
        int log = open("/dev/kmsg", O_WRONLY);
        const char *said = "<4>WARNING: CPU: 0 PID: 1 at kernel/planted.c:1 planted+0x1/0x2\\n";
        return strcmp(getenv("REPRO_SEED"), "2") ? 0 : write(log, said, strlen(said)) < 0;
    """
    with Batch(lab, smp_kernel, body).booted() as batch:
        assert batch.trial().spent == ""
        only = frozenset({CrashClass.PANIC})
        warned = batch.trial(classes=only)
    rules = Rules(classes=only)
    assert outcome_of(warned, read_facts(warned, rules)) is Outcome.SURVIVED
    assert "the kernel reported something" in warned.spent


def test_a_hanging_trial_ends_the_boot(lab: Lab, bare_kernel: Path) -> None:
    body = """
        if (!strcmp(getenv("REPRO_SEED"), "1")) return 0;
        syscall(169, 0xfee1dead, 672274793, 0xCDEF0123, 0); /* halt */
        for (;;) pause();
    """
    with Batch(lab, bare_kernel, body, time=1.0).booted() as batch:
        assert outcome(batch.trial()) is Outcome.SURVIVED
        hung = batch.trial()
    assert outcome(hung) is Outcome.HUNG
    assert hung.gone is Gone.STALLED
    assert hung.spent


def test_a_guest_with_fewer_cpus_than_before_is_no_trial(lab: Lab, smp_kernel: Path) -> None:
    """The agent itself was bound to one CPU, and all that it starts would be."""
    body = """
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(0, &one);
        return sched_setaffinity(1, sizeof one, &one);
    """
    with Batch(lab, smp_kernel, body, smp=2).booted() as batch:
        assert outcome(batch.trial()) is Outcome.SURVIVED
        second = batch.trial()
    assert outcome(second) is Outcome.INFRASTRUCTURE
    assert "it shows 1 CPU(s) of 2" in second.detail
    assert second.spent
