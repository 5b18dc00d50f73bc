"""What runs on a worker: it keeps images, makes machines, runs trials, and stops them.

A running Dask task cannot be cancelled, but its worker is told that nobody wants it any more:
by a verdict that ends a campaign, and just as well when the client is gone. Its transition is
what stops the trial (``WorkerPlugin.transition``, distributed's plugins page).
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributed import WorkerPlugin, get_worker

from pytest_flaky_repro.crash import Phase
from pytest_flaky_repro.machine.cluster.images import ImageStore
from pytest_flaky_repro.machine.cluster.recipe import Fitness, Recipe
from pytest_flaky_repro.machine.conversation import STOPPED, Gone
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import Machine, TrialFacts, TrialOrder

if TYPE_CHECKING:
    from distributed import Worker

NAME = "flaky-repro"
KEY = "flaky-repro-trial-"  # keys of our tasks begin so
TOPIC = "flaky-repro"  # one for all clients: the scheduler keeps a log of each topic for ever
REMEMBERED = 10_000


class AnotherWorker(Exception):
    """A trial reached a worker that it was not meant for, or reached it again."""


@dataclass(frozen=True)
class Greeting:
    """Who a worker is; ``incarnation`` changes when its process does."""

    incarnation: str
    host: str
    missing: tuple[str, ...]


class Workshop(WorkerPlugin):  # type: ignore[misc, unused-ignore]
    """All that this package keeps on one worker."""

    def __init__(self) -> None:
        self.incarnation = secrets.token_hex(8)
        self.images = ImageStore()
        self._fitness: dict[Recipe, Fitness] = {}
        self._lock = threading.Lock()
        self._running: dict[str, StopSignal] = {}
        self._unwanted: set[str] = set()
        self._begun: deque[str] = deque(maxlen=REMEMBERED)

    # ---- what Dask tells it, in the worker's event loop

    def setup(self, worker: Worker) -> None:
        self._worker = worker

    def teardown(self, worker: Worker) -> None:
        del worker
        with self._lock:
            for stop in self._running.values():
                stop.set()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:
        """Stops a trial that runs and is not wanted any more, or is about to run."""
        del kwargs
        if not (isinstance(key, str) and key.startswith(KEY)):
            return
        with self._lock:
            if key in self._running and finish in ("released", "forgotten"):
                self._running[key].set()
            elif start == "executing" and finish == "released":  # its thread has yet to begin
                self._unwanted.add(key)
            else:
                self._unwanted.discard(key)

    # ---- what clients ask of it

    def prepare(self, recipe: Recipe) -> Fitness:
        """What this host can do for ``recipe``: found out once."""
        if recipe not in self._fitness:
            found = recipe.prepare(self.images, Path(self._worker.local_directory))
            # what a worker offers to Dask is all that it offers to us
            threads = max(1, self._worker.state.nthreads // recipe.cores)
            self._fitness[recipe] = replace(found, at_once=min(found.at_once, threads))
        return self._fitness[recipe]

    def attempt(self, key: str, recipe: Recipe, order: TrialOrder) -> TrialFacts:
        """One trial, in the thread that calls this: its QEMU dies with that thread."""
        fitness = self.prepare(recipe)
        try:
            with self._stop_signal(key) as stop, recipe.machine(self.images, fitness) as machine:
                self._say(key, "begun")
                facts = self._run(machine, order, stop, lambda: self._say(key, "started"))
        finally:
            self._say(key, "ended")
        return replace(facts, host=socket.gethostname(), accel=fitness.accel)

    def _run(
        self,
        machine: Machine,
        order: TrialOrder,
        stop: StopSignal,
        started: Callable[[], None],
    ) -> TrialFacts:
        with machine.slot(stop) as slot:
            if slot is None:
                return TrialFacts(Phase.READY, "", gone=Gone.STOPPED, detail=STOPPED)
            return machine.run(order, slot, stop, started)

    @contextmanager
    def _stop_signal(self, key: str) -> Iterator[StopSignal]:
        stop = StopSignal()
        with self._lock:
            if key in self._begun:
                raise AnotherWorker(f"{key} has run here before")
            self._begun.append(key)
            self._running[key] = stop
            if key in self._unwanted:
                stop.set()
        try:
            yield stop
        finally:
            with self._lock:
                del self._running[key]
            stop.close()

    def _say(self, key: str, what: str) -> None:
        self._worker.log_event(TOPIC, {"key": key, "what": what})


# ---- what clients send: run by a worker's event loop, but for the last


async def greet(wanted: tuple[str, ...], dask_worker: Worker) -> Greeting:
    """Opens the workshop, if need be, and asks which of the ``wanted`` images to send."""
    if NAME not in dask_worker.plugins:
        await dask_worker.plugin_add(Workshop(), name=NAME, catch_errors=False)
    shop = _shop(dask_worker)
    return Greeting(shop.incarnation, socket.gethostname(), shop.images.missing(wanted))


def receive(images: Mapping[str, bytes], dask_worker: Worker) -> None:
    """Keeps images that were sent."""
    for content in images.values():
        _shop(dask_worker).images.put(content)


async def prepare(recipe: Recipe, dask_worker: Worker) -> Fitness:
    """Finds out what a worker can do; in a thread, since that may take seconds."""
    import asyncio

    return await asyncio.to_thread(_shop(dask_worker).prepare, recipe)


def attempt(incarnation: str, recipe: Recipe, order: TrialOrder) -> TrialFacts:
    """The task: one trial, here and nowhere else, once and never again.

    The scheduler runs tasks of a lost worker again, should one come back at its address. What
    was lost is the client's to judge, so that is refused.
    """
    worker = get_worker()
    shop = worker.plugins.get(NAME)
    if not isinstance(shop, Workshop) or shop.incarnation != incarnation:
        raise AnotherWorker("this trial was meant for a worker that is gone")
    return shop.attempt(str(worker.get_current_task()), recipe, order)


def _shop(worker: Worker) -> Workshop:
    shop = worker.plugins[NAME]
    assert isinstance(shop, Workshop)
    return shop
