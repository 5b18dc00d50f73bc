"""A stop signal that a thread in ``select`` notices at once."""

from __future__ import annotations

import os
import threading

from pytest_flaky_repro.errors import InfrastructureError


class StopSignal:
    """Set once, never cleared. ``fileno`` becomes readable, for every waiter, when it is set."""

    def __init__(self) -> None:
        try:
            self._read, self._write = os.pipe()
        except OSError as error:
            raise InfrastructureError(f"no pipe for a stop signal: {error}") from error
        self._event = threading.Event()
        self._lock = threading.Lock()

    def set(self) -> None:
        with self._lock:
            if not self._event.is_set():
                self._event.set()
                os.close(self._write)

    def is_set(self) -> bool:
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Waits up to ``seconds``; True when the signal is set."""
        return self._event.wait(seconds)

    def fileno(self) -> int:
        return self._read

    def close(self) -> None:
        """Gives the descriptors back; no waiter may be left."""
        self.set()
        os.close(self._read)
