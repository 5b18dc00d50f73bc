"""The machine that a cluster makes: a trial here is a trial on one of its workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from pytest_flaky_repro.machine.cluster.crew import Crew, WorkerSlot
from pytest_flaky_repro.machine.cluster.images import MissingImages
from pytest_flaky_repro.machine.cluster.recipe import Recipe
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder

ELBOW_ROOM = 32  # trials at once at least, so that workers which come later find some to run


class ClusterMachine:
    """Runs trials on the workers of ``crew``. Machines of one crew share its seats."""

    def __init__(self, crew: Crew, recipe: Recipe) -> None:
        self._crew, self._recipe = crew, recipe
        self._accel = crew.fitness(recipe).accel
        self._watched: StopSignal | None = None
        self._lock = threading.Lock()

    @property
    def accel(self) -> Accel:
        """That of some worker; each trial's facts have its own."""
        return self._accel

    @property
    def at_once(self) -> int:
        return max(ELBOW_ROOM, self._crew.seats(self._recipe))

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        self._watch(stop)
        return self._crew.seat(self._recipe, stop)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        assert isinstance(slot, WorkerSlot)
        assert slot.member is not None
        while True:
            with self._crew.attempt(slot.member, self._recipe, order) as attempt:
                if stop.is_set():
                    self._crew.stop_all()
                try:
                    return attempt.follow(started)
                except MissingImages:  # the worker made room meanwhile
                    pass
            self._crew.ship_again(slot.member)

    def _watch(self, stop: StopSignal) -> None:
        """Has all attempts told when ``stop`` is set."""
        with self._lock:
            if self._watched is stop:
                return
            self._watched = stop
        threading.Thread(target=self._await, args=(stop,), daemon=True).start()

    def _await(self, stop: StopSignal) -> None:
        stop.wait(threading.TIMEOUT_MAX)
        self._crew.stop_all()


@contextmanager
def machine_on(crew: Crew, recipe: Recipe, images: Mapping[str, bytes]) -> Iterator[ClusterMachine]:
    """A machine on all workers of ``crew``, ready to run. ``images`` by their sha256."""
    with crew.opened(recipe, images):
        yield ClusterMachine(crew, recipe)
