"""Real kernels and reproducers that end badly: what each has to be called, written down first."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.faults.conftest import Real

SURVIVED, CRASHED, HUNG, LOST = (
    Outcome.SURVIVED,
    Outcome.CRASHED,
    Outcome.HUNG,
    Outcome.LOST,
)
BOOT_FAILED, INFRASTRUCTURE = Outcome.BOOT_FAILED, Outcome.INFRASTRUCTURE


@dataclass(frozen=True)
class Ending:
    """What a reproducer does, and what its trial has to be called."""

    name: str
    body: str
    outcome: Outcome
    title: str = ""
    kernel: str = "bare"
    append: str = ""
    trial_time: float = 10.0
    smp: int = 1
    often: bool = True  # also in the quick run


FATAL = [n for n in range(1, 32) if n not in (17, 18, 19, 20, 21, 22, 23, 28)]
DEAD = "halted with interrupts off"
SYSRQ = 'write(open("/proc/sysrq-trigger", O_WRONLY), "%s", 1); for (;;) pause();'

STATUSES = [
    *(
        Ending(f"exit {code}", f"return {code};", CRASHED if code else SURVIVED,
               often=code in (0, 7, 255))
        for code in (0, 1, 2, 7, 77, 126, 127, 128, 137, 139, 255)
    ),
    *(
        Ending(f"signal {n}", f"signal({n}, SIG_DFL); kill(getpid(), {n}); pause();", CRASHED,
               often=n in (6, 11))
        for n in FATAL
    ),
    Ending("stops itself", "raise(SIGSTOP);", SURVIVED, trial_time=1.0, often=False),
    Ending("time over", "for (;;);", SURVIVED, trial_time=1.0),
]  # fmt: skip

RESETS = [
    Ending("reboot", "reboot(RB_AUTOBOOT);", CRASHED, "unexpected kernel reboot"),
    Ending("halt", "reboot(RB_HALT_SYSTEM);", HUNG, DEAD, trial_time=1.0, often=False),
    Ending("halt of two CPUs", "reboot(RB_HALT_SYSTEM);", HUNG, DEAD, kernel="smp", smp=2,
           trial_time=1.0),
    Ending("power off", "reboot(RB_POWER_OFF);", HUNG, trial_time=1.0, often=False),
    Ending("port 0x64", "ioperm(0x64, 1, 1); outb(0xfe, 0x64); pause();", CRASHED, "reboot",
           kernel="debian", often=False),
    Ending("port 0xcf9", "ioperm(0xcf9, 1, 1); outb(2, 0xcf9); outb(6, 0xcf9); pause();", CRASHED,
           "reboot", kernel="debian", often=False),
    Ending("debug exit is not there", "ioperm(0x501, 1, 1); ioperm(0xf4, 1, 1); outb(0, 0x501);"
           " outb(0, 0xf4);", SURVIVED, kernel="debian", often=False),
    Ending("power off with ACPI", "reboot(RB_POWER_OFF);", CRASHED, "unexpected kernel reboot",
           kernel="debian", often=False),
    Ending("panic on a distribution's kernel", SYSRQ % "c", CRASHED, "sysrq", kernel="debian",
           often=False),
    Ending("panic", SYSRQ % "c", CRASHED, "sysrq", kernel="smp"),
    Ending("sysrq b", SYSRQ % "b", CRASHED, "unexpected kernel reboot", kernel="smp", often=False),
    Ending("sysrq o", SYSRQ % "o", SURVIVED, kernel="smp", trial_time=1.0, often=False),
    # since Linux 5.5 (fixup_iopl_exception in arch/x86/kernel/traps.c) this is pretended only
    Ending("cli in user space", 'if (iopl(3)) return 79; __asm__ volatile("cli");'
           " for (int i = 0; i < 1000000000; i++);", SURVIVED, kernel="debian", often=False),
    Ending("hlt in user space", 'if (iopl(3)) return 79; __asm__ volatile("hlt");', CRASHED,
           "SIGSEGV", kernel="debian", often=False),
    Ending("dies before its console is whole", "fork(); fork(); reboot(RB_AUTOBOOT);", CRASHED,
           "unexpected kernel reboot", often=False),
]  # fmt: skip

GREEDY = [
    Ending("fills memory", "for (;;) memset(malloc(1 << 20), 1, 1 << 20);", CRASHED),
    Ending("fork bomb", "for (;;) fork();", SURVIVED, trial_time=2.0),
    Ending("writes 1 GB", "static char b[1 << 20]; for (int i = 0; i < 1024; i++)"
           " write(1, b, sizeof b);", SURVIVED, trial_time=120.0, often=False),
    Ending("floods its output", 'for (;;) puts("\\x1b[2J\\xff\\xfe\\0 noise");', SURVIVED,
           trial_time=2.0),
    Ending("floods the console", 'int fd = open("/dev/console", O_WRONLY);'
           ' for (;;) write(fd, "\\x1b[2J\\xff\\0 noise\\n", 13);', SURVIVED, trial_time=2.0),
    Ending("floods the frames' port", 'int fd = open("/dev/ttyS1", O_WRONLY);'
           ' for (;;) write(fd, "\\x1b[2J\\xff\\0 noise\\n", 13);', SURVIVED, trial_time=2.0,
           often=False),
    Ending("opens all it can", 'struct rlimit r = {1 << 20, 1 << 20}; setrlimit(RLIMIT_NOFILE, &r);'
           ' while (open("/dev/null", O_RDONLY) >= 0) {} pause();', SURVIVED, trial_time=2.0,
           often=False),
]  # fmt: skip

MEDDLERS = [
    Ending("kills the agent", "kill(1, SIGKILL); kill(1, SIGSEGV); kill(-1, SIGKILL);", SURVIVED),
    Ending("stops the agent", "if (ptrace(PTRACE_ATTACH, 1, 0, 0)) return 79; for (;;) pause();",
           HUNG, trial_time=1.0, often=False),
    Ending("deletes the agent", 'unlink("/init"); unlink("/dev/ttyS1"); unlink("/dev/ttyS0");',
           SURVIVED),
    Ending("deletes /dev/kmsg", 'if (unlink("/dev/kmsg")) return 79;', LOST, "/dev/kmsg"),
    Ending("mounts over /dev", 'if (mount("x", "/dev", "ramfs", 0, 0)) return 79;', LOST,
           "/dev/kmsg", kernel="smp", often=False),
    Ending("silences the console", "klogctl(6, 0, 0);", LOST, "dmesg -n"),
    Ending("lets only errors through", "klogctl(8, 0, 4);", LOST, "dmesg -n", often=False),
    Ending("silences it and fails", "klogctl(6, 0, 0); return 3;", CRASHED, "exit status 3",
           often=False),
    Ending("steals what the host says", 'int fd = open("/dev/ttyS1", O_RDONLY); char c[64];'
           " if (!fork()) for (;;) read(fd, c, sizeof c); sleep(1);", SURVIVED, often=False),
    Ending("cooks the frames' port", 'struct termios t; int fd = open("/dev/ttyS1", O_RDWR);'
           " tcgetattr(fd, &t); t.c_lflag |= ICANON | ECHO; t.c_iflag |= ICRNL | IXON;"
           " t.c_oflag |= OPOST | ONLCR; tcsetattr(fd, TCSANOW, &t);", SURVIVED),
    Ending("stops the frames' port", 'tcflow(open("/dev/ttyS1", O_RDWR), TCOOFF);',
           SURVIVED, trial_time=1.0, often=False),
    Ending("hangs the frames' port up", "signal(SIGHUP, SIG_IGN); setsid();"
           ' ioctl(open("/dev/ttyS1", O_RDWR), TIOCSCTTY, 1); vhangup();', SURVIVED,
           trial_time=1.0, often=False),
    Ending("forges END on ttyS1", 'forge("/dev/ttyS1", "00112233445566778899aabbccddeeff");',
           LOST, "result frame"),
    Ending("forges a mark", 'int fd = open("/dev/kmsg", O_WRONLY); char m[64]; write(fd, m,'
           ' sprintf(m, "<4>flaky-repro: end 0123456789abcdef")); klogctl(6, 0, 0);', LOST,
           "dmesg -n", often=False),
]  # fmt: skip

BOOTS = [
    Ending("an init that is not there", "", BOOT_FAILED, append="rdinit=/none init=/none"),
    Ending("too little memory", "", BOOT_FAILED, append="mem=9M", often=False),
    Ending("panics on a warning", SYSRQ % "c", CRASHED, "sysrq", kernel="smp",
           append="panic_on_warn=1 oops=panic", often=False),
    Ending("does not reboot on panic", SYSRQ % "c", CRASHED, "sysrq", kernel="smp",
           append="panic=0", often=False),
]  # fmt: skip

ALL = [*STATUSES, *RESETS, *GREEDY, *MEDDLERS, *BOOTS]


@pytest.mark.parametrize(
    "ending",
    [pytest.param(e, id=e.name, marks=() if e.often else pytest.mark.slow) for e in ALL],
)
def test_a_real_ending_is_called_what_it_is(
    real: Real, request: pytest.FixtureRequest, ending: Ending
) -> None:
    kernel: Path = request.getfixturevalue(f"{ending.kernel}_kernel")
    trial = real.trial(
        ending.body, kernel, append=ending.append, trial_time=ending.trial_time, smp=ending.smp
    )
    assert trial.outcome is ending.outcome, trial.told
    assert ending.title in trial.told


# ---- triple faults

# With reboot=t the kernel resets by one: an empty IDT, an exception (arch/x86/kernel/reboot.c).
TRIPLE_FAULTS = [
    Ending("reboot", "reboot(RB_AUTOBOOT);", CRASHED, "unexpected kernel reboot"),
    Ending("sysrq b, two CPUs", SYSRQ % "b", CRASHED, "unexpected kernel reboot", kernel="smp",
           smp=2),
    Ending("panic", SYSRQ % "c", CRASHED, "sysrq", kernel="smp", often=False),
    Ending("at boot", "", BOOT_FAILED, append="rdinit=/none init=/none"),
    Ending("only on leaving", "return 0;", SURVIVED),
]  # fmt: skip


@pytest.mark.parametrize(
    "ending",
    [pytest.param(e, id=e.name, marks=() if e.often else pytest.mark.slow) for e in TRIPLE_FAULTS],
)
def test_a_triple_fault(real: Real, request: pytest.FixtureRequest, ending: Ending) -> None:
    """QEMU's own log proves that it was one."""
    log, wrapper = real.folder / "resets", real.folder / "qemu"
    wrapper.write_text(f'#!/bin/sh\nexec {real.emulator.path} "$@" -d cpu_reset -D {log}\n')
    wrapper.chmod(0o755)
    real.emulator = replace(real.emulator, path=wrapper)
    kernel: Path = request.getfixturevalue(f"{ending.kernel}_kernel")
    append = f"reboot=t {ending.append}"
    trial = real.trial(ending.body, kernel, append=append, smp=ending.smp)
    assert log.read_text().count("Triple fault") == 1
    assert trial.outcome is ending.outcome, trial.told
    assert ending.title in trial.told


