"""The host's side of the talk, against a scripted peer in QEMU's place that says exact bytes."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.conversation import Command, Ended, Gone, GuestGone
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.spec import Accel, Deadlines, Emulator, GuestSpec, MemoryFile
from pytest_flaky_repro.machine.stop import StopSignal

PEER = """
import re, socket, sys, time, zlib
words = " ".join(sys.argv)
def port(name):
    return socket.socket(fileno=int(re.search("id=" + name + ",fd=([0-9]+)", words)[1]))
console, frames = port("console"), port("frames")
boot = re.search("FLAKY_REPRO_BOOT=([0-9a-f]+)", words)[1]
def line(nonce, kind, fields=""):
    body = (nonce + " 1 " + kind + fields).encode()
    return b"\\n@FR1 " + body + b" %08x\\n" % zlib.crc32(body)
def ready(on, port):
    console.sendall(b"flaky-repro: console check " + boot.encode() + b"\\n")
    on.sendall(line(boot, "READY", " cpus=1 memory=1 kmsg=1 port=" + port + " release=6.1"))
def told(on):
    text = b""
    while b" RUN " not in text or not text.endswith(b"\\n"):
        text += on.recv(65536)
    text = text[text.rindex(b"@FR1"):]
    return text.split()[1].decode(), re.search(b"mark=([0-9a-f]+)", text)[1]
def start(on):
    nonce, mark = told(on)
    console.sendall(b"flaky-repro: run " + mark + b"\\n")
    on.sendall(line(nonce, "START"))
    return nonce
"""


@contextmanager
def talk(folder: Path, script: str) -> Iterator[Guest]:
    """A guest whose QEMU is a Python script."""
    program = folder / "peer"
    program.write_text(f"#!{sys.executable} -I\n{PEER}{textwrap.dedent(script)}")
    program.chmod(0o755)
    stop = StopSignal()
    spec = GuestSpec(MemoryFile("kernel", b""), MemoryFile("initramfs", b""), Accel.TCG)
    limits = Deadlines(idle_s=1.0)
    guest = Guest(
        Emulator(program, "0", sandbox=False, firmware=None), spec, stop=stop, limits=limits
    )
    try:
        yield guest
    finally:
        guest.kill()
        stop.close()
        spec.kernel.close()
        spec.initramfs.close()


def nothing() -> None:
    pass


def test_a_whole_talk(tmp_path: Path) -> None:
    script = """
        ready(frames, "ttyS1")
        nonce = start(frames)
        frames.sendall(line(nonce, "OUT", " at=0 data=aGVsbG8="))
        frames.sendall(line(nonce, "END", " how=exit code=0 ns=1500000000 stuck=0 output=5"))
        time.sleep(100)
    """
    with talk(tmp_path, script) as guest:
        assert guest.boot().port == "ttyS1"
        end = guest.run(Command(("/x",)), None, nothing)
    assert (end.how, end.code, end.seconds, end.stuck) == (Ended.EXIT, 0, 1.5, False)
    assert end.output == b"hello"


def test_a_first_word_torn_by_printk_is_waited_for(tmp_path: Path) -> None:
    """Where frames share the console, the host cannot know it before the first whole READY."""
    script = """
        console.sendall(line(boot, "READY", " cpus=1")[:20] + b"printk: hello\\n")
        ready(console, "console")
        time.sleep(100)
    """
    with talk(tmp_path, script) as guest:
        assert guest.boot().port == "console"


def test_an_end_that_was_repeated_is_taken_once(tmp_path: Path) -> None:
    script = """
        ready(frames, "ttyS1")
        for code in "5", "6":
            nonce = start(frames)
            for repeat in range(3):
                frames.sendall(line(nonce, "END", " how=exit ns=1 stuck=0 output=0 code=" + code))
        time.sleep(100)
    """
    with talk(tmp_path, script) as guest:
        guest.boot()
        codes = [guest.run(Command(("/x",)), None, nothing).code for _ in range(2)]
    assert codes == [5, 6]


def test_an_end_said_with_ones_last_breath_counts(tmp_path: Path) -> None:
    script = """
        ready(frames, "ttyS1")
        nonce = start(frames)
        frames.sendall(line(nonce, "END", " how=signal code=11 ns=1 stuck=0 output=0"))
    """
    with talk(tmp_path, script) as guest:
        guest.boot()
        end = guest.run(Command(("/x",)), None, nothing)
    assert (end.how, end.code) == (Ended.SIGNAL, 11)


@pytest.mark.parametrize(
    ("script", "reason", "said"),
    [
        ('ready(frames, "ttyS1"); start(frames)', Gone.KILLED, "status 0"),
        ('ready(frames, "ttyS1"); start(frames); sys.exit("no")', Gone.FAILED, "status 1: no"),
        ('ready(frames, "ttyS1"); start(frames); time.sleep(99)', Gone.STALLED, "silent and idle"),
        (
            'ready(frames, "ttyS1"); start(frames); frames.sendall(b"@FR1 a\\n"); time.sleep(99)',
            Gone.UNTRUSTED,
            "damaged or forged",
        ),
        (
            'ready(frames, "ttyS1"); start(frames); frames.sendall(line(boot, "END"))',
            Gone.UNTRUSTED,
            "a nonce that is not ours",
        ),
    ],
)
def test_without_an_end_there_is_a_reason(
    tmp_path: Path, script: str, reason: Gone, said: str
) -> None:
    with talk(tmp_path, script) as guest:
        guest.boot()
        with pytest.raises(GuestGone, match=said) as caught:
            guest.run(Command(("/x",), time_s=0.1), None, nothing)
    assert caught.value.reason is reason


@pytest.mark.parametrize("end", ["how=victory code=0", "code=0", "how=exit", "how=exit code=-1"])
def test_an_end_that_makes_no_sense_is_not_believed(tmp_path: Path, end: str) -> None:
    script = f"""
        ready(frames, "ttyS1")
        frames.sendall(line(start(frames), "END", " {end} ns=1 stuck=0 output=0"))
        time.sleep(100)
    """
    with talk(tmp_path, script) as guest:
        guest.boot()
        with pytest.raises(GuestGone) as caught:
            guest.run(Command(("/x",)), None, nothing)
    assert caught.value.reason is Gone.UNTRUSTED


def test_killing_twice_is_harmless(tmp_path: Path) -> None:
    with talk(tmp_path, "time.sleep(100)") as guest:
        guest.kill()
        guest.kill()
        assert guest.exit_detail == "QEMU was killed by SIGKILL"


@pytest.mark.parametrize(
    ("argv", "env"),
    [(("/x", "y" * 8192), ()), (("/x",), ("Y=" + "y" * 8192,)), (("/x", *["y"] * 511), ())],
)
def test_more_words_than_the_agent_has_room_for_are_refused(
    argv: tuple[str, ...], env: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError, match="at most"):
        Command(argv, env=env)
