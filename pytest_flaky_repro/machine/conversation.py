"""What is said between the host and a guest, in the machine's own words."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pytest_flaky_repro.crash import Collector
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.console import ConsoleLog

NEVER = float("inf")
STOPPED = "stopped before it ended"
WORDS_MAX, WORDS_BYTES = 510, 8000  # what agent.c has room for


class Gone(enum.Enum):
    """Why a guest can no longer be talked to."""

    EXITED = "exited"  # QEMU exited with status 0: the guest was reset
    FAILED = "failed"  # QEMU exited with an error of its own
    KILLED = "killed"  # something killed QEMU
    STALLED = "stalled"  # no progress within the limits of its phase
    REPORTED = "reported"  # the kernel reported a crash, and the report is complete
    STOPPED = "stopped"  # we were asked to stop
    SILENCED = "silenced"  # its console no longer showed what its kernel printed
    CHANGED = "changed"  # an earlier run of this boot left it another guest than it was
    UNTRUSTED = "untrusted"  # it sent frames that are not its agent's: nothing it says can count


class GuestGone(Exception):
    """The guest ended before it said what was waited for."""

    def __init__(self, reason: Gone, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Ready:
    """What the agent says of its guest. ``messages_seen``: printk reaches our console."""

    cpus: int
    memory: int
    release: str
    port: str
    has_kmsg: bool
    messages_seen: bool


@dataclass(frozen=True)
class Command:
    """What to run in the guest; ``time_s`` is its trial time in seconds, NEVER for no limit."""

    argv: Sequence[str]
    time_s: float = NEVER
    env: Sequence[str] = ()
    entropy: bytes = b""

    def __post_init__(self) -> None:
        for what, words in (("command line", self.argv), ("environment", self.env)):
            size = len("\0".join(words).encode())
            if size > WORDS_BYTES or len(words) > WORDS_MAX:
                msg = (
                    f"a guest takes at most {WORDS_MAX} words and {WORDS_BYTES} bytes of {what}, "
                    f"got {len(words)} and {size}. Put what is long into a file."
                )
                raise UsageError(msg)


class Ended(enum.Enum):
    """How a command ended."""

    EXIT = "exit"
    SIGNAL = "signal"
    TIME = "time"  # its time was over; it was still running
    EXEC = "exec"  # it could not be started


@dataclass(frozen=True)
class End:
    """An intact END frame: ``code`` is a status, signal or errno; ``seconds`` by its own clock."""

    how: Ended
    code: int
    seconds: float
    stuck: bool
    output: bytes


class GuestLike(Protocol):
    """What a trial needs of a guest; the fake machine is the other one."""

    console: ConsoleLog

    def boot(self) -> Ready: ...
    def run(
        self, command: Command, collector: Collector | None, started: Callable[[], None]
    ) -> End: ...
    def settle(self) -> str: ...
    def leave(self) -> None: ...
    def kill(self) -> None: ...
    def trial_console(self) -> bytes | None: ...
    @property
    def exit_detail(self) -> str: ...
