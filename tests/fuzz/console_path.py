"""The console's path, under fire: whatever bytes a guest sends are read, or refused.

    python tests/fuzz/console_path.py -max_total_time=120            coverage-guided (atheris)
    python tests/fuzz/console_path.py CORPUS -max_total_time=36000   a night's worth, kept in CORPUS

The first byte of an input says how it is cut into chunks, the next how the trial ended; the rest
is what arrives on the console, on the frames' port and over QMP. What is checked: no exception but
those that a trial expects, the same answer however the bytes were cut, no survival of a bad end,
memory within its bounds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pytest_flaky_repro.crash import Collector, Ending, Phase, Vanished, judge
from pytest_flaky_repro.guest.protocol import Frame, Kind, Scanner, unpack
from pytest_flaky_repro.machine.console import ConsoleLog, TrialConsole
from pytest_flaky_repro.machine.conversation import Gone, GuestGone
from pytest_flaky_repro.machine.diagnosis import boot_failure
from pytest_flaky_repro.machine.guest import _number, _read_end
from pytest_flaky_repro.machine.qmp import QmpReader
from pytest_flaky_repro.machine.stall import describe_cpus, read_cpus
from pytest_flaky_repro.outcomes import Outcome

MARK, RUN_END = b"flaky-repro: run 00ff", b"flaky-repro: end 00ff"
SAMPLES = Path(__file__).parents[1] / "crash"


def chunks(data: bytes, width: int) -> Iterator[bytes]:
    """``data`` in pieces of ``width`` bytes; in one piece for 0."""
    step = width or max(1, len(data))
    for at in range(0, len(data), step):
        yield data[at : at + step]


def found_frames(data: bytes, width: int) -> list[object]:
    scanner = Scanner()
    return [found for chunk in chunks(data, width) for found in scanner.feed(chunk)]


def reports_of(data: bytes, width: int) -> list[str]:
    collector = Collector()
    for number, chunk in enumerate(chunks(data, width)):
        collector.feed(chunk, float(number))
        end = collector.end_at()
        assert end is None or end >= 0.0
    return [report.title for report in collector.finish()]


def read_frames(data: bytes) -> None:
    """What a run makes of intact frames: numbers, output, an end."""
    output: dict[int, bytes] = {}
    for found in found_frames(data, 0):
        if not isinstance(found, Frame):
            continue
        for key in ("cpus", "memory"):
            assert isinstance(_number(found, key), int)
        if found.kind is Kind.OUT:
            output[_number(found, "at")] = unpack(found.fields.get("data", ""))
        elif found.kind is Kind.END:
            check_end(found, output)


def check_end(frame: Frame, output: dict[int, bytes]) -> None:
    refused = None
    try:
        end = _read_end(frame, output)
    except GuestGone as gone:
        refused = gone.reason
    else:
        assert end.code >= 0
        assert end.seconds >= 0.0
    assert refused in (None, Gone.UNTRUSTED)


def read_console(data: bytes, width: int) -> None:
    log, trial = ConsoleLog(keep=4096), TrialConsole(MARK, Collector(), RUN_END)
    for chunk in chunks(data, width):
        log.append(chunk)
        trial.feed(chunk)
    assert log.total == len(data)
    assert len(log.content()) <= 2 * 4096 + 100
    assert (trial.content() is None) == (MARK not in data)
    assert trial.ended == (RUN_END in data.partition(MARK)[2])


def read_qmp(data: bytes, width: int) -> None:
    reader = QmpReader()
    for chunk in chunks(data, width):
        reader.feed(chunk)
    describe_cpus(reader.registers or data.decode("utf-8", "replace"))
    read_cpus(data.decode("utf-8", "replace"))


def judge_ending(data: bytes, how: int) -> None:
    phases, fates = list(Phase), list(Vanished)
    ending = Ending(
        phase=phases[how % len(phases)],
        exit_code=(None, 0, 3, 139)[how // 4 % 4],
        timed_out=how // 16 % 4 == 1,
        console=data,
        output=data[: len(data) // 2],
        vanished=fates[how // 64 % len(fates)],
    )
    reading = judge(ending)
    if reading.outcome is Outcome.SURVIVED:
        assert ending.phase is Phase.END or ending.timed_out
        assert ending.exit_code in (None, 0)
        assert not any(report.kind.kernel for report in reading.reports)
    assert "\n" not in reading.title
    boot_failure(data, GuestGone(Gone.EXITED, "x"))


def play(data: bytes) -> None:
    """One input through all of it."""
    width, how, data = (data[0] if data else 0), (data[1] if len(data) > 1 else 0), data[2:]
    assert found_frames(data, width) == found_frames(data, 0)
    assert reports_of(data, width) == reports_of(data, 0)
    read_frames(data)
    read_console(data, width)
    read_qmp(data, width)
    judge_ending(data, how)


def seeds() -> Iterator[bytes]:
    """Inputs that reach far: real consoles, and frames of every kind."""
    from pytest_flaky_repro.guest.protocol import encode

    for path in sorted(SAMPLES.rglob("*")):
        if path.is_file() and path.stat().st_size < 20_000 and path.suffix not in (".py", ".pyc"):
            yield b"\x07\x07" + path.read_bytes()
    fields = {"how": "exit", "code": "0", "ns": "1", "stuck": "0", "output": "0", "at": "0"}
    for kind in Kind:
        yield b"\x00\x0f" + encode(Frame("0f", 1, kind, fields | {"data": "AAAA"}))
    yield b"\x03\x0f" + MARK + b"\n" + RUN_END + b"\n"
    yield b'\x05\x00{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}\r\n'
    yield b'\x05\x00{"id": "registers", "return": "RIP=1 RFL=00000246 HLT=1"}\r\n'


def main() -> None:
    """Fuzzes for as long as libFuzzer's options say."""
    import tempfile

    import atheris

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(seeds()):
            (Path(folder) / f"seed-{number}").write_bytes(seed)
        atheris.Setup([*sys.argv, folder, "-max_len=20000", "-timeout=60"], play)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
