"""The few words of QEMU's machine protocol (QMP, docs/interop/qmp-spec) that a trial needs."""

from __future__ import annotations

import json
from typing import Any

NEGOTIATE = b'{"execute": "qmp_capabilities"}\n'
REGISTERS = (
    b'{"execute": "human-monitor-command",'
    b' "arguments": {"command-line": "info registers -a"}, "id": "registers"}\n'
)
BREAK = b'{"execute": "chardev-send-break", "arguments": {"id": "console"}, "id": "break"}\n'


class QmpReader:
    """Reads QMP messages (one JSON object a line) and remembers what a verdict may need."""

    def __init__(self) -> None:
        self._rest = b""
        self.shutdown_reason: str | None = None
        self.registers: str | None = None
        self.dumps = 0  # of registers, so far
        self.breaks = 0  # sent down the console's line so far

    def feed(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if line.strip():
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("event") == "SHUTDOWN":
            self.shutdown_reason = str(message.get("data", {}).get("reason", "unknown"))
        elif message.get("id") == "registers":
            self.registers = str(message.get("return", ""))
            self.dumps += 1
        elif message.get("id") == "break":
            self.breaks += 1
