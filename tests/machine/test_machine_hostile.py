"""Guests that lie, die, hang or fight: none of it is ever taken for a survival."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.crash import Phase
from pytest_flaky_repro.machine.conversation import Ended, Gone
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.spec import Deadlines
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.machine.conftest import Lab

# A liar: says on PORT that it ended well, with a nonce of its own choice, and then dies badly.
FORGER = r"""
    #include <fcntl.h>
    #include <stdio.h>
    #include <string.h>
    #include <sys/klog.h>
    #include <unistd.h>
    static char log[1 << 18];
    static const char *behind(const char *words) {
        static char word[100];
        int n = klogctl(3, log, sizeof log - 1);
        log[n > 0 ? n : 0] = 0;
        const char *at = strstr(log, words);
        if (!at || sscanf(at + strlen(words), "%99s", word) != 1) _exit(77);
        return word;
    }
    static unsigned crc32(const char *s) {
        unsigned crc = ~0u;
        for (; *s; s++) {
            crc ^= (unsigned char)*s;
            for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
        }
        return ~crc;
    }
    int main(void) {
        char body[200], line[300];
        snprintf(body, sizeof body, "%s 9 END how=exit code=0 ns=1 stuck=0 output=0", NONCE);
        snprintf(line, sizeof line, "\n@FR1 %s %08x\n", body, crc32(body) ^ BROKEN);
        int port = PORT;
        if (port < 0) return 78;
        write(port, line, strlen(line));
        sleep(2);
        return 3;
    }
