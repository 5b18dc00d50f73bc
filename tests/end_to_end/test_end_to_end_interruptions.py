"""However a run ends: no QEMU is left, and every finished trial counts when it goes on."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Project, Run, Tools

QUESTION = ("--repro-min-rate=0.3", "--confidence=0.9")  # seven survivals are safe
NEEDED = 7


def parent_of(pid: int) -> int:
    text = Path(f"/proc/{pid}/stat").read_text()
    return int(text[text.rindex(")") + 2 :].split()[1])


def interrupted(
    project: Project, tools: Tools, run: Run, marker: str, kill: int, *, worker: bool = False
) -> int:
    """Ends ``run`` in the middle of a trial; how many trials had ended well by then."""
    found: list[int] = []

    def in_mid_trial() -> bool:
        found[:] = tools.qemus(marker)
        return bool(found) and len(project.records("trial")) >= 2

    run.until(in_mid_trial)
    os.kill(parent_of(found[0]) if worker else run.process.pid, kill)
    return len([r for r in project.records("trial") if r["outcome"] == "survived"])


def goes_on(
    project: Project, tools: Tools, marker: str, before: int, *arguments: str | Path
) -> None:
    """Resumes, and counts what was there."""
    assert before >= 2
    ended = [r for r in project.records("trial") if r["outcome"] == "survived"]
    assert len(ended) >= before
    status, text = project.pytest(*arguments, "--repro-resume")
    assert status == 0, text
    assert tools.verdicts(text) == ["SAFE"], text
    assert f"SAFE (0/{NEEDED}," in text
    after = [r for r in project.records("trial") if r["outcome"] == "survived"]
    assert len(after) == NEEDED
    assert tools.left_over(marker) == []


@pytest.mark.parametrize(
    ("kill", "workers"),
    [
        pytest.param(signal.SIGKILL, 0, id="sigkill"),
        pytest.param(signal.SIGKILL, 2, id="sigkill-of-a-worker"),
        pytest.param(signal.SIGINT, 0, id="ctrl-c"),
        pytest.param(signal.SIGINT, 2, id="ctrl-c-with-workers"),
        pytest.param(signal.SIGTERM, 0, id="sigterm"),
    ],
)
def test_an_interrupted_run_leaves_no_qemu_and_loses_no_trial(
    project: Project, tools: Tools, bare_kernel: Path, kill: signal.Signals, workers: int
) -> None:
    marker = f"marker={project.folder.name}"
    project.write(ok_c=tools.never, test_ok_py="def test_ok(repro, kernel): repro.check('ok.c')")
    arguments = (*QUESTION, "--kernel", bare_kernel, f"--repro-append={marker}", "test_ok.py")
    spread = ("-n", str(workers), "--max-worker-restart=0") if workers else ()
    run = project.start(*arguments, *spread)
    killed_worker = bool(workers) and kill is signal.SIGKILL
    before = interrupted(project, tools, run, marker, kill, worker=killed_worker)
    text = run.wait()
    assert run.process.returncode != 0, text
    assert not re.search(r"\bSAFE \(", text), text
    assert tools.left_over(marker) == []
    goes_on(project, tools, marker, before, *arguments)


def test_the_first_failure_stops_a_long_campaign_on_another_worker(
    project: Project, tools: Tools, bare_kernel: Path
) -> None:
    """-x: xdist waits for running tests, so the campaign has to be told."""
    marker = f"marker={project.folder.name}"
    project.write(
        sleeper_c=tools.sleeper,
        test_x_py=f"""
            import os, time
            from pathlib import Path
            def test_long(repro, kernel):
                repro.check("sleeper.c")
            def test_that_fails(request):
                while not list(Path(request.config.rootpath).glob(".repro/*/trials-*.jsonl")):
                    time.sleep(0.1)
                assert False, "{marker}"
        """,
    )
    run = project.start(
        "--kernel", bare_kernel, f"--repro-append={marker}", "--repro-trial-time=1000", "-n", "2",
        "-x", f"--rootdir={project.folder}", "test_x.py",
    )  # fmt: skip
    text = run.wait()
    assert run.process.returncode != 0
    assert "stopping after 1 failures" in text
    assert not re.search(r"\bSAFE \(", text)
    assert tools.left_over(marker) == []


def test_a_timeout_leaves_an_inconclusive_verdict_with_its_evidence(
    project: Project, tools: Tools, bare_kernel: Path
) -> None:
    project.write(sleeper_c=tools.sleeper, test_t_py="def test_t(repro): repro.check('sleeper.c')")
    status, text = project.pytest(
        "--kernel", bare_kernel, "--timeout=8", "--repro-trial-time=1000", "test_t.py"
    )
    assert status == 1, text
    assert tools.verdicts(text) == ["INCONCLUSIVE"]
    assert "the test's timeout is near" in text
    assert "Timeout" not in text
    assert len(project.records("plan")) == 1
    assert project.records("launch")
