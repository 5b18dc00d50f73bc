"""Runs a million instructions of 64-bit guest code under /dev/kvm. A program of its own.

``/dev/kvm`` may open, and even create a VM and a vCPU, and still be useless: where long mode is
emulated one instruction at a time, a guest never gets anywhere. So: a page of code that counts
down in 64-bit mode and halts. Exit status 0 and the milliseconds on stdout if it halted; 1 and a
sentence otherwise. The caller limits the time. Source: Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import sys
import time

GET_API_VERSION, CREATE_VM, GET_VCPU_MMAP_SIZE = 0xAE00, 0xAE01, 0xAE04
CREATE_VCPU, SET_USER_MEMORY_REGION, RUN = 0xAE41, 0x4020AE46, 0xAE80
SET_REGS, GET_SREGS, SET_SREGS = 0x4090AE82, 0x8138AE83, 0x4138AE84
EXIT_HLT = 5
LOOPS = 1_000_000
MEMORY = 1 << 21
CODE_AT, PML4, PDPT, PD = 0x10000, 0x1000, 0x2000, 0x3000
# mov $LOOPS,%ecx; 1: dec %ecx; jnz 1b; hlt
CODE = b"\xb9" + struct.pack("<I", LOOPS) + b"\xff\xc9\x75\xfc\xf4"


def segment(kind: int, *, long: int) -> bytes:
    """A struct kvm_segment: flat, present, ring 0."""
    return struct.pack("<QIH8BBB", 0, 0xFFFFFFFF, 8, kind, 1, 0, 1 - long, 1, long, 1, 0, 0, 0)


def special_registers(old: bytes) -> bytes:
    """A struct kvm_sregs for 64-bit mode: six segments, then CR0, CR3, CR4, EFER."""
    new = bytearray(old)
    new[0:24] = segment(0xB, long=1)
    for i in range(1, 6):
        new[24 * i : 24 * i + 24] = segment(0x3, long=0)
    struct.pack_into("<5Q", new, 224, 0x80000011, 0, PML4, 0x20, 0)  # PG, ET, PE; PAE
    struct.pack_into("<Q", new, 264, 0x500)  # EFER: LME, LMA
    return bytes(new)


def guest_memory() -> mmap.mmap:
    memory = mmap.mmap(-1, MEMORY)
    struct.pack_into("<Q", memory, PML4, PDPT | 3)
    struct.pack_into("<Q", memory, PDPT, PD | 3)
    struct.pack_into("<Q", memory, PD, 0x83)  # one page of 2 MiB, mapped onto itself
    memory[CODE_AT : CODE_AT + len(CODE)] = CODE
    return memory


def run() -> str | None:
    """None when the guest halted; else what went wrong."""
    try:
        kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"/dev/kvm cannot be opened: {error.strerror}"
    version = fcntl.ioctl(kvm, GET_API_VERSION, 0)
    if version != 12:
        return f"/dev/kvm speaks API version {version}, not 12"
    vm = fcntl.ioctl(kvm, CREATE_VM, 0)
    memory = guest_memory()
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    fcntl.ioctl(vm, SET_USER_MEMORY_REGION, struct.pack("<IIQQQ", 0, 0, 0, MEMORY, address))
    vcpu = fcntl.ioctl(vm, CREATE_VCPU, 0)
    state = mmap.mmap(vcpu, fcntl.ioctl(kvm, GET_VCPU_MMAP_SIZE, 0))
    old = fcntl.ioctl(vcpu, GET_SREGS, bytes(312))
    fcntl.ioctl(vcpu, SET_SREGS, special_registers(old))
    registers = struct.pack("<18Q", *[0] * 16, CODE_AT, 2)  # rip, rflags
    fcntl.ioctl(vcpu, SET_REGS, registers)
    fcntl.ioctl(vcpu, RUN, 0)
    reason = struct.unpack_from("<I", state, 8)[0]
    return None if reason == EXIT_HLT else f"a 64-bit loop ended in KVM exit reason {reason}"


def main() -> int:
    began = time.perf_counter()
    try:
        problem = run()
    except OSError as error:
        problem = f"a KVM ioctl failed: {error.strerror}"
    print(problem or f"{(time.perf_counter() - began) * 1000:.0f}")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
