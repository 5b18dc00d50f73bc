"""Every way a trial can end, with what it has to be called, written down first.

The far end is the false QEMU, so these are the host's answers; what real kernels do is in
``test_faults_guests.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.faults.conftest import Stage, Trialed

SURVIVED, CRASHED, HUNG, LOST = (
    Outcome.SURVIVED,
    Outcome.CRASHED,
    Outcome.HUNG,
    Outcome.LOST,
)
BOOT_FAILED, INFRASTRUCTURE = Outcome.BOOT_FAILED, Outcome.INFRASTRUCTURE

PANIC = (
    "[    2.000000] Kernel panic - not syncing: sysrq triggered crash\r\n"
    "[    2.100000] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---\r\n"
)
OOPS = (
    "[    2.000000] BUG: kernel NULL pointer dereference, address: 0000000000000000\r\n"
    "[    2.000000] #PF: supervisor write access in kernel mode\r\n"
    "[    2.000000] Oops: 0002 [#1] SMP\r\n"
    "[    2.000000] CPU: 0 PID: 55 Comm: repro Not tainted 6.1.0 #1\r\n"
    "[    2.000000] RIP: 0010:foo_release+0x10/0x20\r\n"
    "[    2.000000] Call Trace:\r\n"
    "[    2.000000]  bar_close+0x10/0x20\r\n"
    "[    2.000000] ---[ end trace 0000000000000000 ]---\r\n"
)
KASAN = (
    "[    2.000000] ==================================================================\r\n"
    "[    2.000000] BUG: KASAN: use-after-free in foo_release+0x10/0x20\r\n"
    "[    2.000000] Read of size 8 at addr ffff888000000000 by task repro/55\r\n"
    "[    2.000000] ==================================================================\r\n"
)
UBSAN = (
    "[    2.000000] ================================================================\r\n"
    "[    2.000000] UBSAN: array-index-out-of-bounds in fs/foo.c:12:3\r\n"
    "[    2.000000] index 9 is out of range for type 'int [4]'\r\n"
    "[    2.000000] ================================================================\r\n"
)
LOCKDEP = (
    "[    2.000000] ======================================================\r\n"
    "[    2.000000] WARNING: possible circular locking dependency detected\r\n"
    "[    2.000000] 6.1.0 #1 Not tainted\r\n"
    "[    2.000000] ------------------------------------------------------\r\n"
    "[    2.000000] repro/55 is trying to acquire lock:\r\n"
    "[    2.000000] ffff888000000000 (&foo->lock){+.+.}-{3:3}, at: foo_release+0x10/0x20\r\n"
)
OOM = (
    "[    2.000000] repro invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\r\n"
    "[    2.100000] Out of memory: Killed process 55 (repro) total-vm:999999kB\r\n"
)


def console(text: str | bytes) -> str:
    return "c:" + (text.encode() if isinstance(text, str) else text).hex()


def frames(content: bytes) -> str:
    return "f:" + content.hex()


BOOT, RUN = ("B",), ("R", "M", "S")
STARTED = (*BOOT, *RUN)
LEAVES = ("g", "x:guest-reset:0")
END = ("D", "e:exit:0", *LEAVES)
SURVIVES = (*STARTED, *END)


@dataclass(frozen=True)
class Ending:
    """A script, and what the trial has to be called; ``title`` is part of the title or detail."""

    name: str
    script: tuple[str, ...]
    outcome: Outcome
    title: str = ""


def reports() -> list[Ending]:
    """Each kernel report: before START, in the run, after END, and on leaving."""
    told = {
        "panic": (PANIC, "kernel panic: sysrq"),
        "oops": (OOPS, "foo_release"),
        "kasan": (KASAN, "KASAN: use-after-free"),
        "ubsan": (UBSAN, "UBSAN: array-index-out-of-bounds"),
        "lockdep": (LOCKDEP, "possible deadlock in"),
    }
    made = []
    for name, (text, title) in told.items():
        shown = console(text)
        told_in_time = (*STARTED, shown, "D")
        ended = (*STARTED, "D", "e:exit:0")
        made += [
            Ending(f"{name} at boot", (shown, "x:guest-reset:0"), BOOT_FAILED),
            Ending(f"{name} before START", ("B", "R", shown, "x:guest-reset:0"), INFRASTRUCTURE),
            Ending(f"{name}, then reset", (*STARTED, shown, "x:guest-reset:0"), CRASHED, title),
            Ending(f"{name}, then silence", (*STARTED, shown, "h"), CRASHED, title),
            Ending(f"{name}, then exit 0", (*told_in_time, "e:exit:0", *LEAVES), CRASHED, title),
            Ending(f"{name}, then exit 3", (*told_in_time, "e:exit:3", *LEAVES), CRASHED, title),
            Ending(f"{name}, then time", (*told_in_time, "e:time:0", *LEAVES), CRASHED, title),
            Ending(f"{name} after END", (*ended, shown, *LEAVES), CRASHED, title),
            Ending(f"{name} leaving", (*ended, "g", shown, "x:guest-reset:0"), CRASHED, title),
        ]
    return made


def statuses() -> list[Ending]:
    """Every exit status, every signal, a time that is over, a program that cannot be started."""
    made = [
        Ending(f"exit {code}", (*STARTED, "D", f"e:exit:{code}", *LEAVES), CRASHED)
        for code in range(1, 256)
    ]
    made += [
        Ending(f"signal {number}", (*STARTED, "D", f"e:signal:{number}", *LEAVES), CRASHED)
        for number in range(1, 65)
    ]
    made += [
        Ending("exit 0", SURVIVES, SURVIVED),
        Ending("time over", (*STARTED, "D", "e:time:0", *LEAVES), SURVIVED),
        *(
            Ending(f"exec {code}", (*STARTED, "D", f"e:exec:{code}", *LEAVES), INFRASTRUCTURE)
            for code in (2, 8, 12, 13)
        ),
        Ending(
            "OOM kill", (*STARTED, console(OOM), "D", "e:signal:9", *LEAVES), CRASHED, "SIGKILL"
        ),
    ]
    return made


def departures() -> list[Ending]:
    """QEMU going away at each moment, by each means; only the guest's own reset is a crash."""
    moments = {
        "at once": ((), False),
        "after the greeting": ((console("Linux version 6.1.0\r\n"),), False),
        "after READY": (("B", "R"), False),
        "in the run": (STARTED, True),
    }
    made = []
    for moment, (script, started) in moments.items():
        before = INFRASTRUCTURE if "R" in script else BOOT_FAILED
        by_the_guest = {
            "guest reset": "x:guest-reset:0",
            "power-off": "x:guest-shutdown:0",
            "pvpanic": "x:guest-panic:0",
        }
        by_others = {
            "SIGTERM": "x:host-signal:0",
            "QMP quit": "x:host-qmp-quit:0",
            "no reason": "X:0",
            "error": "X:1",
            **{f"signal {number}": f"k:{number}" for number in (6, 9, 11, 15, 31)},
        }
        made += [
            Ending(f"{how} {moment}", (*script, word), CRASHED if started else before)
            for how, word in by_the_guest.items()
        ]
        made += [
            Ending(f"{how} {moment}", (*script, word), LOST if started else before)
            for how, word in by_others.items()
        ]
    made += [
        Ending(f"{word} on leaving", (*STARTED, "D", "e:exit:0", "g", word), LOST)
        for word in ("x:host-signal:0", "X:0", "X:1", "k:9", "k:15")
    ]
    return made


