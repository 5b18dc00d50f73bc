"""Whether this QEMU takes the command line that every guest gets; no guest code runs."""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack

from pytest_flaky_repro.machine.argv import Wires, qemu_argv
from pytest_flaky_repro.machine.process import describe_exit, spawn
from pytest_flaky_repro.machine.spec import Emulator, GuestSpec

_LIMIT_S = 60.0
_SECTOR = 512
_GREETING = b'"QMP"'


def refusal(emulator: Emulator, spec: GuestSpec) -> str | None:
    """What QEMU says against the guest ``spec``, stopped before its first instruction (-S).

    None when it came to greeting over QMP, which it does once the machine is complete.
    """
    with ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(3)]
        for ours, theirs in pairs:
            stack.enter_context(ours)
            stack.enter_context(theirs)
        ends = [theirs.fileno() for _, theirs in pairs]
        argv = [*qemu_argv(emulator, spec, "dry", Wires(*ends)), "-S"]
        images = (spec.kernel.descriptor, spec.initramfs.descriptor)
        qemu = spawn(argv, (*images, *ends))
        for _, theirs in pairs:
            theirs.close()  # so that its end is seen as the end of the stream
        try:
            answered = _greeting(pairs[2][0])
        finally:
            if qemu.poll() is None and not _gone(pairs[2][0]):
                qemu.kill()
            _, stderr = qemu.communicate()
    if answered:
        return None
    return describe_exit(qemu.returncode, stderr.decode("utf-8", "replace"))


def stand_in() -> bytes:
    """The least that QEMU takes for a kernel: a boot header (Documentation/arch/x86/boot.rst)."""
    image = bytearray(2 * _SECTOR)
    image[0x1F1] = 1  # setup_sects
    image[0x1FE:0x200] = b"\x55\xaa"
    image[0x202:0x206] = b"HdrS"
    image[0x206:0x208] = bytes((0x0F, 0x02))  # boot protocol 2.15
    image[0x211] = 1  # loadflags: LOADED_HIGH, else there is no room for an initrd
    image[0x22C:0x230] = b"\xff\xff\xff\x7f"  # initrd_addr_max
    return bytes(image)


def _greeting(qmp: socket.socket) -> bool:
    """Waits for QEMU's first words, or for its end."""
    heard = b""
    until = time.monotonic() + _LIMIT_S
    while _GREETING not in heard and (left := until - time.monotonic()) > 0:
        if not select.select([qmp], [], [], left)[0]:
            break
        chunk = qmp.recv(4096)
        if not chunk:
            break
        heard += chunk
    return _GREETING in heard


def _gone(qmp: socket.socket) -> bool:
    """Whether QEMU closed its end: it is on its way out, and has a status to tell."""
    if not select.select([qmp], [], [], 0)[0]:
        return False
    return qmp.recv(4096, socket.MSG_PEEK) == b""
