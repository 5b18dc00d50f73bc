"""A guest that is kept, stopped, at its crash: for a debugger and a memory dump.

QEMU turns a guest's reset into a stop (``-no-reboot`` and ``-no-shutdown``: qemu(1)), so the
memory and the registers of the moment stay. The sockets lie in a folder only their owner can read.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from pytest_flaky_repro.crash import Collector
from pytest_flaky_repro.machine.conversation import Command, End, Ended, Gone, GuestGone, Ready
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.slots import Slot
from pytest_flaky_repro.machine.spec import Accel
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.machine.trial import TrialFacts, TrialOrder, run_trial

Tell = Callable[[str], None]

_CRASHES = (Gone.EXITED, Gone.REPORTED)


@contextmanager
def pausing(machine: QemuMachine, tell: Tell) -> Iterator[PausingMachine]:
    """``machine`` with a private folder for the sockets; all is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="flaky-repro-pause-"))  # mode 0700
    try:
        (folder / "ask").write_text(_ASK)
        yield PausingMachine(machine, folder, tell)
    finally:
        shutil.rmtree(folder)


class PausingMachine:
    """Cold boots, one at a time; the first that crashes is held until it is let go."""

    def __init__(self, machine: QemuMachine, folder: Path, tell: Tell) -> None:
        self._machine, self._folder, self._tell = machine, folder, tell

    @property
    def accel(self) -> Accel:
        return self._machine.accel

    @property
    def at_once(self) -> int:
        return 1  # one person, one debugger

    def slot(self, stop: StopSignal) -> AbstractContextManager[Slot | None]:
        return self._machine.slot(stop)

    def run(
        self, order: TrialOrder, slot: Slot, stop: StopSignal, started: Callable[[], None]
    ) -> TrialFacts:
        guest = self._machine.boot(slot, stop, pause=self._folder)
        held = HeldGuest(guest, lambda why: self._hold(guest, why))
        try:
            return run_trial(held, order, self._machine.smp, started)
        finally:
            guest.kill()

    def _hold(self, guest: Guest, why: str) -> None:
        self._tell(instructions(self._folder, guest.pid, why))
        guest.hold()


class HeldGuest:
    """A guest as a trial sees it, that is held before a crash ends it."""

    def __init__(self, guest: Guest, hold: Callable[[str], None]) -> None:
        self.guest, self.hold, self.console = guest, hold, guest.console

    @property
    def exit_detail(self) -> str:
        return self.guest.exit_detail

    def boot(self) -> Ready:
        return self.guest.boot()

    def run(
        self, command: Command, collector: Collector | None, started: Callable[[], None]
    ) -> End:
        try:
            end = self.guest.run(command, collector, started)
        except GuestGone as gone:
            if gone.reason in _CRASHES:
                self.hold(gone.detail)
            raise
        if end.how is Ended.SIGNAL or (end.how is Ended.EXIT and end.code):
            self.hold(f"the reproducer ended by {end.how.value} {end.code}")
        return end

    def settle(self) -> str:
        return self.guest.settle()

    def leave(self) -> None:
        self.guest.leave()

    def kill(self) -> None:
        self.guest.kill()

    def trial_console(self) -> bytes | None:
        return self.guest.trial_console()


def gdb_socket(folder: Path) -> Path:
    return folder / "gdb"


def monitor_socket(folder: Path) -> Path:
    return folder / "monitor"


# Asks the monitor and awaits its answer: socat may be missing, and Python is not.
_ASK = """\
import os, socket, sys
PROMPT = b"(qemu) "
def answer(monitor):
    said = b""
    while PROMPT not in said and (chunk := monitor.recv(4096)):
        said += chunk
    return said.partition(PROMPT)[0]
with socket.socket(socket.AF_UNIX) as monitor:
    monitor.connect(os.path.join(os.path.dirname(os.path.abspath(__file__)), "monitor"))
    answer(monitor)  # its greeting: what is sent before may be dropped
    monitor.sendall(" ".join(sys.argv[1:]).encode() + b"\\n")
    said = answer(monitor).partition(b"\\n")[2]  # behind the echo
sys.stdout.write(said.decode("utf-8", "replace").replace("\\r", ""))
"""


def instructions(folder: Path, pid: int, why: str) -> str:
    """What a person can do with the stopped guest."""
    gdb = f"target remote {gdb_socket(folder)}"
    monitor = shlex.join([sys.executable, str(folder / "ask")])
    return "\n".join(
        [
            f"The guest crashed and is stopped (QEMU's process: {pid}): {why}",
            f"  debugger:    gdb vmlinux -ex {shlex.quote(gdb)}",
            f"  memory dump: {monitor} dump-guest-memory /tmp/vmcore",
            f"  let it go:   {monitor} quit     (Ctrl-C ends the test run instead)",
        ]
    )
