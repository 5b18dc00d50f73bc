"""A guest is hostile: what QEMU may do, and what becomes of the names and sizes it meets."""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, folder_name
from pytest_flaky_repro.machine.argv import Wires, qemu_argv
from pytest_flaky_repro.machine.guest import Guest
from pytest_flaky_repro.machine.kernel_image import read_kernel
from pytest_flaky_repro.machine.spec import Accel, Emulator, GuestSpec, memory_files
from pytest_flaky_repro.machine.stop import StopSignal
from pytest_flaky_repro.report import sentences

if TYPE_CHECKING:
    from tests.faults.conftest import Stage

OVERRIDES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
names = st.text(st.characters(codec="utf-8"), max_size=300)


# ---- QEMU's command line, and QEMU itself


def argv_of(emulator: Emulator, append: str = "") -> list[str]:
    kernel, initramfs = memory_files(b"", b"")
    with GuestSpec(kernel, initramfs, Accel.TCG, append=append) as spec:
        return qemu_argv(emulator, spec, "0" * 16, Wires(3, 4, 5))


def test_the_command_line_opens_nothing(emulator: Emulator) -> None:
    argv = argv_of(emulator)
    pairs = dict(pairwise(argv))
    assert emulator.sandbox, "this QEMU was built without seccomp"
    assert pairs["-sandbox"] == (
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
    )
    assert pairs["-nic"] == "none"
    assert {"-nodefaults", "-no-user-config", "-no-reboot"} <= set(argv)
    forbidden = ("virtfs", "fsdev", "drive", "hda", "usb", "netdev", "vnc", "spice", "device")
    assert not [word for word in argv if word.lstrip("-").startswith(forbidden)]
    assert not [word for word in argv if "path=" in word or "host" in word]


@given(append=names.filter(lambda text: "\0" not in text))
@example(append='" -drive file=/etc/shadow "')
@example(append="x\n-monitor stdio")
def test_words_for_the_kernel_stay_words_for_the_kernel(emulator: Emulator, append: str) -> None:
    argv, plain = argv_of(emulator, append), argv_of(emulator)
    assert len(argv) == len(plain)
    changed = [a for a, b in zip(argv, plain, strict=True) if a != b]
    assert all(append in word for word in changed)


@contextmanager
def running(emulator: Emulator, kernel: Path, stage: Stage) -> Iterator[Guest]:
    """A guest that is booting."""
    images = memory_files(read_kernel(kernel).content, b"")
    with (
        closing(StopSignal()) as stop,
        GuestSpec(*images, Accel.TCG, memory_mib=64) as spec,
        stage.slots.acquire(1, 64, stop) as slot,
    ):
        assert slot is not None
        guest = Guest(emulator, spec, stop=stop, keep_open=slot.descriptors)
        try:
            while b"qemu" not in Path(f"/proc/{guest.pid}/cmdline").read_bytes().split(b"\0")[0]:
                os.sched_yield()
            while not guest.console.total:
                guest._pump(guest._clock(100.0))
            yield guest
        finally:
            guest.kill()


def test_a_running_qemu_holds_no_file_of_the_host(
    emulator: Emulator, bare_kernel: Path, stage: Stage
) -> None:
    """Its images are memory, its wires are sockets without a name; and seccomp filters it."""
    with running(emulator, bare_kernel, stage) as guest:
        status = Path(f"/proc/{guest.pid}/status").read_text()
        targets = [str(fd.readlink()) for fd in Path(f"/proc/{guest.pid}/fd").iterdir()]
        listening = [
            table.read_text()
            for table in (Path(f"/proc/{guest.pid}/net/{name}") for name in ("tcp", "udp", "unix"))
        ]
    assert "Seccomp:\t2" in status
    files = [t for t in targets if t.startswith("/") and not t.startswith(("/memfd:", "/dev/null"))]
    assert [t for t in files if not t.startswith(str(stage.folder / "slots"))] == []
    sockets = {t.removeprefix("socket:[").rstrip("]") for t in targets if t.startswith("socket:")}
    assert len(sockets) == 3
    for line in listening[0].splitlines()[1:] + listening[1].splitlines()[1:]:
        assert line.split()[9] not in sockets
    for line in listening[2].splitlines()[1:]:
        words = line.split()
        assert words[6] not in sockets or len(words) == 7  # connected, and bound to no path


# ---- names


@given(names)
@example("../../etc/passwd")
@example("a\nb\0c")
@example("x" * 300)
@example("..")
@example("")
def test_a_name_becomes_one_harmless_folder(name: str) -> None:
    made = folder_name(name)
    assert Path(made).name == made
    assert made not in (".", "..")
    assert made.isascii()
    assert made.isprintable()
    assert "/" not in made
    assert not made.startswith((".", "-"))
    assert len(made) < 120


@given(st.lists(names, unique=True, max_size=20))
def test_two_names_are_two_folders(several: list[str]) -> None:
    assert len({folder_name(name) for name in several}) == len(several)


@given(names)
def test_what_is_shown_controls_no_terminal(name: str) -> None:
    for letter in sentences.printable(name):
        assert unicodedata.category(letter) != "Cc" or letter in "\n\t"
        assert unicodedata.bidirectional(letter) not in OVERRIDES


def test_evidence_is_made_inside_its_folder(tmp_path: Path) -> None:
    """The item and the kernel of a plan are data: no file is called after them."""
    folder = tmp_path / "evidence"
    writer = EvidenceWriter(folder, PlanRecord("e", {}, "../../x\n", "../\0k"))
    writer.keep_console(3, b"\0")
    writer.close()
    slots = tmp_path / "slots"  # the census's
    made = {path.parent for path in tmp_path.rglob("*") if path.is_file()} - {slots}
    assert made == {folder}
    assert all(stat.S_ISREG(path.lstat().st_mode) for path in folder.iterdir())


@pytest.mark.parametrize("name", ["../../x", "a\nb", "x" * 300, "-rf", "\u202e"])
def test_kernel_ids_reach_no_path(stage: Stage, name: str) -> None:
    item = f"test_x.py::test_x[{name}]"
    target = stage.folder / "evidence" / folder_name(item)
    writer = EvidenceWriter(target, PlanRecord("e", {}, item, name))
    writer.close()
    assert target.parent == stage.folder / "evidence"
    assert [path.parent for path in target.iterdir()] == [target]
