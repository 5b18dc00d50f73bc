"""Campaigns on a real scheduler with real workers; only the guests are coins."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.journal import hostname
from pytest_flaky_repro.machine.cluster.crew import Crew
from pytest_flaky_repro.machine.cluster.machine import machine_on
from pytest_flaky_repro.machine.cluster.recipe import FakeRecipe
from pytest_flaky_repro.machine.fake import Behaviour, FakeMachine
from pytest_flaky_repro.outcomes import Conclusion, Outcome
from pytest_flaky_repro.stats import Design

if TYPE_CHECKING:
    from tests.cluster.conftest import DaskCluster, Tools

FEW = Design(0.2, 0.0, 0.9, 0.9)  # safe after 11 survivals


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    return [record for record in map(json.loads, lines) if record["type"] == kind]


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.4])
def test_verdict_and_trials_are_those_of_one_machine(
    pair: DaskCluster, tools: Tools, tmp_path: Path, rate: float
) -> None:
    """With noise, every trial counts in launch order, whoever ran it and whenever it ended."""
    behaviour, design = Behaviour(crash=rate, void=0.1, lost=0.05), Design(0.2, 0.02, 0.9, 0.9)
    here = tools.campaign(FakeMachine(behaviour), design, tmp_path / "here")
    crew = Crew(pair.address)
    with machine_on(crew, FakeRecipe(behaviour, at_once=2), {}) as machine:
        there = tools.campaign(machine, design, tmp_path / "there")
    crew.close()
    assert there.conclusion is here.conclusion
    assert there.tally == here.tally
    assert [(t.ticket, t.outcome) for t in there.trials] == [
        (t.ticket, t.outcome) for t in here.trials
    ]


def test_a_trial_names_the_host_and_accelerator_of_its_worker(
    pair: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    crew = Crew(pair.address)
    with machine_on(crew, FakeRecipe(Behaviour(), at_once=2), {}) as machine:
        verdict = tools.campaign(machine, FEW, tmp_path)
    crew.close()
    assert {(trial.host, trial.accel) for trial in verdict.trials} == {(hostname(), "tcg")}
    starts = {record["ticket"] for record in records(tmp_path, "start")}
    assert starts >= {trial.ticket for trial in verdict.trials}


def test_a_worker_runs_no_more_guests_than_it_has_threads(pair: DaskCluster) -> None:
    crew = Crew(pair.address)
    recipe = FakeRecipe(Behaviour(), at_once=50)
    with machine_on(crew, recipe, {}):
        assert crew.seats(recipe) == 4
    crew.close()


def test_two_machines_of_one_campaign_may_be_equal(
    pair: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    crew = Crew(pair.address)
    recipe = FakeRecipe(Behaviour(), at_once=2)
    with machine_on(crew, recipe, {}) as machine:
        with machine_on(crew, recipe, {}):
            pass
        assert tools.campaign(machine, FEW, tmp_path).conclusion is Conclusion.SAFE
    crew.close()


def test_images_are_sent_once_to_each_worker(
    pair: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    content = os.urandom(1 << 20)
    digest = hashlib.sha256(content).hexdigest()
    recipe = FakeRecipe(Behaviour(), at_once=2, images=(digest,))
    for name in ("first", "second"):  # two clients, one after the other
        crew = Crew(pair.address)
        with machine_on(crew, recipe, {digest: content}) as machine:
            tools.campaign(machine, FEW, tmp_path / name)
        crew.close()
    assert pair.shops(lambda shop: shop.images.received[digest]) == [1, 1]


def test_an_image_that_a_worker_gave_up_is_sent_again(
    pair: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    content = os.urandom(100)
    digest = hashlib.sha256(content).hexdigest()
    crew = Crew(pair.address)
    with machine_on(
        crew, FakeRecipe(Behaviour(), at_once=2, images=(digest,)), {digest: content}
    ) as machine:
        pair.shops(lambda shop: shop.images._make_room(1 << 40))
        verdict = tools.campaign(machine, FEW, tmp_path)
    crew.close()
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.void == verdict.lost == 0


def test_a_verdict_stops_what_still_runs(pair: DaskCluster, tools: Tools, tmp_path: Path) -> None:
    """Survivals take an hour here; the crash that decides comes at once."""
    crew = Crew(pair.address)
    recipe = FakeRecipe(Behaviour(crash=0.3, seconds=3600), at_once=2)
    with machine_on(crew, recipe, {}) as machine:
        verdict = tools.campaign(machine, FEW, tmp_path)
        assert pair.is_idle()
    crew.close()
    assert verdict.conclusion is Conclusion.CRASHES
    assert len(records(tmp_path, "trial")) == len(records(tmp_path, "launch"))


CLIENT = """
import sys, threading
from pytest_flaky_repro.machine.cluster.crew import Crew
from pytest_flaky_repro.machine.cluster.machine import machine_on
from pytest_flaky_repro.machine.cluster.recipe import FakeRecipe
from pytest_flaky_repro.machine.conversation import Command
from pytest_flaky_repro.machine.fake import Behaviour
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialOrder

