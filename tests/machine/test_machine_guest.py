"""Real guests: what they say of themselves, and how a program's end is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.crash import Phase
from pytest_flaky_repro.machine.conversation import Ended, Gone
from pytest_flaky_repro.machine.trial import Fault
from pytest_flaky_repro.outcomes import Outcome

if TYPE_CHECKING:
    from tests.machine.conftest import Lab

NOTHING = "int main(void) { return 0; }"


def test_a_guest_says_what_it_is(lab: Lab, bare_kernel: Path) -> None:
    with lab.guest(lab.experiment(NOTHING, bare_kernel)) as (guest, _):
        ready = guest.boot()
        assert (ready.cpus, ready.port) == (1, "ttyS1")
        assert ready.release.startswith("6.1.")
        assert 128 << 20 < ready.memory < 256 << 20
        assert ready.has_kmsg
        assert ready.messages_seen
        guest.leave()
        assert guest.exit_detail == "QEMU exited with status 0 (shutdown reason: guest-reset)"


def test_both_cpus_are_shown(lab: Lab, smp_kernel: Path) -> None:
    trial = lab.trial(lab.experiment(NOTHING, smp_kernel, smp=2))
    assert trial.outcome is Outcome.SURVIVED


def test_one_cpu_of_two_is_no_trial(lab: Lab, bare_kernel: Path) -> None:
    trial = lab.trial(lab.experiment(NOTHING, bare_kernel, smp=2))
    assert trial.outcome is Outcome.INFRASTRUCTURE
    assert trial.facts.fault is Fault.SETUP
    assert "shows 1 CPU(s), --repro-smp asked for 2" in trial.facts.detail


def test_exit_0_is_a_survival(lab: Lab, bare_kernel: Path) -> None:
    trial = lab.trial(lab.experiment(NOTHING, bare_kernel))
    assert trial.outcome is Outcome.SURVIVED
    assert trial.facts.phase is Phase.END


@pytest.mark.parametrize(
    ("body", "how", "code", "title"),
    [
        ("return 3;", Ended.EXIT, 3, "exit status 3"),
        ("*(volatile int *)0 = 1; return 0;", Ended.SIGNAL, 11, "SIGSEGV in reproducer"),
    ],
)
def test_how_a_program_ended_is_told(
    lab: Lab, bare_kernel: Path, body: str, how: Ended, code: int, title: str
) -> None:
    trial = lab.trial(lab.experiment(f"int main(void) {{ {body} }}", bare_kernel))
    assert trial.outcome is Outcome.CRASHED
    assert trial.title == title
    assert trial.facts.end is not None
    assert (trial.facts.end.how, trial.facts.end.code) == (how, code)


@pytest.mark.parametrize("body", ["for (;;);", "for (;;) pause();"])
def test_a_program_whose_time_is_over_survived(lab: Lab, bare_kernel: Path, body: str) -> None:
    source = f"#include <unistd.h>\nint main(void) {{ {body} }}"
    trial = lab.trial(lab.experiment(source, bare_kernel, trial_time=1.0))
    assert trial.outcome is Outcome.SURVIVED
    assert trial.facts.end is not None
    assert trial.facts.end.how is Ended.TIME
    assert trial.facts.end.seconds >= 1.0


def test_a_program_that_cannot_start_is_no_trial(lab: Lab, bare_kernel: Path) -> None:
    """Its interpreter is not there, and the guest says so."""
    from dataclasses import replace

    experiment = lab.experiment(NOTHING, bare_kernel)
    missing = replace(experiment.payload, argv=("/repro/not-there",))
    trial = lab.trial(replace(experiment, payload=missing))
    assert trial.outcome is Outcome.INFRASTRUCTURE
    assert trial.facts.fault is Fault.SETUP
    assert "ENOENT" in trial.facts.detail


def test_a_megabyte_of_output_is_kept_at_both_ends(lab: Lab, bare_kernel: Path) -> None:
    source = """
        #include <stdio.h>
        int main(void) { for (int i = 0; i < 65536; i++) printf("line %010d\\n", i); return 0; }
    """
    output = lab.trial(lab.experiment(source, bare_kernel)).output
    assert output.startswith(b"line 0000000000\nline 0000000001\n")
    assert output.endswith(b"line 0000065534\nline 0000065535\n")
    left_out = (1 << 20) - 8192 - 16384
    assert b"\n[flaky-repro: %d bytes of output left out here]\n" % left_out in output
    assert len(output) < 30_000


def test_any_bytes_are_output(lab: Lab, bare_kernel: Path) -> None:
    source = """
        #include <stdio.h>
        int main(void) { for (int i = 0; i < 2048; i++) putchar(i); return 0; }
    """
    assert lab.trial(lab.experiment(source, bare_kernel)).output == bytes(range(256)) * 8


def test_a_flood_of_output_does_not_outlast_the_trial(lab: Lab, smp_kernel: Path) -> None:
    """On two CPUs a writer can keep its pipe full for ever: the clock is looked at all the same."""
    source = """
        #include <string.h>
        #include <unistd.h>
        int main(void) {
            static char page[65536];
            memset(page, 'x', sizeof page);
            for (;;) write(1, page, sizeof page);
        }
    """
    trial = lab.trial(lab.experiment(source, smp_kernel, smp=2, trial_time=2.0))
    assert trial.outcome is Outcome.SURVIVED, trial.facts.detail
    assert trial.facts.end is not None
    assert trial.facts.end.seconds < 4.0


def test_the_environment_arrives_whole(lab: Lab, bare_kernel: Path) -> None:
    source = """
        #include <stdio.h>
        #include <stdlib.h>
        int main(void) { printf("%s %s", getenv("LONG"), getenv("REPRO_SEED")); return 0; }
    """
    long = "x" * 7000
    experiment = lab.experiment(source, bare_kernel, environment=(f"LONG={long}",))
    assert lab.trial(experiment).output == f"{long} 5eed".encode()


def test_no_two_trials_share_their_entropy(lab: Lab, bare_kernel: Path) -> None:
    """The same seed gives the pool the same bytes, but a guest has some of its own."""
    source = """
        #include <stdio.h>
        #include <fcntl.h>
        #include <unistd.h>
        int main(void) {
            unsigned long v;
            if (read(open("/dev/urandom", O_RDONLY), &v, sizeof v) != sizeof v) return 1;
            printf("%lx", v);
            return 0;
        }
    """
    experiment = lab.experiment(source, bare_kernel)
    assert lab.trial(experiment).output != lab.trial(experiment).output


def test_frames_go_over_the_console_where_there_is_one_port(lab: Lab, bare_kernel: Path) -> None:
    source = """
        #include <stdio.h>
        int main(void) { puts("over the console"); return 4; }
    """
    experiment = lab.experiment(source, bare_kernel, append="8250.nr_uarts=1")
    with lab.guest(experiment) as (guest, _):
        assert guest.boot().port == "console"
    trial = lab.trial(experiment)
    assert trial.outcome is Outcome.CRASHED
    assert trial.title == "exit status 4"
    assert trial.output == b"over the console\n"
    assert b"@FR1 " in trial.facts.console


def test_two_ports_keep_the_console_free_of_frames(lab: Lab, bare_kernel: Path) -> None:
    trial = lab.trial(lab.experiment(NOTHING, bare_kernel))
    assert b"@FR1 " not in trial.facts.console


def test_a_kernel_that_cannot_speak_is_no_trial(lab: Lab, bare_kernel: Path) -> None:
    trial = lab.trial(lab.experiment(NOTHING, bare_kernel, append="8250.nr_uarts=0"))
    assert trial.outcome is Outcome.BOOT_FAILED
    assert trial.facts.fault is Fault.SETUP
    assert "CONFIG_SERIAL_8250_CONSOLE" in trial.facts.detail


def test_a_kernel_whose_messages_are_not_seen_is_no_trial(
    lab: Lab, no_console_kernel: Path
) -> None:
    """The agent talks over a serial port as ever; a crash report would reach nobody."""
    trial = lab.trial(lab.experiment(NOTHING, no_console_kernel))
    assert trial.outcome is Outcome.INFRASTRUCTURE
    assert trial.facts.fault is Fault.SETUP
    assert "CONFIG_SERIAL_8250_CONSOLE" in trial.facts.detail


def test_quiet_kernels_are_made_to_speak(lab: Lab, bare_kernel: Path) -> None:
    """``quiet loglevel=0`` would hide a report; the agent turns the level up again."""
    trial = lab.trial(lab.experiment(NOTHING, bare_kernel, append="quiet loglevel=0"))
    assert trial.outcome is Outcome.SURVIVED


def test_a_stop_ends_a_trial_at_once(lab: Lab, bare_kernel: Path) -> None:
    source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }"
    experiment = lab.experiment(source, bare_kernel, trial_time=1000.0)
    trial = lab.trial(experiment, on_start=lambda _, stop: stop.set())
    assert trial.facts.gone is Gone.STOPPED
    assert trial.outcome is Outcome.LOST


def test_a_guest_leaves_no_process(lab: Lab, bare_kernel: Path) -> None:
    with lab.guest(lab.experiment(NOTHING, bare_kernel)) as (guest, _):
        guest.boot()
        pid = guest.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