# ---- QEMU's own fate


def send(number: int) -> Callable[[Guest], None]:
    def act(guest: Guest) -> None:
        os.kill(guest.pid, number)

    return act


FATES = [
    pytest.param(number, marks=() if number in (15, 9) else pytest.mark.slow, id=name)
    for number, name in (
        (signal.SIGKILL, "killed"),
        (signal.SIGTERM, "terminated"),
        (signal.SIGINT, "interrupted"),
        (signal.SIGHUP, "hung-up"),
        (signal.SIGABRT, "aborted"),
        (signal.SIGSEGV, "crashed"),
    )
]


@pytest.mark.parametrize("number", FATES)
def test_a_qemu_that_somebody_ends_is_no_crash(real: Real, bare_kernel: Path, number: int) -> None:
    """SIGTERM, SIGINT and SIGHUP end QEMU with status 0, as a guest's reset does."""
    trial = real.trial("for (;;);", bare_kernel, on_start=send(number))
    assert trial.outcome is LOST, trial.told
    trial = real.trial("for (;;);", bare_kernel, on_boot=send(number))
    assert trial.outcome in (BOOT_FAILED, INFRASTRUCTURE), trial.told


@pytest.mark.slow
def test_a_qemu_that_is_stopped_is_no_survivor(real: Real, bare_kernel: Path) -> None:
    trial = real.trial("return 0;", bare_kernel, trial_time=1.0, on_start=send(signal.SIGSTOP))
    assert trial.outcome is HUNG, trial.told
    trial = real.trial("return 0;", bare_kernel, on_boot=send(signal.SIGSTOP))
    assert trial.outcome is BOOT_FAILED, trial.told


