"""Boot a kernel that fails on demand (lkdtm) and read what it prints: the corpus, live.

The kernel is built once, into the cache of tests/kernels/build.py; that takes some minutes.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from pytest_flaky_repro.crash import primary, read_console
from pytest_flaky_repro.guest.cpio import Directory, File, Node, NodeKind, write_archive

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc none /proc
/bin/busybox mount -t debugfs none /debug
for word in $(/bin/busybox cat /proc/cmdline); do
  case $word in lkdtm=*) kind=${word#lkdtm=};; esac
done
/bin/busybox sh -c "echo $kind > /debug/provoke-crash/DIRECT"
/bin/busybox sleep 1
/bin/busybox reboot -f
"""
EXPECTED = {
    "PANIC": "kernel panic: dumptest",
    "BUG": "kernel BUG in lkdtm_BUG",
    "WARNING": "WARNING in lkdtm_WARNING",
    "WRITE_RO": "BUG: unable to handle kernel paging request in lkdtm_WRITE_RO",
    "CORRUPT_LIST_ADD": "BUG: corrupted list in lkdtm_CORRUPT_LIST_ADD",
    "READ_AFTER_FREE": "KASAN: use-after-free Read in lkdtm_READ_AFTER_FREE",
    "ARRAY_BOUNDS": "UBSAN: array-index-out-of-bounds in lkdtm_ARRAY_BOUNDS",
    "REFCOUNT_ADD_ZERO": "WARNING: refcount bug in lkdtm_REFCOUNT_ADD_ZERO",
}


def builder() -> ModuleType:
    path = HERE.parent / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("crash_kernels_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kernel() -> Path:
    image = builder().kernel("lkdtm")
    assert isinstance(image, Path)
    return image


@pytest.fixture(scope="module")
def initrd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.fail("needs a static busybox: apt-get install busybox-static", pytrace=False)
    archive = write_archive(
        [
            *(Directory(name) for name in ("bin", "dev", "proc", "debug")),
            Node("dev/console", NodeKind.CHARACTER, 5, 1),
            File("bin/busybox", Path(busybox).read_bytes(), mode=0o755),
            File("init", INIT.encode(), mode=0o755),
        ]
    )
    path = tmp_path_factory.mktemp("guest") / "initrd"
    path.write_bytes(archive)
    return path


@pytest.mark.parametrize("kind", EXPECTED)
def test_a_failure_on_demand_is_read(kind: str, kernel: Path, initrd: Path, tmp_path: Path) -> None:
    console = tmp_path / "console"
    qemu = ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-smp", "2", "-no-reboot"]
    quiet = ["-nodefaults", "-display", "none", "-serial", f"file:{console}"]
    append = f"console=ttyS0 panic=-1 lkdtm={kind}"
    boot = ["-kernel", str(kernel), "-initrd", str(initrd), "-append", append]
    subprocess.run([*qemu, *quiet, *boot], timeout=180, check=True, stdin=subprocess.DEVNULL)
    report = primary(read_console(console.read_bytes()))
    assert report is not None
    assert report.title == EXPECTED[kind]
    assert not report.corrupted
