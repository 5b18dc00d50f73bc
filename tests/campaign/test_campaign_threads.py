"""Which thread does what: a signal may strike the calling thread anywhere."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.campaign import trials
from pytest_flaky_repro.campaign.loop import Snapshot
from pytest_flaky_repro.machine.fake import Behaviour
from pytest_flaky_repro.outcomes import Conclusion
from pytest_flaky_repro.stats import Design

if TYPE_CHECKING:
    from tests.campaign.conftest import Bench

DESIGN = Design(min_rate=0.2, confidence_safe=0.9, confidence_crash=0.9)


class Watched(threading.Condition):
    """A condition that knows who entered it."""

    entered: set[int] = set()  # noqa: RUF012 - one for all, on purpose

    def __enter__(self) -> bool:
        self.entered.add(threading.get_ident())
        return super().__enter__()


def test_the_calling_thread_takes_no_lock_that_others_need(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C inside a lock's ``__enter__`` leaves it locked, and the workers waited for ever."""
    here = SimpleNamespace(Condition=Watched, Thread=threading.Thread)
    monkeypatch.setattr(trials, "threading", here)  # the standard library's own are another matter
    verdict = bench.run(Behaviour(), DESIGN, jobs=2)
    assert verdict.conclusion is Conclusion.SAFE
    assert Watched.entered
    assert threading.get_ident() not in Watched.entered


def test_the_observer_is_told_in_the_calling_thread(bench: Bench) -> None:
    """pytest's hooks, through which it prints, are not for other threads."""
    heard: list[tuple[int, int]] = []

    class Listener:
        def progress(self, snapshot: Snapshot) -> None:
            heard.append((threading.get_ident(), snapshot.tally.trials_low))

    bench.run(Behaviour(), DESIGN, jobs=2, observer=Listener())
    assert heard == [(threading.get_ident(), count) for count in range(1, 12)]
