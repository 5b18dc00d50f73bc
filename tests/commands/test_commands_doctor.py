"""``flaky-repro doctor``: what would go wrong here, and the mend."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.commands import host_checks
from pytest_flaky_repro.guest.cpio import Directory, File, write_archive
from pytest_flaky_repro.machine import kernel_words
from pytest_flaky_repro.machine.accel import Probe
from pytest_flaky_repro.machine.spec import Emulator

Start = Callable[..., "subprocess.Popen[bytes]"]


def findings(ran: Any) -> dict[str, tuple[str, str]]:
    """State and text of each subject, from --json."""
    report = json.loads(ran.out)
    assert all(finding.keys() == {"subject", "state", "text", "mend"} for finding in report)
    return {finding["subject"]: (finding["state"], finding["text"]) for finding in report}


def test_a_host_that_can_test_kernels_is_good(
    command: Callable[..., Any], emulator: Emulator
) -> None:
    ran = command("doctor", "--json")
    found = findings(ran)
    assert ran.status == 0
    assert found.keys() == {"qemu", "kvm", "compiler", "busybox", "slots"}
    assert found["qemu"][1].startswith(f"{emulator.path} {emulator.version}, with")


def test_a_line_begins_with_its_state(command: Callable[..., Any], bare_kernel: Path) -> None:
    ran = command("doctor", "--kernel", bare_kernel)
    states = {line.split()[1]: line.split()[0] for line in ran.out.splitlines()}
    assert states["kernel:"] == "good"
    assert states["slots:"] == "good"
    assert f"kernel: {bare_kernel}: 6.1." in ran.out


def test_without_qemu_on_path_nothing_can_be_tested(start: Start, tmp_path: Path) -> None:
    process = start("doctor", "--json", environment={"PATH": str(tmp_path)})
    out, _ = process.communicate(timeout=60)
    found = {finding["subject"]: finding for finding in json.loads(out)}
    assert process.returncode == 1
    assert found["qemu"]["state"] == "blocks"
    assert "qemu-system-x86_64 was not found on PATH. Install it (apt-get" in found["qemu"]["text"]
    assert "with --qemu PATH" in found["qemu"]["text"]
    assert found["compiler"]["state"] == "blocks"
    assert "apt-get install gcc" in found["compiler"]["mend"]


@pytest.mark.parametrize(
    ("qemu", "seen"),
    [("/nowhere/qemu", "--qemu /nowhere/qemu: no such program"), ("/bin/true", "like QEMU")],
)
def test_a_qemu_that_is_none_is_named(command: Callable[..., Any], qemu: str, seen: str) -> None:
    ran = command("doctor", "--json", "--qemu", qemu)
    state, text = findings(ran)["qemu"]
    assert (ran.status, state) == (1, "blocks")
    assert seen in text


@pytest.mark.parametrize(("accel", "state", "status"), [("kvm", "blocks", 1), ("auto", "note", 0)])
def test_kvm_that_does_not_work_blocks_who_demands_it(
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    accel: str,
    state: str,
    status: int,
) -> None:
    monkeypatch.setattr(host_checks, "probe_loop", lambda: Probe("there is no /dev/kvm"))
    ran = command("doctor", "--json", "--accel", accel)
    found = findings(ran)["kvm"]
    assert (ran.status, found[0]) == (status, state)
    assert found[1].startswith("there is no /dev/kvm; ")
    assert ("TCG (emulation) is used" in found[1]) == (accel != "kvm")


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"", "it is empty"),
        (b"\x7fELF" + bytes(1000), "an ELF file (a vmlinux?). Use arch/x86/boot/bzImage"),
        (b"hello\n" * 500, "it has no Linux boot header"),
    ],
)
def test_a_kernel_that_is_none_blocks(
    command: Callable[..., Any], tmp_path: Path, content: bytes, seen: str
) -> None:
    (tmp_path / "vmlinuz").write_bytes(content)
    ran = command("doctor", "--json", "--kernel", "vmlinuz", "--boot")
    found = findings(ran)
    assert (ran.status, found["kernel"][0]) == (1, "blocks")
    assert seen in found["kernel"][1]
    assert "boot" not in found


def test_a_kernel_that_was_cut_short_blocks(
    command: Callable[..., Any], bare_kernel: Path, tmp_path: Path
) -> None:
    (tmp_path / "half").write_bytes(bare_kernel.read_bytes()[:100_000])
    state, text = findings(command("doctor", "--json", "--kernel", "half"))["kernel"]
    assert state == "blocks"
    assert "it is cut short" in text


def test_a_kernel_that_is_not_there_blocks(command: Callable[..., Any]) -> None:
    ran = command("doctor", "--kernel", "nowhere")
    assert ran.status == 1
    assert "blocks  kernel: --kernel: nowhere: no such file" in ran.out


def test_a_whole_archive_is_counted(command: Callable[..., Any], tmp_path: Path) -> None:
    archive = write_archive([Directory("etc"), File("etc/motd", b"hello\n")])
    (tmp_path / "extra.cpio").write_bytes(archive)
    ran = command("doctor", "--json", "--initrd", "extra.cpio")
    assert ran.status == 0
    assert findings(ran)["initrd"] == ("good", "extra.cpio: plain, 2 entries: etc/")


@pytest.mark.parametrize(
    ("keep", "seen"), [(150, "extra.cpio: none archive at offset 0: "), (0, "the file is empty")]
)
def test_a_damaged_archive_blocks(
    command: Callable[..., Any], tmp_path: Path, keep: int, seen: str
) -> None:
    archive = write_archive([Directory("etc"), File("etc/motd", b"hello\n")])
    (tmp_path / "extra.cpio").write_bytes(archive[:keep])
    ran = command("doctor", "--json", "--initrd", "extra.cpio")
    state, text = findings(ran)["initrd"]
    assert (ran.status, state) == (1, "blocks")
    assert seen in text


def test_every_archive_is_looked_at(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello\n" * 9)
    ran = command("doctor", "--json", "--initrd", "notes.txt", "--initrd", "nowhere")
    texts = [f["text"] for f in json.loads(ran.out) if f["subject"] == "initrd"]
    assert len(texts) == 2
    assert "expected a newc cpio archive" in texts[0]
    assert texts[1] == "cannot read the archive nowhere: No such file or directory"


def test_a_boot_says_what_came_up(command: Callable[..., Any], bare_kernel: Path) -> None:
    ran = command("doctor", "--json", "--kernel", bare_kernel, "--boot", "--accel", "tcg")
    state, text = findings(ran)["boot"]
    assert (ran.status, state) == (0, "good")
    assert text.startswith("6.1.")
    assert re.search(r"ready after [0-9.]+ s, [0-9.]+ s of CPU time under tcg, 1 CPU", text)


def test_cpus_that_the_kernel_does_not_show_block(
    command: Callable[..., Any], bare_kernel: Path
) -> None:
    words = ("--boot", "--smp", "2", "--accel", "tcg")
    ran = command("doctor", "--json", "--kernel", bare_kernel, *words)
    state, text = findings(ran)["boot"]
    assert (ran.status, state) == (1, "blocks")
    assert "the guest shows 1 CPU(s), --smp asked for 2" in text
    assert "lacks CONFIG_SMP" in text


def test_a_kernel_whose_words_do_not_arrive_blocks(
    command: Callable[..., Any], no_console_kernel: Path
) -> None:
    ran = command("doctor", "--json", "--kernel", no_console_kernel, "--boot", "--accel", "tcg")
    state, text = findings(ran)["boot"]
    assert (ran.status, state) == (1, "blocks")
    assert "CONFIG_SERIAL_8250_CONSOLE" in text
    assert "--append takes the console away" in text


def test_a_guest_without_memory_blocks(command: Callable[..., Any], bare_kernel: Path) -> None:
    words = ("--boot", "--memory", "1", "--accel", "tcg")
    ran = command("doctor", "--json", "--kernel", bare_kernel, *words)
    state, text = findings(ran)["boot"]
    assert (ran.status, state) == (1, "blocks")
    assert "QEMU exited with status 1" in text


@pytest.mark.parametrize("machine", ["q36", "pc,hpte=off"])
def test_a_machine_that_qemu_does_not_know_blocks_without_a_kernel_too(
    command: Callable[..., Any], machine: str
) -> None:
    ran = command("doctor", "--json", "--machine", machine, "--accel", "tcg")
    state, text = findings(ran)["qemu"]
    assert (ran.status, state) == (1, "blocks")
    assert f"does not start what is asked of it (--machine {machine}): QEMU exited" in text
    assert command("doctor", "--machine", "q35", "--accel", "tcg").status == 0


def test_a_boot_needs_a_kernel(command: Callable[..., Any]) -> None:
    ran = command("doctor", "--boot")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "flaky-repro doctor: --boot needs a kernel to boot: --kernel PATH\n"


@pytest.mark.parametrize("option", ["--smp", "--memory"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
def test_a_bad_number_is_bad_input(command: Callable[..., Any], option: str, value: str) -> None:
    ran = command("doctor", f"{option}={value}")
    assert (ran.status, ran.out) == (2, "")
    assert f"argument {option}: expected a whole number from 1 up, got '{value}'" in ran.message


def test_an_unknown_accelerator_is_bad_input(command: Callable[..., Any]) -> None:
    ran = command("doctor", "--accel", "xen")
    assert ran.status == 2
    assert "argument --accel: invalid choice: 'xen'" in ran.message


def test_kernels_are_told_apart_by_name(
    command: Callable[..., Any], bare_kernel: Path, no_console_kernel: Path
) -> None:
    words = ("--kernel", f"old={bare_kernel}", "--kernel", f"new={no_console_kernel}")
    ran = command("doctor", "--json", "--accel", "tcg", *words)
    states = {(f["subject"], f["state"]) for f in json.loads(ran.out)}
    assert {("kernel old", "good"), ("kernel new", "good"), ("config new", "blocks")} <= states
    assert ("config old", "blocks") not in states


def test_who_did_not_ask_for_kvm_is_not_told_about_it(command: Callable[..., Any]) -> None:
    found = findings(command("doctor", "--json", "--accel", "tcg"))
    assert found["kvm"] == ("good", "not asked for: TCG (emulation)")


def test_a_guess_is_taken_back_when_the_guest_boots(
    command: Callable[..., Any], bare_kernel: Path, tmp_path: Path
) -> None:
    """An image whose texts are not the usual ones, and which works all the same."""
    (tmp_path / "kernels").mkdir()
    image = tmp_path / "kernels" / "bzImage"
    image.write_bytes(bare_kernel.read_bytes())
    words = ("--kernel", image, "--smp", "1", "--accel", "tcg", "--boot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kernel_words.MARKS, "PRINTK", b"a text that no kernel holds")
        guessed = command("doctor", "--json", *words[:-1])
        tried = command("doctor", "--json", *words)
    assert (guessed.status, findings(guessed)["words"][0]) == (1, "blocks")
    assert tried.status == 0
    assert "words" not in findings(tried)


def test_memory_that_is_not_there_blocks(command: Callable[..., Any]) -> None:
    ran = command("doctor", "--json", "--memory", "99999999", "--accel", "tcg")
    assert (ran.status, findings(ran)["slots"][0]) == (1, "blocks")


def test_the_last_line_says_what_it_comes_to(command: Callable[..., Any]) -> None:
    assert command("doctor", "--accel", "tcg").out.endswith("\nnothing blocks\n")
    said = command("doctor", "--accel", "tcg", "--kernel", "nowhere").out
    assert said.endswith("\n1 thing blocks\n")


def test_the_name_of_a_file_cannot_move_the_cursor(command: Callable[..., Any]) -> None:
    assert "\x1b" not in command("doctor", "--kernel", "a\x1b[2Jb", "--accel", "tcg").out


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        (("--initrd-alone",), "needs an archive to judge: --initrd PATH"),
        (("--initrd-alone", "--initrd", "a", "--kernel", "k", "--boot"), "leave --initrd-alone"),
    ],
)
def test_words_that_do_not_go_together_are_bad_input(
    command: Callable[..., Any], words: tuple[str, ...], seen: str
) -> None:
    ran = command("doctor", *words)
    assert ran.status == 2
    assert seen in ran.err
