"""The workers of a cluster as one client sees them: who is there, who is fit, who has a free seat.

Trials are pinned to a worker by us, since only we know what each can carry. The scheduler would
run a lost worker's trials again somewhere else, and a trial must not run twice: pinned, they wait
for a worker that never comes back, and are taken from it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pytest_flaky_repro.errors import InfrastructureError, ReproError, UsageError
from pytest_flaky_repro.machine.cluster import connection
from pytest_flaky_repro.machine.cluster.attempt import Attempt, News
from pytest_flaky_repro.machine.cluster.recipe import Fitness, Recipe
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialOrder

WORKERS_WITHIN_S = 60.0
LOOK_EVERY_S = 0.5
LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class Member:
    """One worker. ``fit`` has what it can do for each recipe; it has every one's images then."""

    address: str
    incarnation: str
    host: str
    fit: dict[Recipe, Fitness] = field(default_factory=dict)
    running: int = 0
    seated: int = 0  # so far

    def __str__(self) -> str:
        return f"worker {self.address} on {self.host}"


@dataclass(frozen=True)
class WorkerSlot(Slot):
    """A place on a worker; the slot proper is taken there, by the worker."""

    member: Member | None = None


class Crew:
    """A connection to one cluster, shared by all campaigns of a process. Close it at the end."""

    def __init__(self, address: str, workers_within_s: float = WORKERS_WITHIN_S) -> None:
        self._address, self._workers_within_s = address, workers_within_s
        self._client = connection.connect(address)
        from pytest_flaky_repro.machine.cluster import workshop

        self._workshop = workshop
        self._members: dict[str, Member] = {}
        self._removed: dict[str, float] = {}  # when, on the monotonic clock
        self._attempts: dict[str, Attempt] = {}
        self._open: list[tuple[Recipe, Mapping[str, bytes]]] = []  # two arms may be equal
        self._changed = threading.Condition()
        self._shipping = threading.Lock()
        self._closed = False
        self._client.subscribe_topic(workshop.TOPIC, self._heard)
        self._client.subscribe_topic("all", self._heard_of_workers)

    def close(self) -> None:
        """Leaves the cluster; what still runs there for us is stopped by its workers."""
        self._closed = True
        for topic in (self._workshop.TOPIC, "all"):
            self._client.unsubscribe_topic(topic)
        self._client.close()

    # ---- recipes: every worker is made ready for those that are open

    @contextmanager
    def opened(self, recipe: Recipe, images: Mapping[str, bytes]) -> Iterator[None]:
        """Makes all workers ready for ``recipe``: images sent to those that lack them.

        ``images`` by their sha256. Raises UsageError or InfrastructureError that names the worker
        which is not fit, or says that there is none.
        """
        self._open.append((recipe, images))
        try:
            self._await_workers()
            yield
        finally:
            self._open.remove((recipe, images))

    def seats(self, recipe: Recipe) -> int:
        """Guests at once on all workers that are ready now."""
        return sum(fitness.at_once for fitness in self._fits(recipe))

    def fitness(self, recipe: Recipe) -> Fitness:
        """That of some worker."""
        return next(iter(self._fits(recipe)))

    def _fits(self, recipe: Recipe) -> list[Fitness]:
        with self._changed:
            return [m.fit[recipe] for m in self._members.values() if recipe in m.fit]

    def _await_workers(self) -> None:
        until = time.monotonic() + self._workers_within_s
        while True:
            self._enlist(connection.equal_workers(self._client, self._address))
            if self._members:
                return
            if time.monotonic() > until:
                raise UsageError(
                    f"--repro-dask {self._address}: the scheduler had no worker for "
                    f"{self._workers_within_s:g} s. Start some: dask worker {self._address}"
                )
            time.sleep(LOOK_EVERY_S)

    def _enlist(self, addresses: Iterable[str]) -> None:
        """Makes workers ready for all open recipes. Raises for the first that is not fit."""
        workshop, began = self._workshop, time.monotonic()
        with self._shipping:
            wanted = list(self._open)
            images = {digest: content for _, its in wanted for digest, content in its.items()}
            greetings = self._ask(addresses, workshop.greet, tuple(images))
            for address, greeting in greetings.items():
                if greeting.missing:
                    parcel = {digest: images[digest] for digest in greeting.missing}
                    self._ask([address], workshop.receive, parcel)
            for recipe in dict.fromkeys(recipe for recipe, _ in wanted):
                fits = self._ask(greetings, workshop.prepare, recipe)
                self._note(greetings, recipe, fits, began)

    def _note(
        self,
        greetings: Mapping[str, Any],
        recipe: Recipe,
        fits: Mapping[str, Fitness],
        began: float,
    ) -> None:
        with self._changed:
            for address, fitness in fits.items():
                if self._removed.get(address, 0.0) >= began:
                    continue  # it went while we asked
                said = greetings[address]
                member = self._members.get(address)
                if member is None or member.incarnation != said.incarnation:
                    member = Member(address, said.incarnation, said.host)
                    self._members[address] = member
                member.fit[recipe] = fitness
            self._changed.notify_all()

    def _ask(self, addresses: Iterable[str], function: Any, *words: Any) -> dict[str, Any]:
        """What each worker answers; those that are gone meanwhile are left out."""
        answers = self._client.run(function, *words, workers=list(addresses), on_error="return")
        for address, answer in answers.items():
            if isinstance(answer, ReproError):
                raise type(answer)(
                    f"--repro-dask {self._address}: worker {address}: {answer} "
                    "(mend that worker's host, or stop the worker)"
                )
            if isinstance(answer, Exception) and not isinstance(answer, OSError):
                raise InfrastructureError(
                    f"--repro-dask {self._address}: worker {address} failed: {answer!r}. "
                    "Its own log says more; mend it, or stop the worker"
                ) from answer
        return {a: answer for a, answer in answers.items() if not isinstance(answer, OSError)}

    # ---- workers that come and go, in the client's event loop

    def _heard_of_workers(self, event: tuple[float, Any]) -> None:
        said = event[1]
        if not isinstance(said, Mapping) or "worker" not in said:
            return
        if said.get("action") == "remove-worker":
            self._lose(said["worker"])
        elif said.get("action") == "add-worker" and self._open:
            threading.Thread(target=self._welcome, args=(said["worker"],), daemon=True).start()

    def _lose(self, address: str) -> None:
        with self._changed:
            self._removed[address] = time.monotonic()
            gone = self._members.pop(address, None)
            for attempt in self._attempts.values():
                if attempt.member is gone:
                    attempt.inbox.put(News.LOST)
            self._changed.notify_all()

    def _welcome(self, address: str) -> None:
        """Makes a worker ready that came late. One that is not fit is left out."""
        try:
            if address in connection.equal_workers(self._client, self._address):
                self._enlist([address])
        except (ReproError, OSError, RuntimeError) as error:
            if not self._closed:
                LOG.warning("left out of this campaign: %s", error)

    # ---- seats

    @contextmanager
    def seat(self, recipe: Recipe, stop: StopSignal) -> Iterator[WorkerSlot | None]:
        """Waits for a free place on any worker; None when ``stop`` came first.

        Raises InfrastructureError when all workers are gone, and no other comes.
        """
        member = self._take(recipe, stop)
        if member is None:
            yield None
            return
        try:
            yield WorkerSlot((), member)
        finally:
            with self._changed:
                member.running -= 1
                self._changed.notify()

    def _take(self, recipe: Recipe, stop: StopSignal) -> Member | None:
        alone_since = None
        with self._changed:
            while not stop.is_set():
                wanted = {recipe for recipe, _ in self._open}
                ready = [m for m in self._members.values() if m.fit.keys() >= wanted]
                free = [m for m in ready if m.running < m.fit[recipe].at_once]
                if free:
                    chosen = min(free, key=lambda m: (m.running / m.fit[recipe].at_once, m.seated))
                    chosen.running += 1
                    chosen.seated += 1
                    return chosen
                now = time.monotonic()
                if ready or alone_since is None:
                    alone_since = now
                if now - alone_since > self._workers_within_s:
                    raise InfrastructureError(
                        f"--repro-dask {self._address}: all workers are gone, and none came for "
                        f"{self._workers_within_s:g} s. Start some, then go on: --repro-resume"
                    )
                self._changed.wait(LOOK_EVERY_S)
        return None

    # ---- attempts

    @contextmanager
    def attempt(self, member: Member, recipe: Recipe, order: TrialOrder) -> Iterator[Attempt]:
        """One trial under way on ``member``. Left early, it is not wanted any more."""
        attempt = Attempt(self._workshop.KEY, member, member.fit[recipe], self._address)
        with self._changed:
            self._attempts[attempt.key] = attempt
            if self._members.get(member.address) is not member:
                attempt.inbox.put(News.LOST)
        try:
            attempt.future = self._client.submit(
                self._workshop.attempt,
                member.incarnation,
                recipe,
                order,
                key=attempt.key,
                workers=[member.address],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            attempt.future.add_done_callback(lambda _: attempt.inbox.put(News.DONE))
            yield attempt
        finally:
            with self._changed:
                del self._attempts[attempt.key]
            if attempt.future is not None:
                attempt.future.release()

    def stop_all(self) -> None:
        """Tells all attempts that the campaign is over."""
        with self._changed:
            for attempt in self._attempts.values():
                attempt.inbox.put(News.STOP)
            self._changed.notify_all()

    def ship_again(self, member: Member) -> None:
        """Sends a worker what it had to give up meanwhile."""
        self._enlist([member.address])

    def _heard(self, event: tuple[float, Any]) -> None:
        said = event[1]
        attempt = self._attempts.get(said["key"])
        if attempt is not None:  # other clients' trials are told on the same topic
            attempt.inbox.put(News(said["what"]))
