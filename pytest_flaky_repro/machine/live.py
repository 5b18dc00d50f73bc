"""A guest for ordinary tests: boots once, runs any number of commands."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.machine.conversation import NEVER, Command, End, Ended, GuestGone, Ready
from pytest_flaky_repro.machine.diagnosis import boot_failure, exec_failure, ready_fault
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.stop import StopSignal


@dataclass(frozen=True)
class Completed:
    """A command that ended in the guest. ``status`` is as a shell says it: 128 + N for signal N."""

    argv: tuple[str, ...]
    status: int
    output: bytes
    seconds: float
    timed_out: bool

    @property
    def text(self) -> str:
        """The output (standard output and error in one) as text."""
        return self.output.decode("utf-8", "replace")


class LiveGuest:
    """A context manager around a running guest.

    A thread of its own starts QEMU, drains its console and ends with it: QEMU is tied to the
    thread that started it, and a console nobody reads would stall the guest.
    """

    def __init__(
        self, machine: QemuMachine, cpus: int, env: Sequence[str], shell: Sequence[str] | None
    ) -> None:
        self._machine, self._cpus, self._env, self._shell = machine, cpus, tuple(env), shell
        self._stop = StopSignal()
        self._wake_read, self._wake_write = os.pipe()
        self._jobs: queue.Queue[Command | None] = queue.Queue()
        self._answers: queue.Queue[Ready | End | BaseException] = queue.Queue()
        self._thread = threading.Thread(target=self._live, name="flaky-repro-vm", daemon=True)
        self._console: Callable[[], bytes] = bytes
        self._gone: BaseException | None = None

    def __enter__(self) -> LiveGuest:  # noqa: PYI034 - Self needs Python 3.11
        self._thread.start()
        try:
            ready = self._answer()
        except BaseException:
            self._stop.set()  # also a wait for a slot, or a boot
            self.close()
            raise
        assert isinstance(ready, Ready)
        self.ready = ready
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, command: str | Sequence[str], *, timeout: float = 60.0) -> Completed:
        """Runs a command: a shell line, or a program with its arguments.

        Raises InfrastructureError when the guest is gone, its last console lines in the message.
        """
        argv = self._argv(command)
        order = Command(argv, timeout, self._env)
        if self._gone is not None:
            raise InfrastructureError(str(self._gone)) from self._gone
        self._jobs.put(order)
        os.write(self._wake_write, b"!")
        end = self._answer()
        assert isinstance(end, End)
        if end.how is Ended.EXEC:
            raise InfrastructureError(f"{' '.join(argv)}: {exec_failure(end.code)}")
        return Completed(
            argv=argv,
            status=end.code + (128 if end.how is Ended.SIGNAL else 0),
            output=end.output,
            seconds=end.seconds,
            timed_out=end.how is Ended.TIME,
        )

    @property
    def console(self) -> bytes:
        """What the guest's serial console has shown so far."""
        return self._console()

    def close(self) -> None:
        """Reboots the guest away. Safe to call twice."""
        if self._wake_write < 0:
            return
        self._jobs.put(None)
        os.write(self._wake_write, b"!")
        self._stop.set() if not self._thread.is_alive() else None
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._wake_write = -1
        self._stop.close()

    def _argv(self, command: str | Sequence[str]) -> tuple[str, ...]:
        if not isinstance(command, str):
            return tuple(command)
        if self._shell is None:
            raise InfrastructureError(
                f"there is no shell in the guest to run {command!r}: install busybox-static "
                "(apt-get install busybox-static), or give a list of words"
            )
        return (*self._shell, "-c", command)

    def _answer(self) -> Ready | End:
        answer = self._answers.get()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _live(self) -> None:
        try:
            with self._machine.slot(self._stop) as slot:
                if slot is None:
                    return
                guest = self._machine.boot(slot, self._stop)
                self._console = guest.console.content
                try:
                    self._answers.put(self._boot(guest))
                    self._serve(guest)
                finally:
                    guest.kill()
        except BaseException as error:  # noqa: BLE001 - raised again, where the answer is awaited
            self._gone = error
            self._answers.put(error)

    def _boot(self, guest: Guest) -> Ready:
        try:
            ready = guest.boot()
        except GuestGone as gone:
            guest.kill()
            cause, _ = boot_failure(guest.console.content(), gone)
            raise InfrastructureError(cause) from gone
        fault = ready_fault(ready, self._cpus)
        if fault is not None:
            raise InfrastructureError(fault)
        return ready

    def _serve(self, guest: Guest) -> None:
        while True:
            guest.attend(self._wake_read)
            os.read(self._wake_read, 1)
            job = self._jobs.get()
            if job is None:
                guest.leave()
                return
            try:
                self._answers.put(guest.run(job, None, _ignore))
            except GuestGone as gone:
                guest.kill()
                tail = guest.console.content()[-2000:].decode("utf-8", "replace")
                message = f"the guest is gone: {gone.detail}; its console ended:\n{tail}"
                raise InfrastructureError(message) from gone


def _ignore() -> None:
    """START of a command needs no bookkeeping here."""


__all__ = ["NEVER", "Completed", "LiveGuest"]
