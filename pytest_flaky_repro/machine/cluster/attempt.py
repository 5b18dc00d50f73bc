"""One trial on a worker, followed from here: what arrives about it becomes its facts."""

from __future__ import annotations

import enum
import queue
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.crash import Phase
from pytest_flaky_repro.errors import InfrastructureError, ReproError
from pytest_flaky_repro.machine.cluster.images import MissingImages
from pytest_flaky_repro.machine.cluster.recipe import Fitness
from pytest_flaky_repro.machine.conversation import STOPPED, Gone
from pytest_flaky_repro.machine.trial import Fault, TrialFacts

if TYPE_CHECKING:
    from pytest_flaky_repro.machine.cluster.crew import Member

STOP_PATIENCE_S = 5.0  # for a worker's word that its guest has ended
RESULT_PATIENCE_S = 5.0
QUIET_S = 5.0


class News(enum.Enum):
    """What arrives, by whatever way, in the order of its arrival."""

    BEGUN = "begun"  # by the worker: from here on it has something to stop
    STARTED = "started"  # by the worker: the guest said START
    ENDED = "ended"  # by the worker: its guest is gone
    DONE = "done"  # by Dask: there is a result, or there will never be one
    LOST = "lost"  # by the scheduler: the worker is gone
    STOP = "stop"  # by us: the campaign is over


class Attempt:
    """One submitted trial. Facts are counted once: whoever comes later finds nobody waiting."""

    def __init__(self, prefix: str, member: Member, fitness: Fitness, address: str) -> None:
        self.key = prefix + secrets.token_hex(16)
        self.member, self._fitness, self._address = member, fitness, address
        self.inbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.future: Any = None
        self._begun = self._ended = False
        self._started_at: float | None = None

    def follow(self, started: Callable[[], None]) -> TrialFacts:
        """Waits for the facts; ``started`` is called when START is told.

        Raises MissingImages, and InfrastructureError where the worker's harness failed.
        """
        while True:
            try:
                news = self.inbox.get(timeout=QUIET_S)
            except queue.Empty:
                self._refuse_if_closed()
                continue
            if news is News.LOST:
                self.future.cancel()
                return self._lost()
            if news is News.STOP:
                return self._stopped(started)
            if news is News.DONE:
                facts = self._result()
                if facts is not None:
                    if facts.phase in (Phase.RUN, Phase.END):
                        self._note_start(started)
                    return facts
            self._note(news, started)

    def _note(self, news: News, started: Callable[[], None]) -> None:
        self._begun = self._begun or news is News.BEGUN
        self._ended = self._ended or news is News.ENDED
        if news is News.STARTED:
            self._note_start(started)

    def _note_start(self, started: Callable[[], None]) -> None:
        if self._started_at is None:
            self._started_at = time.monotonic()
            started()

    def _result(self) -> TrialFacts | None:
        """None when it has to be waited for: a worker that is lost now takes it along."""
        import distributed

        from pytest_flaky_repro.machine.cluster.workshop import AnotherWorker

        if self.future.status == "cancelled":
            return self._cancelled()
        try:
            facts = self.future.result(timeout=RESULT_PATIENCE_S)
        except (TimeoutError, distributed.TimeoutError):  # one and the same from Python 3.11 on
            self.inbox.put(News.DONE)  # behind the worker's loss, if that is why
            return None
        except MissingImages:
            raise
        except (AnotherWorker, distributed.scheduler.KilledWorker):
            return self._lost()
        except ReproError as error:
            raise type(error)(f"{self._where()}: {error}") from error
        except Exception as error:
            if self.future.status == "cancelled":
                return self._cancelled()
            raise InfrastructureError(f"{self._where()} failed: {error!r}") from error
        assert isinstance(facts, TrialFacts)
        return facts

    def _cancelled(self) -> TrialFacts | None:
        """Not by us: by the scheduler's end, or its restart."""
        self._refuse_if_closed()
        raise InfrastructureError(
            f"--repro-dask {self._address}: the scheduler lost a trial, or was lost itself. What "
            "ended before is on disk: see to the scheduler, then go on with --repro-resume"
        )

    def _refuse_if_closed(self) -> None:
        if self.future.client.status == "closed":
            raise InfrastructureError(
                f"--repro-dask {self._address}: the connection to the scheduler is lost. What "
                "ended before is on disk: see to the scheduler, then go on with --repro-resume"
            )

    def _stopped(self, started: Callable[[], None]) -> TrialFacts:
        """Takes the trial back, and waits for the word that its guest has ended."""
        self.future.cancel()
        until = time.monotonic() + STOP_PATIENCE_S
        while not self._ended:
            try:
                news = self.inbox.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            self._note(news, started)
            if news is News.LOST or (news is News.DONE and not self._begun):
                break
        return self._without_end(Gone.STOPPED, STOPPED)

    def _lost(self) -> TrialFacts:
        """A lost worker's trial. What started and has no end is never a survival."""
        return self._without_end(
            Gone.KILLED,
            f"{self.member} was lost",
            fault=Fault.NONE if self._started_at is not None else Fault.CHANCE,
            lost_with=self.member.incarnation,
        )

    def _without_end(self, gone: Gone, detail: str, **more: Any) -> TrialFacts:
        started_at = self._started_at
        return TrialFacts(
            Phase.RUN if started_at is not None else Phase.READY,
            boot=secrets.token_hex(8),
            gone=gone,
            detail=detail,
            exposure_s=time.monotonic() - started_at if started_at is not None else 0.0,
            host=self.member.host,
            accel=self._fitness.accel,
            **more,
        )

    def _where(self) -> str:
        return f"--repro-dask {self._address}: {self.member}"