with machine_on(Crew(sys.argv[1]), FakeRecipe(Behaviour(seconds=3600)), {}) as machine:
    stop = StopSignal()
    with machine.slot(stop) as slot:
        machine.run(TrialOrder(Command(("r",))), slot, stop, lambda: print("started", flush=True))
"""


def test_a_client_that_is_killed_leaves_nothing_running(pair: DaskCluster, tools: Tools) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT, pair.address], stdout=subprocess.PIPE
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"started\n"
        assert not pair.is_idle()
        client.send_signal(signal.SIGKILL)
    tools.until(pair.is_idle, "the workers notice that their client is gone")


def test_a_lost_worker_s_trials_are_run_again_and_counted_once(
    cluster: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    """Four of a dozen trials are lost by one event, which is no reason to give up."""
    doomed = cluster.worker(threads=4)
    cluster.worker(threads=1)
    crew = Crew(cluster.address)
    folder = tmp_path / "evidence"

    def kill_in_mid_trial() -> None:
        tools.until(lambda: folder.is_dir() and len(records(folder, "start")) >= 5, "starts")
        doomed.kill()

    killer = threading.Thread(target=kill_in_mid_trial)
    with machine_on(crew, FakeRecipe(Behaviour(seconds=2.0), at_once=4), {}) as machine:
        killer.start()
        verdict = tools.campaign(machine, FEW, folder)
    killer.join()
    crew.close()
    assert verdict.conclusion is Conclusion.SAFE
    assert verdict.intact == 11
    tickets = [record["ticket"] for record in records(folder, "trial")]
    assert len(tickets) == len(set(tickets)) == len(records(folder, "launch"))
    lost = [trial for trial in verdict.trials if trial.outcome is Outcome.LOST]
    assert len(lost) == verdict.lost >= 4 > 0.2 * 11
    assert all("was lost" in trial.detail and trial.started for trial in lost)


def test_a_campaign_goes_on_with_a_worker_that_comes_later(
    cluster: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    first = cluster.worker(threads=1)
    crew = Crew(cluster.address)
    folder = tmp_path / "evidence"

    def replace_the_worker() -> None:
        tools.until(lambda: folder.is_dir() and len(records(folder, "trial")) >= 2, "trials")
        first.kill()
        cluster.worker(threads=2)

    replacer = threading.Thread(target=replace_the_worker)
    with machine_on(crew, FakeRecipe(Behaviour(seconds=0.3), at_once=2), {}) as machine:
        replacer.start()
        verdict = tools.campaign(machine, FEW, folder)
    replacer.join()
    crew.close()
    assert verdict.conclusion is Conclusion.SAFE


def test_a_lost_scheduler_ends_the_campaign_and_leaves_its_evidence(
    cluster: DaskCluster, tools: Tools, tmp_path: Path
) -> None:
    import dask

    cluster.worker(threads=1)
    folder = tmp_path / "evidence"

    def kill_the_scheduler() -> None:
        tools.until(lambda: folder.is_dir() and len(records(folder, "trial")) >= 1, "a trial")
        cluster.processes[0].kill()

    killer = threading.Thread(target=kill_the_scheduler)
    with dask.config.set({"distributed.comm.timeouts.connect": "2s"}):
        crew = Crew(cluster.address)
        with machine_on(crew, FakeRecipe(Behaviour(seconds=1.0)), {}) as machine:
            killer.start()
            with pytest.raises(InfrastructureError, match=r"--repro-dask.*--repro-resume"):
                tools.campaign(machine, FEW, folder, jobs=1)
        killer.join()
        crew.close()
    assert records(folder, "trial")
