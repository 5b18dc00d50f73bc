"""The few words of QEMU's machine protocol (QMP, docs/interop/qmp-spec) that a trial needs."""

from __future__ import annotations

import json
from typing import Any

NEGOTIATE = b'{"execute": "qmp_capabilities"}\n'
REGISTERS = (
    b'{"execute": "human-monitor-command",'
    b' "arguments": {"command-line": "info registers -a"}, "id": "registers"}\n'
)
STOP = b'{"execute": "stop"}\n'
QUIT = b'{"execute": "quit"}\n'
BREAK = b'{"execute": "chardev-send-break", "arguments": {"id": "console"}, "id": "break"}\n'

_NO_RAM = {"capability": "x-ignore-shared", "state": True}  # memory stays in its file
_EVENTS = {"capability": "events", "state": True}
STATE = "state"


def take_descriptor() -> bytes:
    """Goes along with the descriptor of the file for the devices' state."""
    return _command("getfd", fdname=STATE)


def freeze() -> bytes:
    """Writes the devices' state to that descriptor; MIGRATION events tell how it goes."""
    capabilities = _command("migrate-set-capabilities", capabilities=[_NO_RAM, _EVENTS])
    return capabilities + _command("migrate", uri=f"fd:{STATE}")


def restore(descriptor: int) -> bytes:
    """Reads the devices' state from an inherited descriptor; RESUME tells that the guest runs."""
    capabilities = _command("migrate-set-capabilities", capabilities=[_NO_RAM, _EVENTS])
    return capabilities + _command("migrate-incoming", uri=f"fd:{descriptor}")


def _command(name: str, **arguments: Any) -> bytes:
    return json.dumps({"execute": name, "arguments": arguments}).encode() + b"\n"


class QmpReader:
    """Reads QMP messages (one JSON object a line) and remembers what a verdict may need."""

    def __init__(self) -> None:
        self._rest = b""
        self.shutdown_reason: str | None = None
        self.registers: str | None = None
        self.dumps = 0  # of registers, so far
        self.breaks = 0  # sent down the console's line so far
        self.frozen = False
        self.resumed = False
        self.refused: str | None = None  # what QEMU said to a command that it did not do

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                continue  # nothing that QEMU says: an answer that never comes has limits of its own
            if isinstance(message, dict):
                self._take(message)

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("event") == "SHUTDOWN":
            data = message.get("data")
            reason = str(data.get("reason")) if isinstance(data, dict) else "unknown"
            self.shutdown_reason = self.shutdown_reason or reason  # a held guest ends twice
        elif message.get("id") == "registers":
            self.registers = str(message.get("return", ""))
            self.dumps += 1
        elif message.get("id") == "break":
            self.breaks += 1
        elif message.get("event") == "RESUME":
            self.resumed = True
        elif message.get("event") == "MIGRATION":
            status = message.get("data", {}).get("status")
            self.frozen = self.frozen or status == "completed"
            if status == "failed":
                self.refused = "the migration failed"
        elif "error" in message and self.refused is None:
            self.refused = str(message["error"].get("desc", message["error"]))
