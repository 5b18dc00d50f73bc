"""Speed and accuracy of the console reader, beside tuxparse in a throw-away virtual environment.

    python benchmarks/console_reader.py                          # speeds and floods
    python benchmarks/console_reader.py --peer                   # the same for tuxparse, from PyPI
    python benchmarks/console_reader.py --cases a.jsonl --write predictions.jsonl

CPU time is measured, never wall time. A case file holds one JSON object a line: ``case``, ``log``
(or ``log_b64``), and where known ``exit_status``, ``ready_marker`` and ``qemu_rc``; predictions are
one object a line: ``case``, ``crashed``, ``title``, ``outcome``.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.crash import (
    CrashClass,
    Ending,
    Phase,
    Reading,
    Vanished,
    judge,
    primary,
    read_console,
)
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CORPUS = Path(__file__).parent.parent / "tests" / "crash" / "corpus"
PEER = "tuxparse==0.6.0"
LIMIT_S = 30  # of CPU time for one measurement of the peer
PEER_BYTES = 1 << 16  # and it gets no more than this of each console

# One request a line in, {"seconds", "names"} a line out; seconds are CPU seconds.
PEER_WORKER = """
import json, logging, resource, sys, time
logging.disable(logging.CRITICAL)
from tuxparse.boot_test_parser import BootTestParser
parser = BootTestParser()
for line in sys.stdin:
    text = json.loads(line)
    before = time.process_time()
    try:
        results = parser.parse_log(text, False) or {}
    except Exception as error:
        results = {"error": {str(error): {"result": "fail"}}}
    seconds = time.process_time() - before
    names = [n for part in results.values() for n, r in part.items() if r.get("result") == "fail"]
    print(json.dumps({"seconds": seconds, "names": names}), flush=True)
"""

FLOODS = (
    b"INFO: task x:1 blocked for more than 120 seconds.\n",
    b"[    1.000000] BUG: KASAN: use-after-free in f+0x1/0x2\n",
    b"WARNING: CPU: 0 PID: 1 at a.c:1 f+0x1/0x2\n",
    b"[    1.000000] WARNING: only text\n",
    b"Internal error: Oops\n",
    b"BUG: ",
)


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """The least CPU time of a few rounds."""
    best = float("inf")
    for _ in range(rounds):
        before = time.process_time()
        work()
        best = min(best, time.process_time() - before)
    return best


def corpus_logs(prefix: str = "") -> list[bytes]:
    """The project's own logs, without their header lines."""
    logs = []
    for path in sorted(CORPUS.glob(f"{prefix}*.log")):
        data = path.read_bytes()
        while data.startswith(b"# "):
            data = data.partition(b"\n")[2]
        logs.append(data)
    return logs


