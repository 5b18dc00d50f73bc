"""The boot banner (``init/version.c``): at the start of a console it is a boot, later a reboot."""

from __future__ import annotations

import re

from pytest_flaky_repro.crash.kinds import CrashClass

from .model import Ends, Format, header

BOOT = Format(
    CrashClass.REBOOT,
    (b"Linux version ",),
    header(r"Linux version \d+\.\d+"),
    "unexpected kernel reboot",
    b"[   12.300000] probe: loaded\n[    0.000000] Linux version 6.1.0 (build@host) #1 SMP",
    "unexpected kernel reboot",
    ends=Ends.IDLE,
    generic=True,
)
# Only SeaBIOS says its name first; other firmware comes after loaders of its own.
FIRMWARE = b"SeaBIOS (version "
# What a shell, the emulator or a terminal may print before the firmware does.
HARMLESS = re.compile(rb"\+ |[$#] |qemu|WARNING: |warning: |\x1b\[[\d;?]*[A-Za-z]$|c?\x1b")