# ---- a reproducer that reads the agent's memory

# What it finds there is good for one more result frame. `after` is what it then does.
THIEF = r"""
    static char memory[1 << 20], line[300], nonce[80], mark[80], log[1 << 18];
    unsigned long from, to, found = 0;
    FILE *maps = fopen("/proc/1/maps", "r");
    int mem = open("/proc/1/mem", O_RDONLY);
    if (!maps || mem < 0) return 70;
    while (!found && fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%lx-%lx rw", &from, &to) != 2) continue;
        ssize_t n = pread(mem, memory, sizeof memory, from);
        for (ssize_t i = 0; i + 60 < n; i++)
            if (!memcmp(memory + i, "@FR1 ", 5)
                && sscanf(memory + i, "@FR1 %79s %*d START", nonce) == 1
                && strlen(nonce) == 32) { found = 1; break; }
    }
    if (!found) return 71;
    klogctl(3, log, sizeof log - 1);
    sscanf(strstr(log, "flaky-repro: run ") + 17, "%79s", mark);
    AFTER
"""
END_MARK = (
    'int kmsg = open("/dev/kmsg", O_WRONLY);'
    ' write(kmsg, line, sprintf(line, "<4>flaky-repro: end %s", mark));'
)


@pytest.mark.parametrize(
    ("after", "outcome", "title"),
    [
        pytest.param('forge("/dev/ttyS1", nonce); for (;;) pause();', HUNG, "did not leave",
                     id="and-goes-on"),
        pytest.param('forge("/dev/ttyS1", nonce); sleep(1);' + SYSRQ % "c", CRASHED, "sysrq",
                     id="and-panics"),
        pytest.param('forge("/dev/ttyS1", nonce); sleep(1); reboot(RB_AUTOBOOT);', LOST,
                     "dmesg -n", id="and-reboots"),
        # Root in the guest owns the guest: it could as well have exited 0. See SECURITY.md.
        pytest.param(END_MARK + 'forge("/dev/ttyS1", nonce); sleep(1); reboot(RB_AUTOBOOT);',
                     SURVIVED, "", id="and-plays-the-agent-to-the-end"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kernel", ["smp", pytest.param("debian", marks=pytest.mark.slow)])
def test_a_reproducer_with_the_agents_nonce(
    real: Real,
    request: pytest.FixtureRequest,
    kernel: str,
    after: str,
    outcome: Outcome,
    title: str,
) -> None:
    image: Path = request.getfixturevalue(f"{kernel}_kernel")
    trial = real.trial(THIEF.replace("AFTER", after), image, trial_time=60.0)
    assert trial.outcome is outcome, trial.told
    assert title in trial.told


# ---- what there is to reach

# What a guest sees of the world: PCI devices, network interfaces, block devices, virtio, 9p.
LOOK = r"""
    const char *folders[] = {"/sys/class/net", "/sys/bus/virtio/devices", "/sys/class/block"};
    for (int i = 0; i < 3; i++) {
        DIR *d = opendir(folders[i]);
        for (struct dirent *e; d && (e = readdir(d));)
            if (e->d_name[0] != '.') printf("%s/%s\n", folders[i], e->d_name);
    }
    int s = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {AF_INET, htons(80), {htonl(0x0a000202)}};  /* QEMU's user network */
    printf("connect %d\n", s < 0 ? -2 : connect(s, (struct sockaddr *)&to, sizeof to));
    printf("9p %d\n", mount("hostshare", "/tmp", "9p", 0, "trans=virtio"));
    printf("mem %d\n", open("/dev/mem", O_RDWR) < 0 ? -1 : 0);
"""


@pytest.mark.slow
def test_a_guest_finds_no_way_out(real: Real, debian_kernel: Path) -> None:
    trial = real.trial(LOOK, debian_kernel)
    assert trial.outcome is SURVIVED, trial.told
    assert trial.facts.end is not None
    seen = trial.facts.end.output.decode().splitlines()
    assert "connect -1" in seen
    assert "9p -1" in seen
    shown = {line for line in seen if line.startswith("/sys/")}
    assert {line for line in shown if "/block/" not in line} <= {"/sys/class/net/lo"}
    assert all("/loop" in line or "/ram" in line for line in shown if "/block/" in line)
