"""``flaky-repro classify``: console logs in, crash titles out."""

from __future__ import annotations

import argparse
import base64
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_flaky_repro import crash
from pytest_flaky_repro.commands.following import follow
from pytest_flaky_repro.commands.symbols import Symbols
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.file_kinds import name_kind
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.report.sentences import printable

HINT = (
    "a console does not show a reproducer's exit status, nor the signal it died of: a trial that "
    "crashed by those is told in its evidence"
)
TIMED_OUT = "124"  # as timeout(1) says it
CRASHED = 1  # exit status, as grep's: found


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("logs", nargs="*", default=["-"], metavar="LOG", help="files; - is stdin (default)")
    argument(
        "--jsonl", action="store_true", help="each input line is an object with log or log_b64"
    )
    argument("--json", action="store_true", help="one JSON object a log")
    argument("--crash-classes", default="", metavar="LIST", help="only these, or +NAME, -NAME")
    argument(
        "--follow",
        action="store_true",
        help="say each crash of a growing LOG when it is whole",
    )
    argument("--vmlinux", type=Path, metavar="PATH", help="say where in the source the frames are")


def run(options: argparse.Namespace) -> int:
    classes = None
    if options.crash_classes:
        classes = crash.parse_classes(options.crash_classes, "--crash-classes")
    symbols = Symbols(options.vmlinux) if options.vmlinux is not None else None
    found = False
    for case, log in _logs(options, classes):
        answer = classify(case, log, classes)
        if symbols is not None:
            answer["places"] = _places(symbols, log, answer["reports"])
        found = found or answer["crashed"]
        if options.follow and not answer["crashed"]:
            continue
        text = json.dumps(answer) if options.json or options.jsonl else _text(answer)
        print(text, flush=options.follow)
    if not (found or options.follow or options.json or options.jsonl):
        print(f"flaky-repro classify: {HINT}", file=sys.stderr)
    return CRASHED if found else 0


def _logs(
    options: argparse.Namespace, classes: frozenset[crash.CrashClass] | None
) -> Iterator[tuple[Mapping[str, Any], bytes]]:
    if options.follow:
        if len(options.logs) > 1 or options.jsonl:
            raise UsageError("--follow reads one growing log of text: name one, without --jsonl")
        name = options.logs[0]
        yield from (({"case": name}, piece) for piece in follow(name, classes))
        return
    for name in options.logs:
        data = _read(name)
        _refuse_other_kinds(name, data)
        yield from _cases(data, name) if options.jsonl else [({"case": name}, data)]


def _refuse_other_kinds(name: str, data: bytes) -> None:
    """A program or an archive shows no crash, and "no crash" would be a wrong answer to it."""
    kind = name_kind(data)
    if kind is not None:
        raise UsageError(
            f"{name} is no console log, it is {kind[0]}. Give the text that a guest printed"
        )


