"""A guest that runs many commands, for ordinary tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_flaky_repro.campaign.experiment import ENVIRONMENT, Conditions, assemble
from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.guest.reproducer import Payload
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.live import LiveGuest
from pytest_flaky_repro.machine.qemu import QemuMachine
from pytest_flaky_repro.machine.slots import Capacity, Slots
from pytest_flaky_repro.machine.spec import Accel, Emulator
from pytest_flaky_repro.machine.stop import StopSignal

SHELL = ("/bin/sh",)


def machine(
    emulator: Emulator, kernel: Path, cache: Path, slots: Path, *, smp: int = 1
) -> QemuMachine:
    """With slots of its own: the guest that all tests share would wait for itself."""
    how = Conditions(smp, 256, "pc", "", 0.0)
    payload = Payload((), (), "none")
    experiment = assemble(read_kernel(kernel), payload, how, [], cache, dict(os.environ))
    spec = experiment.guest_spec(Accel.TCG)
    return QemuMachine(emulator, spec, slots=Slots(slots, Capacity(smp, 4)))


@pytest.fixture(scope="module")
def live(
    emulator: Emulator,
    smp_kernel: Path,
    user_cache: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveGuest]:
    """One guest for the tests that leave it whole."""
    folder = tmp_path_factory.mktemp("slots")
    two_cpus = machine(emulator, smp_kernel, user_cache, folder, smp=2)
    with LiveGuest(two_cpus, 2, ENVIRONMENT, SHELL) as guest:
        yield guest


def test_a_shell_line_runs(live: LiveGuest) -> None:
    done = live.run("echo one; echo two >&2; uname -r")
    assert done.status == 0
    assert done.text.splitlines()[:2] == ["one", "two"]
    assert done.text.splitlines()[2].startswith("6.1.")


def test_words_run_without_a_shell(live: LiveGuest) -> None:
    assert live.run(["/bin/echo", "a  b", "$HOME"]).text == "a  b $HOME\n"


@pytest.mark.parametrize(("line", "status"), [("exit 7", 7), ("kill -SEGV $$", 128 + 11)])
def test_a_status_is_as_a_shell_says_it(live: LiveGuest, line: str, status: int) -> None:
    done = live.run(line)
    assert (done.status, done.timed_out) == (status, False)


def test_a_command_has_a_time_limit(live: LiveGuest) -> None:
    done = live.run("echo before; sleep 1000", timeout=0.5)
    assert done.timed_out
    assert done.text == "before\n"


def test_nothing_of_a_command_is_left_for_the_next(live: LiveGuest) -> None:
    live.run("setsid sleep 1234 & sleep 1234 & sleep 0.2; echo started")
    running = live.run("cat /proc/[0-9]*/comm").text.split()
    assert "cat" in running
    assert "sleep" not in running


def test_files_are_still_there_for_the_next(live: LiveGuest) -> None:
    live.run("echo kept > /root/file")
    assert live.run("cat /root/file").text == "kept\n"


def test_both_cpus_are_there(live: LiveGuest) -> None:
    assert live.ready.cpus == 2
    assert live.run("grep -c ^processor /proc/cpuinfo").text == "2\n"


def test_a_program_that_is_not_there_is_named(live: LiveGuest) -> None:
    with pytest.raises(InfrastructureError, match=r"/no/such: .*ENOENT"):
        live.run(["/no/such"])


def test_the_console_can_be_read(live: LiveGuest) -> None:
    live.run("echo seen > /dev/kmsg")
    assert b"Linux version 6.1" in live.console
    assert b"seen" in live.console


def test_a_guest_that_dies_says_so_each_time(
    emulator: Emulator, smp_kernel: Path, user_cache: Path, tmp_path: Path
) -> None:
    with LiveGuest(
        machine(emulator, smp_kernel, user_cache, tmp_path), 1, ENVIRONMENT, SHELL
    ) as guest:
        for _ in range(2):
            with pytest.raises(InfrastructureError, match=r"the guest is gone.*(?s:.*)sysrq"):
                guest.run("echo c > /proc/sysrq-trigger")


def test_without_a_shell_a_line_is_refused(
    emulator: Emulator, bare_kernel: Path, user_cache: Path, tmp_path: Path
) -> None:
    with (
        LiveGuest(
            machine(emulator, bare_kernel, user_cache, tmp_path), 1, ENVIRONMENT, None
        ) as guest,
        pytest.raises(InfrastructureError, match="apt-get install busybox-static"),
    ):
        guest.run("true")


def test_a_kernel_that_does_not_boot_is_an_error(
    emulator: Emulator, no_initrd_kernel: Path, user_cache: Path, tmp_path: Path
) -> None:
    live = LiveGuest(
        machine(emulator, no_initrd_kernel, user_cache, tmp_path), 1, ENVIRONMENT, None
    )
    with pytest.raises(InfrastructureError, match="CONFIG_BLK_DEV_INITRD"), live:
        pass


def test_giving_up_the_wait_for_a_slot_leaves_nothing(
    emulator: Emulator, bare_kernel: Path, user_cache: Path, tmp_path: Path
) -> None:
    """Ctrl-C while another run has all the cores: the waiting thread ends too."""
    live = LiveGuest(machine(emulator, bare_kernel, user_cache, tmp_path), 1, ENVIRONMENT, None)

    def interrupted() -> None:
        raise KeyboardInterrupt

    stop = StopSignal()
    with Slots(tmp_path, Capacity(1, 4)).acquire(1, 256, stop) as slot:
        assert slot is not None
        live._answer = interrupted  # type: ignore[method-assign,assignment]
        with pytest.raises(KeyboardInterrupt), live:
            pass
        assert not live._thread.is_alive()
    stop.close()
