"""Evidence on disk: what is damaged is noticed, what does not belong together is not added up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, Trial, folder_name, load_history
from pytest_flaky_repro.journal import EvidenceWarning, read_records
from pytest_flaky_repro.outcomes import Outcome

PLAN = PlanRecord("e", {"smp": 1, "min_rate": 0.05}, "test_x", "k")
few = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def trial(ticket: int, outcome: Outcome = Outcome.SURVIVED) -> Trial:
    return Trial(
        experiment="e",
        ticket=ticket,
        seed=f"{ticket:016x}",
        host="h",
        accel="tcg",
        boot="b",
        started="2024-01-01T00:00:00.000+00:00",
        boot_s=0.5,
        exposure_s=0.1,
        outcome=outcome,
        title="KASAN: use-after-free in foo" if outcome is Outcome.CRASHED else "",
        alternates=("a", "b"),
    )


LOG = [trial(0), trial(1, Outcome.CRASHED), trial(2), trial(3, Outcome.HUNG)]


def write(folder: Path, trials: list[Trial], plan: PlanRecord = PLAN) -> Path:
    writer = EvidenceWriter(folder, plan)
    for one in trials:
        writer.launch(one.ticket, one.seed, one.arm)
        writer.start(one.ticket, str(one.started))
        writer.trial(one)
    writer.close()
    return writer.path


def numbered(tmp_path: Path) -> Path:
    """A new folder for each example of a property."""
    return tmp_path / str(sum(1 for _ in tmp_path.iterdir()))


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    path = write(tmp_path, LOG)
    history = load_history(tmp_path, PLAN)
    assert history.trials == tuple(LOG)
    assert history.files == (path.name,)
    assert history.next_ticket == 4


def test_the_plan_is_the_first_line_and_carries_its_hash(tmp_path: Path) -> None:
    record = next(read_records(write(tmp_path, LOG)))
    assert (record["type"], record["schema"], record["hash"]) == ("plan", 1, PLAN.digest)
    assert record["parameters"] == PLAN.parameters


def test_no_evidence_is_an_empty_history(tmp_path: Path) -> None:
    assert load_history(tmp_path / "none", PLAN).trials == ()


def test_a_run_of_another_plan_in_between_does_not_hide_this_plan_s_trials(tmp_path: Path) -> None:
    older = write(tmp_path, LOG)
    write(tmp_path, [trial(0)], replace(PLAN, parameters={"smp": 2}))
    history = load_history(tmp_path, PLAN)
    assert history.files == (older.name,)
    assert history.trials == tuple(LOG)


# ---- damage


def test_damaged_lines_of_a_file_are_told_of_once(tmp_path: Path) -> None:
    path = write(tmp_path, LOG)
    path.write_bytes(path.read_bytes() + b"torn\n" * 1000)
    with pytest.warns(EvidenceWarning) as told:
        list(read_records(path))
    (said,) = [str(warning.message) for warning in told]
    assert said.endswith(": not a whole record, left out, and 999 more of its lines")


def test_a_torn_last_line_is_left_out_with_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path, LOG)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(EvidenceWarning, match=rf"{path.name}:13: not a whole record"):
        history = load_history(tmp_path, PLAN)
    assert history.trials[:3] == tuple(LOG[:3])
    assert history.trials[3].outcome is Outcome.LOST


@few
@given(st.data())
def test_a_flipped_bit_never_changes_a_trial_unnoticed(tmp_path: Path, data: st.DataObject) -> None:
    folder = numbered(tmp_path)
    path = write(folder, LOG)
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, 10**6), label="byte") % len(content)
    content[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    path.write_bytes(bytes(content))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            history = load_history(folder, PLAN)
        except UsageError:
            return
    if history.trials != tuple(LOG):
        assert any(warning.category is EvidenceWarning for warning in told)
        for before in LOG:
            found = [one for one in history.trials if one.ticket == before.ticket]
            assert all(one == before or one.outcome is Outcome.LOST for one in found)


def test_a_damaged_plan_does_not_hide_the_trials_behind_it(tmp_path: Path) -> None:
    """Older evidence must not be taken for the newest one."""
    write(tmp_path, [trial(0)])
    newest = write(tmp_path, LOG)
    newest.write_bytes(newest.read_bytes()[1:])
    with (
        pytest.warns(EvidenceWarning),
        pytest.raises(UsageError, match=rf"{newest.name}.*its plan"),
    ):
        load_history(tmp_path, PLAN)


def test_a_run_that_died_before_its_plan_was_whole_is_passed_over(tmp_path: Path) -> None:
    older = write(tmp_path, LOG)
    newest = write(tmp_path, [])
    newest.write_bytes(newest.read_bytes()[:30])
    with pytest.warns(EvidenceWarning):
        assert load_history(tmp_path, PLAN).files == (older.name,)


@pytest.mark.parametrize("number", range(1, 13))
def test_a_line_that_is_there_twice_counts_once(tmp_path: Path, number: int) -> None:
    path = write(tmp_path, LOG)
    lines = path.read_bytes().splitlines(keepends=True)
    for copy in ([*lines[: number + 1], *lines[number:]], [*lines, lines[number]]):
        path.write_bytes(b"".join(copy))
        assert load_history(tmp_path, PLAN).trials == tuple(LOG)


def test_a_launch_without_a_trial_is_lost_or_void(tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path, PLAN)
    writer.launch(0, "s0", "test")
    writer.launch(1, "s1", "test")
    writer.start(0, "2024-01-01T00:00:00.000+00:00")
    writer.close()
    outcomes = [one.outcome for one in load_history(tmp_path, PLAN).trials]
    assert outcomes == [Outcome.LOST, Outcome.INFRASTRUCTURE]


def test_evidence_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trials-1.jsonl").write_text(json.dumps({"schema": 2, "type": "plan"}) + "\n")
    with pytest.raises(UsageError, match="evidence of schema 2, this version reads 1"):
        load_history(tmp_path, PLAN)


# ---- what does not belong together


def test_another_plan_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    path = write(tmp_path, LOG)
    other = replace(PLAN, parameters={"smp": 2, "min_rate": 0.05})
    with pytest.raises(UsageError, match=rf"{path.name}.*What differs: smp: was 1, is 2"):
        load_history(tmp_path, other)


def test_another_experiment_is_refused(tmp_path: Path) -> None:
    write(tmp_path, LOG)
    with pytest.raises(UsageError, match="the experiment"):
        load_history(tmp_path, replace(PLAN, experiment="f"))


def test_a_file_that_is_still_written_is_refused(tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path, PLAN)
    with pytest.raises(UsageError, match="still being written by another run"):
        load_history(tmp_path, PLAN)
    writer.close()
    assert load_history(tmp_path, PLAN).trials == ()


def test_a_chain_that_lost_a_file_is_refused(tmp_path: Path) -> None:
    first = write(tmp_path, [trial(0)])
    write(tmp_path, [trial(1)], replace(PLAN, continues=(first.name,)))
    first.unlink()
    with pytest.raises(UsageError, match=rf"{first.name} cannot be read"):
        load_history(tmp_path, PLAN)


def test_a_chain_is_read_in_order(tmp_path: Path) -> None:
    first = write(tmp_path, LOG[:2])
    write(tmp_path, LOG[2:], replace(PLAN, continues=(first.name,)))
    assert load_history(tmp_path, PLAN).trials == tuple(LOG)


# ---- writing


def test_threads_may_write_at_once(tmp_path: Path) -> None:
    writer = EvidenceWriter(tmp_path, PLAN)

    def work(first: int) -> None:
        for ticket in range(first, first + 25):
            writer.launch(ticket, "s", "test")
            writer.trial(trial(ticket))

    threads = [threading.Thread(target=work, args=(25 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    assert [one.ticket for one in load_history(tmp_path, PLAN).trials] == list(range(100))


def test_a_guests_bytes_reach_no_file_name(tmp_path: Path) -> None:
    name = folder_name("test_x.py::test[../../etc\x1b[31m \u202e]")
    assert Path(name).name == name
    assert name.isascii()
    assert name.isprintable()
    assert folder_name("a/b") != folder_name("a-b")
    deep = "/".join(["subsystem"] * 20) + "/test_driver.py::test_release[v6.1]"
    cut = r"(subsystem-)+test_driver\.py-test_release-v6\.1-[0-9a-f]{10}$"
    assert re.match(cut, folder_name(deep))
    writer = EvidenceWriter(tmp_path, PLAN)
    kept = writer.keep_console(3, b"\x00\xff\x1b[2J")
    writer.close()
    assert (tmp_path / kept).read_bytes() == b"\x00\xff\x1b[2J"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InfrastructureError, match=r"cannot be written to .*file/x.*--repro-evidence"
    ):
        EvidenceWriter(tmp_path / "file" / "x", PLAN)


FILL = """
import sys
from pathlib import Path
sys.path[:0] = {path!r}
import resource
if {limit}:
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord
writer = EvidenceWriter(Path({folder!r}), PlanRecord("e", {{}}, "test_x", "k"))
try:
    for ticket in range(100_000):
        writer.launch(ticket, "s", "test")
except InfrastructureError as error:
    print(ticket, error)
"""


@pytest.mark.parametrize("cause", ["disk", "limit"])
def test_a_full_disk_is_an_error_and_what_was_written_stays(tmp_path: Path, cause: str) -> None:
    """A tmpfs of 16 KiB, in a mount namespace of its own; and a limit on the file's size."""
    folder = tmp_path / "evidence"
    folder.mkdir()
    limit = 16384 if cause == "limit" else 0
    program = FILL.format(path=[p for p in sys.path if p], limit=limit, folder=str(folder))
    command = [sys.executable, "-c", program]
    copy = tmp_path / "copy"
    if cause == "disk":
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        script = 'mount -t tmpfs -o size=16k none "$1" && "${@:3}" && cp -r "$1" "$2"'
        command = [
            "unshare", "--mount", *user, "bash", "-c", script, "-", str(folder), str(copy), *command
        ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "evidence cannot be written to" in done.stdout
    assert "--repro-resume" in done.stdout
    tickets = int(done.stdout.split()[0])
    assert tickets > 10
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EvidenceWarning)
        history = load_history(
            copy if cause == "disk" else folder, PlanRecord("e", {}, "test_x", "k")
        )
    assert len(history.trials) == tickets