def _places(
    symbols: Symbols, log: bytes, reports: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The frames of all reports; of the whole log where there is none."""
    text = b"\n".join(log[r["start"] : r["end"]] for r in reports) or log
    return [{"frame": p.frame, "places": list(p.places)} for p in symbols.places(text)]


def classify(
    case: Mapping[str, Any], log: bytes, classes: frozenset[crash.CrashClass] | None
) -> dict[str, Any]:
    """What a log shows, and what the trial came to where the case tells how it ended.

    ``exit_status``: the log is the output of a program that ended so (negative: by that signal).
    ``ready_marker``: the log is a whole boot; the trial begins at that text. ``exit_marker``: a
    text in which ``n`` stands for the exit status. ``qemu_rc``: how QEMU ended (0: the guest
    reset; 124: it was stopped when its time was over). Without these a log is just read.
    """
    if "exit_status" in case or "ready_marker" in case:
        reading = crash.judge(_ending(case, log), classes)
        outcome = _outcome(reading)
        crashed = outcome in ("crash", "user_crash")
        return _answer(
            case, crashed=crashed, title=reading.title, reports=reading.reports, outcome=outcome
        )
    reports = crash.read_console(log, classes=classes)
    first = crash.primary(reports) if reports else None
    if first is None:
        return _answer(case, crashed=False, title="", reports=(), outcome=None)
    whose = "crash" if first.kind.kernel else "user_crash"
    return _answer(case, crashed=True, title=first.title, reports=reports, outcome=whose)


def _answer(
    case: Mapping[str, Any],
    *,
    crashed: bool,
    title: str,
    reports: tuple[crash.Report, ...],
    outcome: str | None,
) -> dict[str, Any]:
    first = crash.primary(reports) if reports else None
    return {
        "case": case.get("case"),
        "crashed": crashed,
        "title": title if crashed else "",
        "outcome": outcome,
        "alternates": sorted(first.alternates) if first is not None else [],
        "kind": first.kind.value if first is not None else None,
        "corrupted": any(report.corrupted for report in reports),
        "reports": [
            {"title": r.title, "kind": r.kind.value, "start": r.start, "end": r.end}
            for r in reports
        ],
    }


def _ending(case: Mapping[str, Any], log: bytes) -> crash.Ending:
    status = case.get("exit_status")
    ready = case.get("ready_marker")
    if ready is None:
        return crash.Ending(
            phase=crash.Phase.END,
            exit_code=status if status is not None and status >= 0 else None,
            signal=-status if status is not None and status < 0 else None,
            output=log,
        )
    began = log.find(ready.encode())
    if began < 0:
        return crash.Ending(phase=crash.Phase.BOOT, console=log)
    ends = _exit_statuses(case.get("exit_marker"), log)
    if ends:
        number, stop = ends[-1]
        output = log[began:stop]
        return crash.Ending(crash.Phase.END, exit_code=number, console=log, output=output)
    was_reset = str(case.get("qemu_rc")) == "0"
    return crash.Ending(
        crash.Phase.RUN,
        console=log,
        timed_out=str(case.get("qemu_rc")) == TIMED_OUT,
        vanished=crash.Vanished.QEMU_EXITED if was_reset else crash.Vanished.NONE,
    )


def _exit_statuses(marker: str | None, log: bytes) -> list[tuple[int, int]]:
    """Each exit status in the log and where its text ends; the last ``n`` is the number."""
    if not marker or "n" not in marker:
        return []
    before, _, after = marker.rpartition("n")
    pattern = re.escape(before.encode()) + rb"(\d{1,3})" + re.escape(after.encode())
    return [(int(match[1]), match.end()) for match in re.finditer(pattern, log)]


def _outcome(reading: crash.Reading) -> str:
    """In the words of a labelled corpus: whose crash it was, or why there is none."""
    if reading.outcome is Outcome.CRASHED and reading.kind is not None:
        if reading.kind is crash.CrashClass.EXIT:
            return "repro_nonzero"
        if reading.kind is crash.CrashClass.KILLED:
            return "repro_signal"
        return "crash" if reading.kind.kernel else "user_crash"
    return {Outcome.SURVIVED: "survived", Outcome.HUNG: "hung"}.get(reading.outcome, "infra")


def _text(answer: Mapping[str, Any]) -> str:
    lines = [_line(answer)]
    for frame in answer.get("places", ()):
        inner, *outer = frame["places"] or ["?"]
        lines.append(f"    {frame['frame']}: {inner}")
        lines += [f"        inlined into {place}" for place in outer]
    return "\n".join(printable(line) for line in lines)


def _line(answer: Mapping[str, Any]) -> str:
    case = printable(str(answer["case"]))
    return f"{case}: {printable(answer['title']) if answer['crashed'] else 'no crash'}"


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: cannot be read: {error.strerror}") from error


def _cases(data: bytes, name: str) -> Iterator[tuple[dict[str, Any], bytes]]:
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            case = json.loads(line)
            text = case.get("log")
            log = text.encode() if text is not None else _from_base64(case["log_b64"])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise UsageError(
                f"{name}:{number}: expected an object with log (text) or log_b64: {error!r}"
            ) from error
        status = case.get("exit_status")
        if status is not None and type(status) is not int:
            raise UsageError(
                f"{name}:{number}: expected exit_status to be a whole number "
                f"(-9 for signal 9) or null, saw {status!r}"
            )
        for marker in ("ready_marker", "exit_marker"):
            if not isinstance(case.get(marker, ""), str):
                raise UsageError(
                    f"{name}:{number}: expected {marker} to be text, saw {case[marker]!r}"
                )
        yield case, log


def _from_base64(text: str) -> bytes:
    return base64.b64decode("".join(text.split()), validate=True)