def clean_stream(size: int = 8 << 20) -> bytes:
    """One clean boot, then what a busy healthy kernel prints."""
    boot = corpus_logs("clean-debian")[0]
    lines = b"".join(
        b"[%5d.%06d] usb 1-1: new high-speed USB device number %d using xhci_hcd\n"
        % (n // 50 + 9, n % 1_000_000, n % 127)
        for n in range(20_000)
    )
    return boot + lines * (size // len(lines) + 1)


def speeds() -> Iterator[tuple[str, list[bytes], int]]:
    """Name, consoles, and how often to read them."""
    yield "clean stream", [clean_stream()], 3
    crashes = [log for log in corpus_logs() if read_console(log)]
    yield "crash logs (own corpus)", crashes, 5
    for line in FLOODS:
        name = line[:26].decode().strip()
        for size in (1 << 16, 1 << 20):
            yield f"flood of {name!r}, {size >> 10} KiB", [line * (size // len(line))], 3


def show(name: str, size: int, seconds: float) -> None:
    print(f"{name:58s} {size / 1e6:7.2f} MB {seconds:8.3f} s {size / 1e6 / seconds:8.1f} MB/s")


def main_speeds() -> None:
    for name, logs, rounds in speeds():
        seconds = cpu_seconds(lambda logs=logs: [read_console(log) for log in logs], rounds)  # type: ignore[misc]
        show(name, sum(map(len, logs)), seconds)


class Peer:
    """tuxparse in its own interpreter."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        subprocess.run([self.python, "-m", "pip", "install", "-q", PEER], check=True)
        self.start(limited=False)

    def start(self, *, limited: bool) -> None:
        self.process = subprocess.Popen(
            [self.python, "-c", PEER_WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=limit_cpu if limited else None,  # noqa: PLW1509 - no threads here
        )

    def read(self, log: bytes) -> dict[str, Any] | None:
        """What the peer says, or None where it ran out of its CPU time."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(log.decode("utf-8", "replace")).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if answer:
            result: dict[str, Any] = json.loads(answer)
            return result
        self.process.wait()
        return None

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def limit_cpu() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))


def peer_speeds(peer: Peer) -> None:
    for name, logs, _ in speeds():
        peer.close()
        peer.start(limited=True)
        shorter = [log[:PEER_BYTES] for log in logs]
        answers = []
        for log in shorter:
            answers.append(peer.read(log))
            if answers[-1] is None:
                break
        if None in answers:
            print(f"{name:58s} more than {LIMIT_S} s of CPU time for {PEER_BYTES >> 10} KiB")
            continue
        seconds = sum(answer["seconds"] for answer in answers if answer)
        show(f"{name} ({PEER_BYTES >> 10} KiB each)", sum(map(len, shorter)), seconds)


def cases(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        for line in path.read_text(encoding="utf-8").splitlines():
            case = json.loads(line)
            text = case.get("log") or ""
            raw = case.get("log_b64")
            case["bytes"] = (
                base64.b64decode(raw) if raw else text.encode("utf-8", "surrogateescape")
            )
            yield case


_STATUS = re.compile(rb"=== REPRO EXIT (\d+) ===")


def ending_of(case: dict[str, Any]) -> Ending | None:
    """The ending of a case that tells of one."""
    log: bytes = case["bytes"]
    if case.get("exit_status") is not None:
        return Ending(Phase.END, exit_code=case["exit_status"], output=log)
    if "ready_marker" not in case:
        return None
    ready = log.find(case["ready_marker"].encode())
    if ready < 0:
        return Ending(Phase.BOOT, console=log)
    exits = _STATUS.findall(log)
    if exits:
        return Ending(Phase.END, exit_code=int(exits[-1]), console=log, output=log[ready:])
    gone = Vanished.QEMU_EXITED if case.get("qemu_rc") == "0" else Vanished.NONE
    over = case.get("qemu_rc") == "124"
    return Ending(Phase.RUN, console=log, timed_out=over, vanished=gone)


def label(reading: Reading) -> str:
    """A reading in the words of the case files."""
    if reading.outcome in (Outcome.BOOT_FAILED, Outcome.INFRASTRUCTURE, Outcome.LOST):
        return "infra"
    if reading.outcome is not Outcome.CRASHED or reading.kind is None:
        return str(reading.outcome.value)
    if reading.kind is CrashClass.EXIT:
        return "repro_nonzero"
    if reading.kind is CrashClass.KILLED:
        return "repro_signal"
    return "crash" if reading.kind.kernel else "user_crash"


def predict(case: dict[str, Any]) -> dict[str, Any]:
    ending = ending_of(case)
    if ending is None:
        report = primary(read_console(case["bytes"]))
        return {"crashed": report is not None, "title": report.title if report else ""}
    reading = judge(ending)
    outcome = label(reading)
    crashed = outcome in ("crash", "user_crash")
    return {"crashed": crashed, "title": reading.title, "outcome": outcome}


def peer_predict(peer: Peer, case: dict[str, Any]) -> dict[str, Any]:
    answer = peer.read(case["bytes"]) or {"names": []}
    names = [re.sub(r"-[0-9a-f]{8,}$", "", name) for name in answer["names"]]
    return {"crashed": bool(names), "title": names[0] if names else ""}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peer", action="store_true", help=f"measure {PEER} instead")
    parser.add_argument(
        "--cases", nargs="+", type=Path, default=[], help="labelled logs to predict"
    )
    parser.add_argument("--write", type=Path, help="where the predictions go (default: stdout)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        peer = Peer(Path(scratch) / "venv") if options.peer else None
        if options.cases:
            lines = [
                json.dumps(
                    {"case": case["case"], **(peer_predict(peer, case) if peer else predict(case))}
                )
                for case in cases(options.cases)
            ]
            out = options.write.open("w") if options.write else sys.stdout
            print("\n".join(lines), file=out)
        elif peer:
            peer_speeds(peer)
        else:
            main_speeds()
        if peer:
            peer.close()


if __name__ == "__main__":
    main()
