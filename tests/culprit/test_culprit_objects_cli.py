"""Wrong use of ``flaky-repro culprit objects``: each error names what to change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from pytest_flaky_repro.cli import main


class Toy(Protocol):
    """The fixture's class: test modules cannot import it."""

    folder: Path
    source: Path

    def write(self, **more: str) -> None: ...


Call = Callable[..., str]


@pytest.fixture
def call(toy: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.chdir(toy.folder)
    (toy.folder / "race.c").write_text("int main(void) { return 0; }\n")

    def call(*words: str, status: int = 2, bad: str = "-DBAD") -> str:
        given = ["--source", "source", "--build", "build", f"--bad-flags={bad}"]
        given += ["--reproducer", "race.c", *words]
        assert main(["culprit", "objects", *given]) == status
        return capsys.readouterr().err

    return call


def test_variants_that_are_the_same(call: Call) -> None:
    assert "give other flags with --bad-flags, or another compiler with --bad-cc" in call(bad="")


def test_a_source_that_is_none(call: Call) -> None:
    assert "--source build: expected a kernel's source tree" in call("--source", "build")


def test_a_build_without_a_configuration(call: Call) -> None:
    assert "--build source: expected the folder of a configured build" in call("--build", "source")


def test_a_source_that_was_built_in(call: Call, toy: Toy) -> None:
    (toy.source / ".config").touch()
    said = call()
    assert "--source source: it was built in" in said
    assert "make mrproper" in said


def test_a_folder_that_kbuild_cannot_use(call: Call) -> None:
    assert "--work two words: kbuild wants a path without blanks" in call("--work", "two words")


@pytest.mark.parametrize("option", ["LTO_CLANG=y", "LTO_CLANG_THIN=y", "LTO_GCC=y"])
def test_link_time_optimisation_is_refused_with_the_reason(
    call: Call, toy: Toy, option: str
) -> None:
    (toy.folder / "build" / ".config").write_text(f"CONFIG_{option}\n")
    assert "the linker compiles all of them together" in call()


def test_link_time_optimisation_in_the_flags_is_refused(call: Call) -> None:
    assert "-flto in the flags" in call(bad="-flto")


def test_a_compiler_that_is_not_there(call: Call) -> None:
    assert "--bad-cc 'no-such-gcc': expected a compiler" in call("--bad-cc", "no-such-gcc")


def test_flags_with_an_open_quote(call: Call) -> None:
    assert "expected words as a shell reads them" in call(bad="-DX='")


def test_variants_without_a_difference(call: Call) -> None:
    assert "no object differs: 5 are the same" in call(bad="-DNOTHING")


def test_flags_that_no_compiler_knows(call: Call) -> None:
    said = call(bad="-fno-such-flag")
    assert "no object differs: 0 are the same" in said
    assert "5 times: does not compile: unrecognized command-line option" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reproducer", "none.c"), "cannot read the reproducer"),
        (("--smp", "0"), "--smp: expected a whole number from 1 up"),
        (("--env", "WORD"), "--env WORD: expected NAME=VALUE"),
        (("--trial-time", "auto"), "--trial-time auto: expected a positive number of seconds"),
        (("--qemu", "no-such-qemu"), "--qemu no-such-qemu: no such program"),
    ],
)
def test_what_is_wrong_with_the_trials_is_said_before_anything_is_built(
    call: Call, toy: Toy, words: tuple[str, ...], said: str
) -> None:
    assert said in call("--work", "work", *words)
    assert not (toy.folder / "work").exists()


def test_globs_that_leave_nothing(call: Call) -> None:
    assert "leave none of the 5 objects, from core/a.o" in call("--only", "mm/*")


def test_a_build_that_fails(call: Call, toy: Toy) -> None:
    toy.write(core_a="#error this is broken anyway\n")
    said = call()
    assert "could not build the good kernel" in said
    assert "#error this is broken anyway" in said


def test_a_negative_number_of_jobs(call: Call) -> None:
    assert "--build-jobs -1: expected a number of jobs" in call("--build-jobs", "-1")
