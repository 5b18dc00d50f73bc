"""A bench for single trials: a C program, a kernel, and what became of them."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_flaky_repro.campaign.experiment import Conditions, Experiment, assemble
from pytest_flaky_repro.campaign.rules import Rules, outcome_of, read_facts
from pytest_flaky_repro.guest import reproducer
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.spec import Accel, Deadlines, Emulator
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, run_trial
from pytest_flaky_repro.outcomes import Outcome

# A guest that is silent and idle is given up sooner than by default; the rest is as shipped.
LIMITS = Deadlines(idle_s=4.0)


@dataclass(frozen=True)
class Trialed:
    """One trial: what was seen, and what it is called."""

    facts: TrialFacts
    outcome: Outcome
    title: str

    @property
    def output(self) -> bytes:
        assert self.facts.end is not None, self.facts.detail
        return self.facts.end.output


class Lab:
    """Runs C programs on a kernel, one trial each."""

    def __init__(self, emulator: Emulator, cache: Path, folder: Path) -> None:
        self.emulator, self._cache, self._folder = emulator, cache, folder

    def experiment(
        self,
        source: str,
        kernel: Path,
        *,
        smp: int = 1,
        trial_time: float = 10.0,
        append: str = "",
        environment: tuple[str, ...] = (),
    ) -> Experiment:
        path = self._folder / "program.c"
        path.write_text(textwrap.dedent(source))
        payload = reproducer.prepare(path, cache=self._cache)
        how = Conditions(smp, 256, "pc", append, trial_time, environment)
        return assemble(read_kernel(kernel), payload, how, [], self._cache, {"PATH": ""})

    @contextmanager
    def guest(
        self, experiment: Experiment, limits: Deadlines = LIMITS
    ) -> Iterator[tuple[Guest, StopSignal]]:
        """A guest that has not booted yet."""
        machine = QemuMachine(self.emulator, experiment.guest_spec(Accel.TCG), limits=limits)
        stop = StopSignal()
        with machine.slot(stop) as slot:
            assert slot is not None
            guest = machine.boot(slot, stop)
            try:
                yield guest, stop
            finally:
                guest.kill()
        stop.close()

    def trial(
        self,
        experiment: Experiment,
        *,
        limits: Deadlines = LIMITS,
        on_start: Callable[[Guest, StopSignal], None] = lambda _guest, _stop: None,
    ) -> Trialed:
        """One trial; ``on_start`` is called when the reproducer is about to run."""
        with self.guest(experiment, limits) as (guest, stop):
            order = experiment.order("5eed", None)
            cpus = experiment.conditions.smp
            facts = run_trial(guest, order, cpus, lambda: on_start(guest, stop))
        reading = read_facts(facts, Rules())
        return Trialed(facts, outcome_of(facts, reading), reading.title)


@pytest.fixture
def lab(emulator: Emulator, user_cache: Path, tmp_path: Path) -> Lab:
    return Lab(emulator, user_cache, tmp_path)
