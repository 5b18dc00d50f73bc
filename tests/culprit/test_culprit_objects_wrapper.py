"""The compiler wrapper: which calls are candidates, and what becomes of them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.objects import SCRIPT
from pytest_flaky_repro.culprit.objects.wrapper import Files, Variant, environment, read_log
from pytest_flaky_repro.errors import UsageError

KERNEL = "-Wp,-MMD,kernel/.fork.o.d -D__KERNEL__ -O2 -c -o kernel/fork.o /src/kernel/fork.c"
# prints what it is called with, and fails when told to refuse
COMPILER = """#!/bin/sh
for word; do
    printf '%s|' "$word"
    case $word in --refuse) echo 'fork.c:1: error: not with this flag' >&2; exit 1 ;; esac
done
"""


@dataclass
class Wrapped:
    """The wrapper around compilers that print their words instead of compiling."""

    folder: Path
    good_flags: str = ""
    bad_flags: str = "--bad"

    @property
    def files(self) -> Files:
        return Files(self.folder / "work")

    def compiler(self, name: str) -> str:
        path = self.folder / name
        path.write_text(COMPILER.replace("for word", f"printf '%s|' {name}\nfor word"))
        path.chmod(0o755)
        return str(path)

    def call(self, *words: str, bad: tuple[str, ...] = ()) -> list[str]:
        """The compiler that was called, and its words."""
        self.files.install()
        self.files.want_bad(bad)
        good = Variant(self.compiler("good-cc"), self.good_flags)
        own = environment(self.files, good, Variant(self.compiler("bad-cc"), self.bad_flags))
        done = subprocess.run(
            [str(self.files.script), *words], env={**os.environ, **own}, cwd=self.folder,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.split("|")[:-1]


@pytest.fixture
def wrapped(tmp_path: Path) -> Wrapped:
    return Wrapped(tmp_path)


def logged(wrapped: Wrapped) -> list[tuple[str, str, str]]:
    return [(c.wanted, c.got, c.name) for c in read_log(wrapped.files.log)]


def test_a_good_object_is_compiled_as_kbuild_says(wrapped: Wrapped) -> None:
    words = shlex.split(KERNEL)
    assert wrapped.call(*words) == ["good-cc", *words]
    assert logged(wrapped) == [("good", "good", "kernel/fork.o")]


def test_a_bad_object_gets_the_other_compiler_and_its_flags_behind_all_others(
    wrapped: Wrapped,
) -> None:
    words = shlex.split(KERNEL)
    assert wrapped.call(*words, bad=("kernel/fork.o",)) == ["bad-cc", *words, "--bad"]
    assert logged(wrapped) == [("bad", "bad", "kernel/fork.o")]


def test_good_objects_have_flags_of_their_own(wrapped: Wrapped) -> None:
    wrapped.good_flags = "--good"
    assert wrapped.call(*shlex.split(KERNEL))[-1] == "--good"


def test_quotes_and_dollars_in_flags_arrive_as_they_were_given(wrapped: Wrapped) -> None:
    wrapped.bad_flags = "-DTEXT='\"two words $HOME\"' '*'"
    called = wrapped.call(*shlex.split(KERNEL), "-DX=a b", bad=("kernel/fork.o",))
    assert called[-3:] == ["-DX=a b", '-DTEXT="two words $HOME"', "*"]


def test_an_object_that_does_not_compile_bad_is_compiled_good_and_it_is_said_why(
    wrapped: Wrapped,
) -> None:
    wrapped.bad_flags = "--refuse"
    called = wrapped.call(*shlex.split(KERNEL), bad=("kernel/fork.o",))
    assert "good-cc" in called
    assert logged(wrapped) == [("bad", "good", "kernel/fork.o")]
    said = (wrapped.files.errors / "kernel/fork.o").read_text()
    assert said == "fork.c:1: error: not with this flag\n"


@pytest.mark.parametrize(
    "call",
    [
        "--version",
        "-print-file-name=plugin",
        "-E -D__KERNEL__ -c -o kernel/fork.o /src/kernel/fork.c",
        "-S -D__KERNEL__ -c -o kernel/fork.o /src/kernel/fork.c",
        "-D__KERNEL__ -c -x c /dev/null -o .tmp_1/tmp",
        "-D__KERNEL__ -c -o kernel/head.o /src/kernel/head.S",
        "-O2 -c -o scripts/fixdep.o /src/scripts/fixdep.c",
        "-D__KERNEL__ -DMODULE -c -o fs/ext4.o /src/fs/ext4.c",
        "-D__KERNEL__ -c -o kernel/.tmp_fork.o /src/kernel/fork.c",
        "-D__KERNEL__ -c -o init/version.o /src/init/version.c",
        "-D__KERNEL__ -c -o init/version-timestamp.o /src/init/version-timestamp.c",
        "-D__KERNEL__ -c -o arch/x86/boot/compressed/misc.o /src/arch/x86/boot/compressed/misc.c",
        "-D__KERNEL__ -c -o entry/vdso/vdso-image-64.o entry/vdso/vdso-image-64.c",
        "-D__KERNEL__ -o vdso.so.dbg /src/a.c /src/b.c",
    ],
)
def test_what_is_no_object_of_the_kernel_is_compiled_by_the_good_compiler_alone(
    wrapped: Wrapped, call: str
) -> None:
    words = call.split()
    everything = tuple(word for word in words if word.endswith(".o"))
    assert wrapped.call(*words, bad=everything) == ["good-cc", *words]
    assert logged(wrapped) == []


def test_sources_generated_in_the_object_tree_are_told_by_their_path_absolute_or_not(
    wrapped: Wrapped,
) -> None:
    generated = wrapped.folder / "lib" / "table.c"
    wrapped.call("-D__KERNEL__", "-c", "-o", "lib/table.o", str(generated), bad=("lib/table.o",))
    assert logged(wrapped) == []
    wrapped.call("-D__KERNEL__", "-c", "-o", "lib/sort.o", "../lib/sort.c", bad=("lib/sort.o",))
    assert logged(wrapped) == [("bad", "bad", "lib/sort.o")]


def test_absolute_object_names_are_the_tree_s_own_ones(wrapped: Wrapped) -> None:
    wrapped.call("-D__KERNEL__", "-c", "-o", str(wrapped.folder / "m/x.o"), "/src/m/x.c")
    assert logged(wrapped) == [("good", "good", "m/x.o")]


def test_the_environment_of_vmlinux_s_link_is_captured_for_repeating_it(wrapped: Wrapped) -> None:
    os.environ["KBUILD_LDFLAGS_OF_THIS_TEST"] = "-z 'no exec'"
    try:
        wrapped.call("-D__KERNEL__", "-c", "-o", "init/version-timestamp.o", "/s/init/v.c")
    finally:
        del os.environ["KBUILD_LDFLAGS_OF_THIS_TEST"]
    shell = f'. {wrapped.files.capture}; printf %s "$KBUILD_LDFLAGS_OF_THIS_TEST"'
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True, env={})
    assert done.stdout == "-z 'no exec'"


def test_a_line_torn_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("good\tgood\ta.o\t/s/a.c\nbad\tba")
    assert [c.name for c in read_log(tmp_path / "log")] == ["a.o"]


def test_unbalanced_quotes_in_flags_are_an_error() -> None:
    with pytest.raises(UsageError, match="expected words as a shell reads them"):
        Variant("gcc", "-DX='a")


def test_the_wrapper_is_a_command_too(tmp_path: Path) -> None:
    (tmp_path / "f.c").write_text("int f(void) { return FORTY + 2; }\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "f.o").touch()
    own = {
        "FLAKY_REPRO_CC_GOOD": "gcc",
        "FLAKY_REPRO_CC_BAD_FLAGS": "-DFORTY=40",
        "FLAKY_REPRO_CC_BAD_OBJECTS": str(tmp_path / "bad"),
    }
    (tmp_path / "tree").mkdir()
    command = [sys.executable, "-m", "pytest_flaky_repro", "cc"]
    done = subprocess.run(
        [*command, "-D__KERNEL__", "-c", "-o", "f.o", str(tmp_path / "f.c")],
        cwd=tmp_path / "tree", env={**os.environ, **own}, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert (tmp_path / "tree" / "f.o").exists()
    told = subprocess.run([*command, "--wrapper"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == str(SCRIPT)
