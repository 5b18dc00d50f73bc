"""What a *safe* verdict costs, beside the loops that people write.

    python benchmarks/peers.py --kernel bzImage [--trials 90] [--rounds 2] [--vng PATH/TO/vng]
    python benchmarks/peers.py --kernel vmlinuz --vng vng --sides "shell loop" virtme-ng

All sides in one run, in turn, on the same kernel with the same reproducer, which survives at once;
each has the same error, for which a fixed number of trials and the sequential test both need as
many survivals: with 12, a kernel that crashes in 20% of the trials is called safe with probability
at most 7%; with 90 (the plugin's own defaults), one that crashes in 5% with at most 1%.

* shell loop: ``qemu -kernel -initrd -append console=ttyS0 -smp 1`` once a trial, output searched;
* kunit-style loop: the same with the lean flags that the kernel's kunit.py uses;
* virtme-ng: ``vng --run KERNEL -- reproducer`` once a trial (with ``--vng``; the kernel needs 9p
  and virtio, its modules in /lib/modules);
* pytest-repeat: the shell loop's command as a test, ``--count``;
* this project, with each way to boot; shared boots also with ``--repro-correlation 0``, which says
  what a loop inside of one guest takes for granted: that its trials are independent.

Figures are CPU seconds (user and system, of all processes) and wall seconds, the median of the
rounds; pytest-repeat comes from the package index into a throw-away virtual environment.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

MODES = ("cold", "batch", "snapshot")
QUESTIONS = {
    12: ("--repro-min-rate=0.2", "--confidence=0.93"),
    90: ("--repro-min-rate=0.05", "--confidence=0.99"),
}
ALIKE = "--repro-correlation=0"
SURVIVOR = "int main(void) { return 0; }\n"
INIT = r"""
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) { execl("/repro", "/repro", (char *)0); _exit(127); }
    waitpid(child, &status, 0);
    printf("STATUS %d\n", status);
    fflush(stdout);
    sync();
    reboot(RB_AUTOBOOT);
}
"""
LIST = """\
dir /dev 0755 0 0
nod /dev/console 0600 0 0 c 5 1
file /init {folder}/init 0755 0 0
file /repro {folder}/survivor 0755 0 0
file /busybox {busybox} 0755 0 0
"""
REPEATED = """
import subprocess
def test_survives():
    said = subprocess.run({command!r}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    assert b"STATUS 0" in said
"""


def prepare(folder: Path) -> None:
    """The survivor, an init that runs it, and an initramfs with both and busybox."""
    for name, source in (("survivor", SURVIVOR), ("init", INIT)):
        (folder / f"{name}.c").write_text(source)
        subprocess.run(["cc", "-static", "-O2", "-o", name, f"{name}.c"], cwd=folder, check=True)
    busybox = shutil.which("busybox")
    if busybox is None:
        sys.exit("busybox is missing: apt-get install busybox-static")
    (folder / "list").write_text(LIST.format(folder=folder, busybox=busybox))
    tool = [sys.executable, "-m", "pytest_flaky_repro", "initramfs"]
    subprocess.run([*tool, "list", "--output", "initramfs"], cwd=folder, check=True)


def story_command(kernel: Path, folder: Path) -> list[str]:
    return [
        *("qemu-system-x86_64", "-kernel", str(kernel), "-initrd", str(folder / "initramfs")),
        *("-append", "console=ttyS0 panic=-1", "-smp", "1", "-m", "256"),
        *("-accel", "tcg", "-nographic", "-no-reboot"),
    ]


def kunit_command(kernel: Path, folder: Path) -> list[str]:
    return [
        *("qemu-system-x86_64", "-nodefaults", "-m", "1024", "-kernel", str(kernel)),
        *("-initrd", str(folder / "initramfs"), "-append", "console=ttyS0 panic=-1"),
        *("-no-reboot", "-nographic", "-accel", "tcg", "-serial", "stdio", "-bios", "qboot.rom"),
    ]


def loop(command: list[str], proof: bytes, trials: int) -> Callable[[], None]:
    """A fixed number of boots, one after the other, as a shell script would."""

    def run() -> None:
        for _ in range(trials):
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if proof not in done.stdout:
                sys.exit(f"{' '.join(command)} said\n{done.stdout.decode(errors='replace')}")

    return run


def virtme(vng: Path, kernel: Path, folder: Path, trials: int) -> Callable[[], None]:
    words = f"{vng} --run {kernel} --disable-kvm --force-9p --cpus 1 --memory 256M"
    inner = f"{words} -- 'sh -c \"{folder}/survivor && echo STATUS 0\"'"
    os.environ["PATH"] = f"{vng.parent}:{os.environ['PATH']}"
    return loop(["script", "-qec", inner, "/dev/null"], b"STATUS 0", trials)  # a terminal


def repeated(folder: Path, command: list[str], trials: int) -> Callable[[], None]:
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "pytest", "pytest-repeat"]
    subprocess.run(install, check=True)
    (folder / "test_repeated.py").write_text(REPEATED.format(command=command))
    words = [python, "-m", "pytest", "-q", f"--count={trials}", "test_repeated.py"]
    return pytest_run(words, folder, f"{trials} passed")


def ours(kernel: Path, folder: Path, mode: str, *question: str) -> Callable[[], None]:
    words = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--kernel={kernel}"),
        *("--reproducer=survivor", f"--repro-boot={mode}", "--repro-accel=tcg", *question),
    ]
    return pytest_run(words, folder, "SAFE (0/")


def pytest_run(words: list[str], folder: Path, proof: str) -> Callable[[], None]:
    def run() -> None:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
        if proof not in done.stdout:
            sys.exit(f"{' '.join(words)} said\n{done.stdout}{done.stderr}")

    return run


def measured(side: Callable[[], None]) -> tuple[float, float]:
    """CPU seconds and wall seconds."""
    before, began = os.times(), time.monotonic()
    side()
    after = os.times()
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kernel", type=Path, required=True)
    parser.add_argument("--trials", type=int, choices=list(QUESTIONS), default=12)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--vng", type=Path, help="virtme-ng's program")
    parser.add_argument("--sides", nargs="+", metavar="NAME", help="only these sides")
    options = parser.parse_args()
    kernel, trials = options.kernel.resolve(), options.trials
    question = QUESTIONS[trials]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        story = story_command(kernel, folder)
        sides = {
            "shell loop": loop(story, b"STATUS 0", trials),
            "kunit-style loop": loop(kunit_command(kernel, folder), b"STATUS 0", trials),
            "pytest-repeat": repeated(folder, story, trials),
            **{f"this, {mode}": ours(kernel, folder, mode, *question) for mode in MODES},
            **{
                f"this, {mode}, independent": ours(kernel, folder, mode, ALIKE, *question)
                for mode in MODES[1:]
            },
        }
        if options.vng is not None:
            sides["virtme-ng"] = virtme(options.vng.resolve(), kernel, folder, trials)
        sides = {name: sides[name] for name in options.sides or sides}
        figures: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        for _ in range(options.rounds):
            for name, side in sides.items():
                figures[name].append(measured(side))
    report(figures, trials)


def report(figures: dict[str, list[tuple[float, float]]], trials: int) -> None:
    medians = {
        name: tuple(statistics.median(column) for column in zip(*rounds, strict=True))
        for name, rounds in figures.items()
    }
    base = medians["shell loop"]
    print(f"| {trials} survivals | CPU s | of the shell loop's | wall s | of the shell loop's |")
    print("|---|---|---|---|---|")
    for name, (cpu, wall) in medians.items():
        print(f"| {name} | {cpu:.1f} | {cpu / base[0]:.2f} | {wall:.1f} | {wall / base[1]:.2f} |")


if __name__ == "__main__":
    main()
