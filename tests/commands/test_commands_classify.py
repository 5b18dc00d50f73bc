"""``flaky-repro classify``: as grep does, 0 when there is nothing, 1 when there is a crash."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Start = Callable[..., "subprocess.Popen[bytes]"]
TITLE = "KASAN: slab-use-after-free Write in drop_ref"
CRASH = b"""\
[    1.204112] demo: loaded
[    2.310552] ==================================================================
[    2.310570] BUG: KASAN: slab-use-after-free in drop_ref+0x1c/0x40
[    2.310581] Write of size 4 at addr ffff888004a1b2c0 by task demo/71
[    2.310590]
[    2.310601] CPU: 0 PID: 71 Comm: demo Not tainted 6.1.0 #1
[    2.310612] Call Trace:
[    2.310620]  <TASK>
[    2.310631]  dump_stack_lvl+0x34/0x48
[    2.310642]  kasan_report+0xb1/0x130
[    2.310653]  drop_ref+0x1c/0x40
[    2.310664]  demo_ioctl+0x5a/0x90
[    2.310675]  </TASK>
[    2.310686] ==================================================================
"""
HEALTHY = b"[    1.204112] demo: loaded\n[    1.300000] demo: done\n"
KEYS = {"case", "crashed", "title", "alternates", "kind", "corrupted", "reports"}


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    (tmp_path / "bad.log").write_bytes(CRASH)
    (tmp_path / "good.log").write_bytes(HEALTHY)
    return tmp_path


def lines_of(folder: Path, *cases: dict[str, Any]) -> Path:
    path = folder / "cases.jsonl"
    path.write_text("".join(json.dumps(case) + "\n" for case in cases))
    return path


def test_a_crash_is_named_and_found(command: Callable[..., Any], logs: Path) -> None:
    ran = command("classify", logs / "bad.log")
    assert (ran.status, ran.out) == (1, f"{logs}/bad.log: {TITLE}\n")


def test_a_healthy_log_is_nothing_found(command: Callable[..., Any], logs: Path) -> None:
    ran = command("classify", logs / "good.log")
    assert (ran.status, ran.out) == (0, f"{logs}/good.log: no crash\n")
    assert "does not show a reproducer's exit status, nor the signal it died of" in ran.err
    assert command("classify", "--json", logs / "good.log").err == ""
    assert command("classify", logs / "bad.log").err == ""


def test_one_crash_among_many_logs_is_found(command: Callable[..., Any], logs: Path) -> None:
    ran = command("classify", logs / "good.log", logs / "bad.log", logs / "good.log")
    assert ran.status == 1
    assert [line.rpartition(": ")[2] == "no crash" for line in ran.out.splitlines()] == [
        True,
        False,
        True,
    ]


def test_json_is_an_object_a_log(command: Callable[..., Any], logs: Path) -> None:
    ran = command("classify", "--json", logs / "bad.log", logs / "good.log")
    bad, good = map(json.loads, ran.out.splitlines())
    assert bad.keys() >= KEYS
    assert good.keys() >= KEYS
    assert (bad["crashed"], bad["title"], bad["kind"]) == (True, TITLE, "kasan")
    assert (good["crashed"], good["title"], good["reports"]) == (False, "", [])


def test_a_report_is_where_json_says(command: Callable[..., Any], logs: Path) -> None:
    (report,) = json.loads(command("classify", "--json", logs / "bad.log").out)["reports"]
    text = CRASH[report["start"] : report["end"]]
    assert b"BUG: KASAN" in text
    assert b"demo: loaded" not in text


@pytest.mark.parametrize("words", [(), ("-",)])
def test_standard_input_is_a_log(start: Start, words: tuple[str, ...]) -> None:
    process = start("classify", *words, stdin=subprocess.PIPE)
    out, err = process.communicate(CRASH, timeout=60)
    assert (process.returncode, out.decode(), err) == (1, f"-: {TITLE}\n", b"")


def test_lines_hold_logs_as_text_or_in_base64(command: Callable[..., Any], tmp_path: Path) -> None:
    packed = base64.encodebytes(CRASH).decode()  # with line breaks, as base64(1) writes it
    cases = lines_of(
        tmp_path, {"case": "a", "log": HEALTHY.decode()}, {"case": 7, "log_b64": packed}
    )
    ran = command("classify", "--jsonl", cases)
    first, second = map(json.loads, ran.out.splitlines())
    assert ran.status == 1
    assert (first["case"], first["crashed"]) == ("a", False)
    assert (second["case"], second["title"]) == (7, TITLE)


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(0, "survived"), (3, "repro_nonzero"), (-9, "repro_signal"), (-11, "user_crash")],
)
def test_a_case_may_know_how_its_program_ended(
    command: Callable[..., Any], tmp_path: Path, status: int, outcome: str
) -> None:
    cases = lines_of(tmp_path, {"log": "hello\n", "exit_status": status})
    assert json.loads(command("classify", "--jsonl", cases).out)["outcome"] == outcome


def test_death_by_a_fault_is_a_crash(command: Callable[..., Any], tmp_path: Path) -> None:
    ran = command("classify", "--jsonl", lines_of(tmp_path, {"log": "", "exit_status": -11}))
    assert json.loads(ran.out)["title"] == "SIGSEGV in reproducer"
    assert ran.status == 1


@pytest.mark.parametrize("name", ["ready_marker", "exit_marker"])
def test_a_marker_is_text(command: Callable[..., Any], tmp_path: Path, name: str) -> None:
    case = {"log": "READY", "ready_marker": "READY", name: 5}
    ran = command("classify", "--jsonl", lines_of(tmp_path, case))
    assert ran.status == 2
    assert f"cases.jsonl:1: expected {name} to be text, saw 5" in ran.err


def test_blank_lines_are_no_cases(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "cases").write_text('\n{"log": "x"}\n\n')
    assert len(command("classify", "--jsonl", tmp_path / "cases").out.splitlines()) == 1


def test_classes_choose_what_counts(command: Callable[..., Any], logs: Path) -> None:
    assert command("classify", "--crash-classes", "panic", logs / "bad.log").status == 0
    assert command("classify", "--crash-classes", "panic,kasan", logs / "bad.log").status == 1
    assert command("classify", "--crash-classes=-kasan", logs / "bad.log").status == 0


def test_an_unknown_class_is_bad_input(command: Callable[..., Any], logs: Path) -> None:
    ran = command("classify", "--crash-classes", "kazan", logs / "bad.log")
    assert ran.status == 2
    assert "--crash-classes: " in ran.err
    assert "'kazan'" in ran.err
    assert "kasan" in ran.err


@pytest.mark.parametrize("name", ["nowhere.log", "."])
def test_a_log_that_cannot_be_read_is_bad_input(command: Callable[..., Any], name: str) -> None:
    ran = command("classify", name)
    assert ran.status == 2
    assert f"flaky-repro classify: {name}: cannot be read: " in ran.err


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        "[1]",
        "{}",
        '{"log": 5}',
        '{"log": "\\ud800"}',
        '{"log_b64": 5}',
        '{"log_b64": "?"}',
        '{"log_b64": "abc"}',
    ],
)
def test_a_line_without_a_log_is_named(
    command: Callable[..., Any], tmp_path: Path, line: str
) -> None:
    (tmp_path / "cases").write_text('{"log": "x"}\n' + line + "\n")
    ran = command("classify", "--jsonl", "cases")
    assert ran.status == 2
    assert "cases:2: expected an object with log (text) or log_b64" in ran.err


@pytest.mark.parametrize("status", ["1", 1.5, True, [1]])
def test_an_exit_status_is_a_whole_number(
    command: Callable[..., Any], tmp_path: Path, status: object
) -> None:
    ran = command("classify", "--jsonl", lines_of(tmp_path, {"log": "x", "exit_status": status}))
    assert ran.status == 2
    assert "cases.jsonl:1: expected exit_status to be a whole number" in ran.err


def test_no_name_moves_the_cursor(command: Callable[..., Any], tmp_path: Path) -> None:
    for name in (b"\x1b[2J.log", b"\xff.log"):
        (tmp_path / name.decode("utf-8", "surrogateescape")).write_bytes(HEALTHY)
    ran = command("classify", *sorted(path.name for path in tmp_path.glob("*.log")))
    assert ran.out == "\\x1b[2J.log: no crash\n\\xdcff.log: no crash\n"


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (Path("/bin/true").read_bytes(), "an ELF file"),
        (gzip.compress(b"a log"), "a gzip file"),
    ],
    ids=["a program", "a packed log"],
)
def test_what_is_no_log_is_bad_input(
    command: Callable[..., Any], tmp_path: Path, content: bytes, seen: str
) -> None:
    (tmp_path / "file").write_bytes(content)
    ran = command("classify", "file")
    assert (ran.status, ran.out) == (2, "")
    assert f"file is no console log, it is {seen}" in ran.err
