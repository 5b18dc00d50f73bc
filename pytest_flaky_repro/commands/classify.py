"""``flaky-repro classify``: console logs in, crash titles out."""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_flaky_repro import crash
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.report.sentences import printable

CRASHED = 1  # exit status, as grep's: found


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("logs", nargs="*", default=["-"], metavar="LOG", help="files; - is stdin (default)")
    argument(
        "--jsonl", action="store_true", help="each input line is an object with log or log_b64"
    )
    argument("--json", action="store_true", help="one JSON object a log")
    argument("--crash-classes", default="", metavar="LIST", help="only these, or +NAME, -NAME")


def run(options: argparse.Namespace) -> int:
    classes = None
    if options.crash_classes:
        classes = crash.parse_classes(options.crash_classes, "--crash-classes")
    found = False
    for name in options.logs:
        data = _read(name)
        cases = _cases(data, name) if options.jsonl else iter([({"case": name}, data)])
        for case, log in cases:
            answer = classify(case, log, classes)
            found = found or answer["crashed"]
            print(json.dumps(answer) if options.json or options.jsonl else _line(answer))
    return CRASHED if found else 0


def classify(
    case: Mapping[str, Any], log: bytes, classes: frozenset[crash.CrashClass] | None
) -> dict[str, Any]:
    """What a log shows; ``exit_status`` of the case, where it has one, is taken into account."""
    status = case.get("exit_status")
    ending = crash.Ending(
        phase=crash.Phase.END if status is not None else crash.Phase.RUN,
        exit_code=status if status is not None and status >= 0 else None,
        signal=-status if status is not None and status < 0 else None,
        timed_out=status is None,
        console=log,
    )
    reading = crash.judge(ending, classes)
    return {
        "case": case.get("case"),
        "crashed": reading.outcome is Outcome.CRASHED,
        "title": reading.title if reading.outcome is Outcome.CRASHED else "",
        "alternates": sorted(reading.alternates),
        "kind": reading.kind.value if reading.kind is not None else None,
        "corrupted": any(report.corrupted for report in reading.reports),
        "reports": [
            {"title": r.title, "kind": r.kind.value, "start": r.start, "end": r.end}
            for r in reading.reports
        ],
    }


def _line(answer: Mapping[str, Any]) -> str:
    return f"{answer['case']}: {printable(answer['title']) if answer['crashed'] else 'no crash'}"


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
            log = text.encode() if text is not None else base64.b64decode(case["log_b64"])
        except (ValueError, KeyError, AttributeError, binascii.Error) as error:
            raise UsageError(
                f"{name}:{number}: expected an object with log (text) or log_b64: {error!r}"
            ) from error
        yield case, log
