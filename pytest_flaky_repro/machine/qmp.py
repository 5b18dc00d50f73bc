"""The few words of QEMU's machine protocol (QMP, docs/interop/qmp-spec) that a trial needs."""

from __future__ import annotations

import json
from typing import Any

NEGOTIATE = b'{"execute": "qmp_capabilities"}\n'
REGISTERS = (
    b'{"execute": "human-monitor-command",'
    b' "arguments": {"command-line": "info registers -a"}, "id": "registers"}\n'
)


class QmpReader:
    """Reads QMP messages (one JSON object a line) and remembers what a verdict may need."""

    def __init__(self) -> None:
        self._rest = b""
        self.shutdown_reason: str | None = None
        self.registers: str | None = None

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


def describe_cpus(registers: str) -> str:
    """What the CPUs of a silent guest do, from the answer to ``info registers -a``.

    Each CPU has a line with ``RIP= RFL= ... HLT=``; bit 9 of RFL is the interrupt flag. Halted
    with interrupts off ends by nothing but an NMI; halted with interrupts on is idle.
    """
    states = []
    for line in registers.splitlines():
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if "RFL" in words and "HLT" in words:
            states.append((words["HLT"] == "1", bool(int(words["RFL"], 16) & 0x200)))
    if not states:
        return "QEMU's register dump could not be read"
    if all(halted and not interrupts for halted, interrupts in states):
        return "every CPU is halted with interrupts off: the guest is dead"
    if all(halted for halted, _ in states):
        return "every CPU is halted and waits for an interrupt"
    return "a CPU is running: the guest spins or is slow"