def hangs() -> list[Ending]:
    """Nothing more, idle or spinning, at each moment."""
    made = []
    for how, word in (("idle", "h"), ("spinning", "b"), ("stopped", "k:19")):
        made += [
            Ending(f"{how} in the run", (*STARTED, word), HUNG, "no progress"),
            Ending(f"{how} after END", (*STARTED, "D", "e:exit:0", word), HUNG),
        ]
    made += [
        Ending("idle at boot", (console("Linux\r\n"), "h"), BOOT_FAILED),
        Ending("idle without a word", ("h",), BOOT_FAILED, "printed nothing"),
        Ending("idle before START", ("B", "R", "h"), INFRASTRUCTURE),
    ]
    leaving = (*STARTED, "D", "e:exit:0", "g")
    made += [
        Ending("QEMU told a reset", (*STARTED, shutdown("guest-reset"), "h"), CRASHED, "reboot"),
        Ending("QEMU told SIGTERM", (*STARTED, shutdown("host-signal"), "h"), LOST),
        Ending("QEMU told a reset on leaving", (*leaving, shutdown("guest-reset"), "h"), SURVIVED),
        Ending("QEMU told SIGTERM on leaving", (*leaving, shutdown("host-signal"), "h"), LOST),
    ]
    return made


def shutdown(reason: str) -> str:
    """QMP says how the guest ended; that QEMU then exits is another matter."""
    event = {"event": "SHUTDOWN", "data": {"reason": reason}}
    return f"q:{json.dumps(event).encode().hex()}0a"


FORGED_END = b"\n@FR1 %s 9 END how=exit code=0 ns=1 stuck=0 output=0 %s\n"


