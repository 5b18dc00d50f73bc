"""Going on from evidence: whatever ended the earlier run, the verdict is what the trials say."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, load_history
from pytest_flaky_repro.journal import EvidenceWarning
from pytest_flaky_repro.machine.fake import Behaviour, _coin
from pytest_flaky_repro.outcomes import Conclusion, Vote
from pytest_flaky_repro.stats import Design, Tally, plan_for

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.loop import Snapshot
    from tests.campaign.conftest import Bench

NOISY = Design(0.4, noise=0.1, confidence_safe=0.9, confidence_crash=0.9)
CLEAN = Design(0.2, confidence_safe=0.9)
few = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class Watch:
    """Keeps the last that was told."""

    last: Snapshot

    def progress(self, snapshot: Snapshot) -> None:
        self.last = snapshot


class Interrupt:
    """Presses Ctrl-C when so many trials were counted."""

    def __init__(self, after: int) -> None:
        self._left = after

    def progress(self, snapshot: Snapshot) -> None:
        del snapshot
        self._left -= 1
        if self._left <= 0:
            raise KeyboardInterrupt


def coin_vote(ticket: int, chance: float, seed: str = "5eed") -> Vote:
    """What the fake machine makes of this ticket."""
    trial_seed = hashlib.sha256(f"{seed} {ticket}".encode()).hexdigest()[:16]
    drawn = _coin(hashlib.sha512(trial_seed.encode()).digest())
    return Vote.CRASH if drawn < chance else Vote.SURVIVAL


def history_of(folder: Path, design: Design) -> list[Vote]:
    record = PlanRecord("e", {"lines": plan_for(design).digest()}, "test_x", "k")
    return [Rules().vote(trial) for trial in load_history(folder, record).trials]


@few
@given(st.lists(st.integers(1, 20), max_size=3), st.sampled_from([1, 4]))
def test_interruptions_change_nothing(bench: Bench, stops: list[int], jobs: int) -> None:
    """Ctrl-C between trials, any number of times; then on to the end."""
    behaviour = Behaviour(crash=0.2)
    whole = bench.run(behaviour, NOISY)
    folder = bench.anew()
    for i, after in enumerate(stops):
        with contextlib.suppress(KeyboardInterrupt):
            bench.run(
                behaviour, NOISY, folder=folder, resume=i > 0, observer=Interrupt(after), jobs=jobs
            )
    found = bench.run(behaviour, NOISY, folder=folder, resume=bool(stops))
    # trials that ran when they were interrupted are lost, and the others are as they were
    votes = [Rules().vote(trial) for trial in found.trials]
    if not {Vote.LOST, Vote.VOID}.intersection(votes):
        assert (found.conclusion, found.tally) == (whole.conclusion, whole.tally)
    assert plan_for(NOISY).judge(votes).decision.value == found.conclusion.value
    assert [t.ticket for t in found.trials] == list(range(len(votes)))
    for trial, vote in zip(found.trials, votes, strict=True):
        assert vote in (coin_vote(trial.ticket, 0.2), Vote.LOST, Vote.VOID)


@few
@given(st.data())
def test_any_prefix_of_a_log_leads_to_what_its_votes_say(bench: Bench, data: st.DataObject) -> None:
    """The log is cut anywhere, as by a power failure, and the campaign goes on from there."""
    first = bench.anew()
    whole = bench.run(Behaviour(crash=0.2), NOISY, folder=first)
    (log,) = first.glob("trials-*.jsonl")
    content = log.read_bytes()
    plan_ends = content.index(b"\n") + 1
    cut = plan_ends + data.draw(st.integers(0, 10**6), label="cut") % (len(content) - plan_ends)
    folder = bench.anew()
    folder.mkdir()
    (folder / log.name).write_bytes(content[:cut])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvidenceWarning)
        kept = history_of(folder, NOISY)
        found = bench.run(Behaviour(crash=0.2), NOISY, folder=folder, resume=True)
    votes = itertools.chain(kept, (coin_vote(t, 0.2) for t in itertools.count(len(kept))))
    judged = plan_for(NOISY).judge(votes)
    assert judged.decision.value == found.conclusion.value
    assert judged.tally == found.tally
    if Vote.LOST not in kept and Vote.VOID not in kept:
        assert (found.conclusion, found.tally) == (whole.conclusion, whole.tally)


def test_a_keyboard_interrupt_loses_no_trial(bench: Bench) -> None:
    folder = bench.anew()
    with pytest.raises(KeyboardInterrupt):
        bench.run(Behaviour(), CLEAN, folder=folder, observer=Interrupt(7), jobs=4)
    kept = history_of(folder, CLEAN)
    assert kept.count(Vote.SURVIVAL) >= 7
    found = bench.run(Behaviour(), CLEAN, folder=folder, resume=True)
    assert found.conclusion is Conclusion.SAFE
    new = len(found.trials) - len(kept)
    assert kept.count(Vote.SURVIVAL) + new == found.intact == 11


def test_a_finished_campaign_runs_nothing_again(bench: Bench) -> None:
    folder = bench.anew()
    first = bench.run(Behaviour(crash=1.0), CLEAN, folder=folder)
    again = bench.run(Behaviour(), CLEAN, folder=folder, resume=True)
    assert again.conclusion is Conclusion.CRASHES
    assert again.tally == first.tally == Tally(1, 1, 1)


def test_a_third_run_goes_on_from_both(bench: Bench) -> None:
    folder = bench.anew()
    for resume in (False, True):
        bench.run(Behaviour(), CLEAN, folder=folder, max_trials=5 + 3 * resume, resume=resume)
    found = bench.run(Behaviour(), CLEAN, folder=folder, resume=True)
    assert [trial.ticket for trial in found.trials] == list(range(11))
    assert len(list(folder.glob("trials-*.jsonl"))) == 3


def test_without_resume_earlier_evidence_is_left_alone(bench: Bench) -> None:
    folder = bench.anew()
    bench.run(Behaviour(crash=1.0), CLEAN, folder=folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    found = bench.run(Behaviour(), CLEAN, folder=folder)
    assert found.conclusion is Conclusion.SAFE
    assert {path: path.read_bytes() for path in before} == before


def test_trials_that_an_interruption_cost_are_not_held_against_the_harness(bench: Bench) -> None:
    """SIGKILL with twelve guests running: they are lost, and the campaign goes on all the same."""
    folder = bench.anew()
    record = PlanRecord("e", {"lines": plan_for(CLEAN).digest()}, "test_x", "k")
    writer = EvidenceWriter(folder, record)
    for ticket in range(12):
        writer.launch(ticket, f"{ticket}", "test")
        writer.start(ticket, "2024-01-01T00:00:00.000+00:00")
    writer.close()
    watch = Watch()
    found = bench.run(Behaviour(), CLEAN, folder=folder, resume=True, observer=watch)
    assert found.conclusion is Conclusion.SAFE
    assert (found.lost, found.tally.lost, found.intact) == (0, 12, 11)  # no survivals either
    assert (watch.last.lost, watch.last.void) == (0, 0)  # nor told of as the harness's