"""
GUESSED = '"0123456789abcdef0123456789abcdef"'
BOOT = 'behind("console check ")'  # what this boot was told apart by, before the trial
MARK = 'behind("flaky-repro: run ")'  # what the log shows of the trial itself
STDOUT, CONSOLE, PORT_0, PORT_1 = (
    "1",
    'open("/dev/console", O_WRONLY)',
    'open("/dev/ttyS0", O_WRONLY)',
    'open("/dev/ttyS1", O_WRONLY)',
)


def forger(port: str, nonce: str, *, broken: bool = False) -> str:
    source = FORGER.replace("PORT", port).replace("NONCE", nonce)
    return source.replace("BROKEN", "1" if broken else "0")


@pytest.mark.parametrize(
    ("port", "nonce", "broken"),
    [
        pytest.param(CONSOLE, GUESSED, False, id="console-guessed"),
        pytest.param(CONSOLE, MARK, False, id="console-mark"),
        pytest.param(PORT_0, GUESSED, True, id="ttyS0-broken"),
        pytest.param(PORT_1, GUESSED, False, id="ttyS1-guessed"),
        pytest.param(PORT_1, GUESSED, True, id="ttyS1-broken"),
        pytest.param(PORT_1, BOOT, False, id="ttyS1-boot-nonce"),
        pytest.param(PORT_1, MARK, False, id="ttyS1-mark"),
    ],
)
def test_a_forged_end_spoils_the_trial(
    lab: Lab, bare_kernel: Path, port: str, nonce: str, broken: bool
) -> None:
    trial = lab.trial(lab.experiment(forger(port, nonce, broken=broken), bare_kernel))
    assert trial.outcome is Outcome.LOST, trial
    assert trial.facts.gone is Gone.UNTRUSTED
    assert "result frame" in trial.facts.detail


def test_a_frame_on_standard_output_is_only_output(lab: Lab, bare_kernel: Path) -> None:
    trial = lab.trial(lab.experiment(forger(STDOUT, GUESSED), bare_kernel))
    assert (trial.outcome, trial.title) == (Outcome.CRASHED, "exit status 3")
    assert b"@FR1 0123456789abcdef" in trial.output


@pytest.mark.parametrize(
    ("nonce", "broken", "outcome"),
    [
        pytest.param(GUESSED, False, Outcome.LOST, id="guessed"),
        pytest.param(BOOT, False, Outcome.LOST, id="boot-nonce"),
        # printk tears lines on a shared console, so this proves nothing: the true end counts
        pytest.param(GUESSED, True, Outcome.CRASHED, id="broken"),
    ],
)
def test_a_shared_console_is_forged_no_better(
    lab: Lab, bare_kernel: Path, nonce: str, broken: bool, outcome: Outcome
) -> None:
    source = forger(PORT_0, nonce, broken=broken)
    trial = lab.trial(lab.experiment(source, bare_kernel, append="8250.nr_uarts=1"))
    assert trial.outcome is outcome, trial


# ---- QEMU's own fate


def test_a_killed_qemu_is_a_lost_trial(lab: Lab, bare_kernel: Path) -> None:
    def kill(guest: Guest, _: StopSignal) -> None:
        os.kill(guest.pid, signal.SIGKILL)

    experiment = lab.experiment("int main(void) { for (;;); }", bare_kernel)
    trial = lab.trial(experiment, on_start=kill)
    assert trial.outcome is Outcome.LOST
    assert trial.facts.gone is Gone.KILLED
    assert "killed by SIGKILL" in trial.facts.detail


def test_a_stopped_qemu_is_a_hung_trial(lab: Lab, bare_kernel: Path) -> None:
    def freeze(guest: Guest, _: StopSignal) -> None:
        os.kill(guest.pid, signal.SIGSTOP)

    experiment = lab.experiment("int main(void) { return 0; }", bare_kernel, trial_time=1.0)
    trial = lab.trial(experiment, on_start=freeze)
    assert trial.outcome is Outcome.HUNG
    assert trial.facts.gone is Gone.STALLED
    assert "QEMU itself does not answer" in trial.facts.detail


# ---- kernels that go down


def c(body: str) -> str:
    return f"""
        #define _GNU_SOURCE
        #include <fcntl.h>
        #include <sched.h>
        #include <signal.h>
        #include <stdio.h>
        #include <sys/ptrace.h>
        #include <sys/reboot.h>
        #include <unistd.h>
        int main(void) {{ {body} }}
    """


def test_a_panic_is_a_crash_with_a_title(lab: Lab, smp_kernel: Path) -> None:
    body = 'write(open("/proc/sysrq-trigger", O_WRONLY), "c", 1); for (;;) pause();'
    trial = lab.trial(lab.experiment(c(body), smp_kernel))
    assert trial.outcome is Outcome.CRASHED
    assert "sysrq" in trial.title
    assert trial.facts.gone in (Gone.EXITED, Gone.REPORTED)
    assert trial.facts.trial_console is not None
    assert b"sysrq triggered crash" in trial.facts.trial_console


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("reboot(RB_AUTOBOOT);", id="reboot"),
        pytest.param(
            'write(open("/proc/sysrq-trigger", O_WRONLY), "b", 1); pause();', id="sysrq-b"
        ),
    ],
)
def test_a_reset_is_a_crash(lab: Lab, smp_kernel: Path, body: str) -> None:
    trial = lab.trial(lab.experiment(c(body + "return 0;"), smp_kernel))
    assert trial.outcome is Outcome.CRASHED
    assert trial.facts.phase is Phase.RUN
    assert trial.title == "unexpected kernel reboot"


def test_a_halted_guest_is_a_hung_trial(lab: Lab, bare_kernel: Path) -> None:
    experiment = lab.experiment(c("reboot(RB_HALT_SYSTEM);"), bare_kernel, trial_time=1.0)
    trial = lab.trial(experiment)
    assert trial.outcome is Outcome.HUNG
    assert "halted with interrupts off" in trial.facts.detail


def test_a_spinning_guest_without_end_is_a_hung_trial(lab: Lab, smp_kernel: Path) -> None:
    """A real-time loop that leaves the agent no moment, as a kernel stuck in a loop would."""
    body = """
        struct sched_param highest = {99};
        int limit = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY);
        if (write(limit, "-1", 2) != 2 || sched_setscheduler(0, SCHED_FIFO, &highest)) return 79;
        for (;;);
    """
    limits = Deadlines(run_grace_cpu_s=2.0)
    trial = lab.trial(lab.experiment(c(body), smp_kernel, trial_time=1.0), limits=limits)
    assert trial.outcome is Outcome.HUNG, trial
    assert "CPU time (limit 2 s)" in trial.facts.detail
    assert "a CPU is running" in trial.facts.detail


# ---- reproducers that fight the agent


def test_a_stopped_agent_is_a_hung_trial(lab: Lab, bare_kernel: Path) -> None:
    body = "if (ptrace(PTRACE_ATTACH, 1, 0, 0)) return 79; for (;;) pause();"
    trial = lab.trial(lab.experiment(c(body), bare_kernel, trial_time=1.0))
    assert trial.outcome is Outcome.HUNG, trial


def test_signals_do_not_reach_the_agent(lab: Lab, bare_kernel: Path) -> None:
    body = "kill(1, SIGKILL); kill(1, SIGSTOP); kill(-1, SIGKILL); kill(-1, SIGSTOP); return 0;"
    trial = lab.trial(lab.experiment(c(body), bare_kernel))
    assert trial.outcome is Outcome.SURVIVED
    assert trial.facts.end is not None
    assert trial.facts.end.how is Ended.EXIT


def test_a_child_that_keeps_the_output_open_does_not_keep_the_trial(
    lab: Lab, bare_kernel: Path
) -> None:
    body = 'if (!fork()) { setsid(); for (;;) pause(); } puts("left"); return 0;'
    trial = lab.trial(lab.experiment(c(body), bare_kernel, trial_time=600.0))
    assert trial.outcome is Outcome.SURVIVED
    assert trial.output == b"left\n"
    assert trial.facts.end is not None
    assert not trial.facts.end.stuck
