"""Whatever keeps trials from teaching anything is an error or inconclusive, and never safe."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.end_to_end.conftest import Project, Tools

QUESTION = ("--repro-min-rate=0.5", "--confidence=0.9")  # four survivals would be safe


def never_safe(project: Project, *arguments: str | Path, accel: str = "tcg") -> str:
    """Runs pytest, which must not pass; its output."""
    status, text = project.pytest(*QUESTION, *arguments, accel=accel)
    assert status != 0, text
    assert not re.search(r"\bSAFE \(", text), text
    assert "Traceback" not in text, text
    assert "INTERNALERROR" not in text, text
    return text


def is_error(text: str) -> bool:
    """pytest counts it as an error, not as a failed test."""
    return "1 error" in text and "failed" not in text.splitlines()[-1]


def test_a_kernel_without_a_serial_console(
    project: Project, tools: Tools, no_console_kernel: Path
) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(project, "--kernel", no_console_kernel, "--reproducer", "ok.c")
    assert is_error(text)
    assert "CONFIG_SERIAL_8250_CONSOLE" in text


def test_a_kernel_without_initramfs_support(
    project: Project, tools: Tools, no_initrd_kernel: Path
) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(project, "--kernel", no_initrd_kernel, "--reproducer", "ok.c")
    assert is_error(text)
    assert "CONFIG_BLK_DEV_INITRD" in text


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--repro-append=rdinit=/x", "--repro-append: rdinit=/x: the kernel does not start our"),
        ("--repro-memory=8", "--repro-memory: 8 MiB: the kernel and its initramfs take"),
    ],
)
def test_a_setting_that_no_guest_starts_with(
    project: Project, tools: Tools, bare_kernel: Path, option: str, told: str
) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "ok.c", option)
    assert is_error(text)
    assert told in text


def test_not_a_kernel(project: Project, tools: Tools) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(project, "--kernel", "ok.c", "--reproducer", "ok.c")
    assert "ok.c is not a bzImage for 64-bit x86: it has no Linux boot header" in text


def test_no_such_kernel(project: Project, tools: Tools) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(project, "--kernel", "bzImage", "--reproducer", "ok.c")
    assert "bzImage: no such file" in text


def test_kvm_where_it_does_not_work(project: Project, tools: Tools, bare_kernel: Path) -> None:
    """Where it does work there is a verdict, from KVM."""
    from pytest_flaky_repro.machine.accel import probe_loop

    project.write(ok_c=tools.never)
    arguments = (*QUESTION, "--kernel", bare_kernel, "--reproducer", "ok.c")
    status, text = project.pytest(*arguments, accel="kvm")
    if status == 0:
        assert probe_loop().problem is None
        assert {record["accel"] for record in project.records()} == {"kvm"}
        return
    assert tools.verdicts(text) == []
    assert "kvm" in text
    assert "tcg" in text
    assert is_error(text)


def test_two_cpus_on_a_kernel_for_one(project: Project, tools: Tools, bare_kernel: Path) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "ok.c", "--repro-smp", "2")
    assert is_error(text)
    assert "the guest shows 1 CPU(s), --repro-smp asked for 2" in text


def test_a_missing_library(project: Project, bare_kernel: Path) -> None:
    project.write(
        lib_c="int f(void) { return 0; }", main_c="int f(void); int main(void) { return f(); }"
    )
    for command in (
        ["cc", "-shared", "-fPIC", "-o", "libgone.so", "lib.c"],
        ["cc", "-o", "main", "main.c", "-L.", "-lgone"],
    ):
        subprocess.run(command, cwd=project.folder, check=True)
    (project.folder / "libgone.so").unlink()
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "main")
    assert "libgone.so" in text


def test_a_program_that_is_not_executable(project: Project, bare_kernel: Path) -> None:
    shutil.copy("/bin/true", project.folder / "program")
    (project.folder / "program").chmod(0o644)
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "program")
    assert "chmod +x" in text


def test_a_program_for_another_architecture(project: Project, bare_kernel: Path) -> None:
    program = bytearray(Path("/bin/true").read_bytes())
    program[18:20] = (183).to_bytes(2, "little")  # EM_AARCH64
    (project.folder / "program").write_bytes(program)
    (project.folder / "program").chmod(0o755)
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "program")
    assert re.search("aarch64|AArch64|arm64", text)


def test_no_such_reproducer(project: Project, bare_kernel: Path) -> None:
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "gone.c")
    assert "gone.c" in text


def test_a_reproducer_that_does_not_compile(project: Project, bare_kernel: Path) -> None:
    project.write(bad_c="int main(void) { return undeclared; }")
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "bad.c")
    assert "undeclared" in text
    assert "does not compile" in text


def test_a_threaded_program_on_a_kernel_without_futexes(
    project: Project, bare_kernel: Path
) -> None:
    project.write(
        threads_c="""
            #include <pthread.h>
            static void *work(void *x) { return x; }
            int main(void) {
                for (int i = 0; i < 50; i++) {
                    pthread_t t;
                    if (pthread_create(&t, 0, work, 0)) return 1;
                    pthread_join(t, 0);
                }
                return 0;
            }
        """
    )
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "threads.c")
    assert "CONFIG_FUTEX" in text


def test_forged_result_lines(project: Project, tools: Tools, bare_kernel: Path) -> None:
    project.write(
        forger_c=r"""
            #include <fcntl.h>
            #include <string.h>
            #include <unistd.h>
            int main(void) {
                const char *line = "\n@FR1 0123456789abcdef 9 END how=exit code=0 ns=1 stuck=0"
                                   " output=0 01234567\n";
                const char *ports[] = {"/dev/console", "/dev/ttyS0", "/dev/ttyS1"};
                for (int i = 0; i < 3; i++) write(open(ports[i], O_WRONLY), line, strlen(line));
                return 0;
            }
        """
    )
    text = never_safe(project, "--kernel", bare_kernel, "--reproducer", "forger.c")
    assert tools.verdicts(text) == ["INFRASTRUCTURE"]
    assert "damaged or forged result frame" in text


def test_a_qemu_that_is_always_killed(project: Project, tools: Tools, bare_kernel: Path) -> None:
    marker = f"marker={project.folder.name}"
    project.write(sleeper_c=tools.sleeper)
    run = project.start(
        *QUESTION, "--kernel", bare_kernel, "--reproducer", "sleeper.c", f"--repro-append={marker}",
        "--repro-trial-time=100",
    )  # fmt: skip
    over = threading.Event()

    def kill_those_that_started() -> None:
        while not over.wait(0.1):
            started = len(project.records("start"))
            ended = len(project.records("trial"))
            for pid in tools.qemus(marker)[: max(0, started - ended)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_those_that_started)
    killer.start()
    text = run.wait()
    over.set()
    killer.join()
    assert run.process.returncode == 1
    assert tools.verdicts(text) == ["INFRASTRUCTURE"], text
    assert "killed by SIGKILL" in text
    assert is_error(text)


def test_a_full_disk_under_the_evidence(project: Project, tools: Tools, bare_kernel: Path) -> None:
    """A tmpfs of one page in a mount namespace of pytest's own: the first console fills it."""
    project.write(ok_c=tools.never)
    evidence = project.folder / "small"
    evidence.mkdir()
    user = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    script = 'mount -t tmpfs -o size=4k none "$0" && exec "$@"'
    status, text = project.pytest(
        *QUESTION, "--kernel", bare_kernel, "--reproducer", "ok.c", f"--repro-evidence={evidence}",
        wrapper=("unshare", "--mount", *user, "sh", "-c", script, str(evidence)),
    )  # fmt: skip
    assert status == 1, text
    assert not re.search(r"\bSAFE \(", text)
    assert is_error(text)
    assert f"evidence cannot be written to {evidence}" in text
    assert "No space left on device" in text
    assert "--repro-resume" in text


@pytest.mark.parametrize("qemu", ["/no/such/qemu", "/bin/true"])
def test_no_qemu(project: Project, tools: Tools, bare_kernel: Path, qemu: str) -> None:
    project.write(ok_c=tools.never)
    text = never_safe(
        project, "--kernel", bare_kernel, "--reproducer", "ok.c", f"--repro-qemu={qemu}"
    )
    assert is_error(text)
    assert qemu in text