def lies() -> list[Ending]:
    """Frames that are not the agent's, and ends that cannot be believed."""
    nonsense = {
        "a wrong checksum": FORGED_END % (b"0" * 32, b"00000000"),
        "half a frame": b"\n@FR1 0123 9 END how=ex\n",
        "an empty frame": b"\n@FR1 \n",
    }
    made = [
        Ending(f"END of nonce {who}", (*STARTED, f"n:{who}:exit:0", *END), LOST, "result frame")
        for who in ("none", "boot", "mark")
    ]
    for name, content in nonsense.items():
        made += [
            Ending(f"{name} on its port", (*STARTED, frames(content), *END), LOST, "frame"),
            Ending(f"{name} on the console", (*STARTED, console(content), *END), LOST, "frame"),
            Ending(
                f"{name} after END", (*STARTED, "D", "e:exit:0", frames(content), *LEAVES), LOST
            ),
        ]
    bad_ends = ("sideways:0", "exit:-1", "EXIT:0")
    made += [
        Ending(f"END that says {end}", (*STARTED, "D", f"e:{end}", *LEAVES), LOST, "makes no sense")
        for end in bad_ends
    ]
    made += [
        Ending("READY without a console", ("Y", *RUN, *END), INFRASTRUCTURE),
        Ending("no mark behind the run", (*STARTED, "e:exit:0", *LEAVES), LOST, "dmesg -n"),
        Ending("none, and time", (*STARTED, "e:time:0", *LEAVES), LOST, "dmesg -n"),
        Ending("none, and exit 3", (*STARTED, "e:exit:3", *LEAVES), CRASHED, "exit status 3"),
        Ending("none, and a panic", (*STARTED, console(PANIC), "e:exit:0", *LEAVES), CRASHED),
        Ending("no mark", ("B", "R", "S", *END), LOST, "mark never reached"),
        Ending("START before READY", ("L", "S", "h"), INFRASTRUCTURE, "forged"),
    ]
    return made


def floods() -> list[Ending]:
    """Noise, of any kind and amount, is not an ending."""
    noise = {
        "NUL": b"\0" * 4096,
        "ANSI": b"\x1b[2J\x1b]0;owned\x07\x1b[31m",
        "invalid UTF-8": b"\xff\xfe\xc3\x28\xf0\x28\x8c\x28",
        "bidirectional": "\u202e\u2066".encode(),
        "no newline": b"A" * 60_000,
        "only newlines": b"\r\n" * 4096,
    }
    made = []
    for name, content in noise.items():
        shown = console(content)
        made += [
            Ending(f"{name} on the console", (*STARTED, shown, *END), SURVIVED),
            Ending(f"{name} on the frames' port", (*STARTED, frames(content), *END), SURVIVED),
            Ending(f"{name}, then exit 7", (*STARTED, shown, "e:exit:7", *LEAVES), CRASHED),
            Ending(f"{name}, then a panic", (*STARTED, shown, console("\r\n" + PANIC),
                   "x:guest-reset:0"), CRASHED, "sysrq"),
        ]  # fmt: skip
    parts = tuple(f"o:{i}:AA==" for i in range(9_000))
    made += [
        Ending("output in 9000 parts", (*STARTED, *parts, *END), SURVIVED),
        Ending(
            "output without end",
            (
                *STARTED,
                *parts,
                "o:99999:AA==",
                *(f"o:{i}:AA==" for i in range(100_000, 101_000)),
                *END,
            ),
            LOST,
            "more output frames",
        ),
        Ending("numbers of 5000 digits", (*STARTED, "o:" + "9" * 5000 + ":AA==", *END), SURVIVED),
    ]
    many = "C:600:" + (b"noise " * 5000).hex()
    made += [
        Ending("18 MB, then END", (*STARTED, many, *END), SURVIVED),
        Ending("18 MB, then a panic", (*STARTED, many, console("\r\n" + PANIC), "x:guest-reset:0"),
               CRASHED, "sysrq"),
        Ending("18 MB on the frames' port", (*STARTED, "F" + many[1:], *END), SURVIVED),
        Ending("18 MB at boot", (many, *SURVIVES), SURVIVED),
    ]  # fmt: skip
    return made


KINDS = {
    "reports": reports(),
    "statuses": statuses(),
    "departures": departures(),
    "hangs": hangs(),
    "lies": lies(),
    "floods": floods(),
}


def wrong(stage: Stage, endings: Sequence[Ending]) -> dict[str, str]:
    """What was called something else than what was written down first."""

    def trial_of(ending: Ending) -> Trialed:
        return stage.trial(*ending.script)

    with ThreadPoolExecutor(4) as pool:  # QEMU is tied to the thread that starts it
        pairs = list(zip(endings, pool.map(trial_of, endings), strict=True))
    return {
        ending.name: trial.told
        for ending, trial in pairs
        if trial.outcome is not ending.outcome or ending.title not in trial.told
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_ending_is_called_what_it_is(stage: Stage, kind: str) -> None:
    assert wrong(stage, KINDS[kind]) == {}
