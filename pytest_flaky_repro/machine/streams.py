"""Everything a QEMU process says, as one stream of (role, bytes)."""

from __future__ import annotations

import enum
import os
import selectors
import socket
import subprocess
from collections.abc import Sequence

from pytest_flaky_repro.machine import process
from pytest_flaky_repro.machine.stop import StopSignal

CHUNK = 1 << 14
GATHER_S = 0.002  # an 8250 under TCG sends some 400 bytes in that time
SEND_BUFFER = 1 << 20  # as much as the system allows (some 500 bytes: each takes a packet's room)


class Role(enum.Enum):
    """What a descriptor is for."""

    CONSOLE = "console"
    FRAMES = "frames"
    QMP = "qmp"
    STDERR = "stderr"
    EXIT = "exit"  # readable when the process ended
    STOP = "stop"  # readable when we were asked to stop
    WAKE = "wake"  # readable when somebody wants this thread


class Streams:
    """A QEMU process and its connected sockets. Create and use it in one thread only."""

    def __init__(self, stop: StopSignal) -> None:
        self._ours: dict[Role, socket.socket] = {}
        self._theirs: dict[Role, socket.socket] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd = -1
        self._is_over = False
        self.woken = False
        self._selector = selectors.DefaultSelector()
        self._urgent = selectors.DefaultSelector()  # what is never a byte among many
        self._dribbles = False
        try:
            self._selector.register(stop, selectors.EVENT_READ, Role.STOP)
            self._urgent.register(stop, selectors.EVENT_READ)
            for role in (Role.CONSOLE, Role.FRAMES, Role.QMP):
                self._ours[role], self._theirs[role] = socket.socketpair()
                self._ours[role].setblocking(False)
                self._theirs[role].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
                self._selector.register(self._ours[role], selectors.EVENT_READ, role)
        except BaseException:
            self.close()
            raise

    def watch(self, wake: int) -> None:
        """Sets :attr:`woken` at the first poll that finds ``wake`` readable."""
        self.woken = False
        self._selector.register(wake, selectors.EVENT_READ, Role.WAKE)

    def wire(self, role: Role) -> int:
        """The descriptor that QEMU is to inherit for this role."""
        return self._theirs[role].fileno()

    def start(self, argv: Sequence[str], keep_open: Sequence[int]) -> int:
        """Starts QEMU with its wires and ``keep_open`` inherited; returns its pid."""
        inherited = [*(end.fileno() for end in self._theirs.values()), *keep_open]
        try:
            self._process = process.spawn(argv, inherited)
        finally:
            for end in self._theirs.values():
                end.close()
        self._pidfd = os.pidfd_open(self._process.pid)
        self._selector.register(self._pidfd, selectors.EVENT_READ, Role.EXIT)
        self._urgent.register(self._pidfd, selectors.EVENT_READ)
        if self._process.stderr is not None:
            os.set_blocking(self._process.stderr.fileno(), False)
            self._selector.register(self._process.stderr, selectors.EVENT_READ, Role.STDERR)
        return self._process.pid

    def returncode(self) -> int | None:
        """QEMU's exit status, negative for a signal; None while it runs."""
        return self._process.poll() if self._process is not None else None

    def poll(self, timeout: float) -> list[tuple[Role, bytes]]:
        """What arrived, waiting up to ``timeout`` seconds for the first of it.

        A serial port sends byte by byte, and to wake up for each would cost more than all else:
        so after some have come, the next are given a moment to gather.
        """
        arrived: list[tuple[Role, bytes]] = []
        if self._dribbles and timeout > GATHER_S:
            self._urgent.select(GATHER_S)
        for key, _ in self._selector.select(timeout):
            if key.data in (Role.STOP, Role.EXIT, Role.WAKE):
                self._selector.unregister(key.fileobj)  # said once; its owner is asked from now on
                self.woken = self.woken or key.data is Role.WAKE
                continue
            try:
                chunk = os.read(key.fd, CHUNK)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                chunk = b""
            if chunk:
                arrived.append((key.data, chunk))
            else:
                self._selector.unregister(key.fileobj)
        self._dribbles = any(role in (Role.CONSOLE, Role.FRAMES) for role, _ in arrived)
        return arrived

    def write(self, role: Role, data: bytes) -> None:
        """Sends to QEMU. What a dead or deaf QEMU does not take is dropped: its end shows soon."""
        try:
            self._ours[role].sendall(data)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return

    def send_descriptor(self, role: Role, data: bytes, descriptor: int) -> None:
        """Sends a descriptor along with ``data`` (SCM_RIGHTS, unix(7))."""
        try:
            socket.send_fds(self._ours[role], [data], [descriptor])
        except (BlockingIOError, BrokenPipeError, ConnectionResetError):
            return

    def kill(self) -> list[tuple[Role, bytes]]:
        """Ends QEMU if it still runs, and returns everything it had still said."""
        if self._process is None or self._is_over:
            return []
        self._is_over = True
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        rest: list[tuple[Role, bytes]] = []
        while self._selector.get_map():
            arrived = self.poll(0)
            if not arrived:
                break
            rest += arrived
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        return rest

    def close(self) -> None:
        """Gives every descriptor back; QEMU is killed first."""
        self.kill()
        self._selector.close()
        self._urgent.close()
        for end in (*self._ours.values(), *self._theirs.values()):
            end.close()
        if self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()
