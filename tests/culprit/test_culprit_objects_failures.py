"""What a failed make says, and what is made of it."""

from __future__ import annotations

import pytest

from pytest_flaky_repro.culprit.objects.failures import blamed_objects, explain
from pytest_flaky_repro.errors import UsageError

KNOWN = {"mm/gup.o", "mm/swap.o", "arch/x86/entry/vdso/vclock_gettime.o", "kernel/fork.o"}


def test_a_target_that_failed_is_blamed_with_what_was_said_of_it() -> None:
    output = (
        "  CC      mm/gup.o\n"
        "mm/gup.o: error: objtool: .text+0x1: unsupported\n"
        "make[3]: *** [/src/scripts/Makefile.build:250: mm/gup.o] Error 1\n"
        "make[3]: *** Deleting file 'mm/gup.o'\n"
        "make[2]: *** [/src/scripts/Makefile.build:500: mm] Error 2\n"
    )
    assert blamed_objects(output, KNOWN) == {
        "mm/gup.o": "mm/gup.o: error: objtool: .text+0x1: unsupported"
    }


def test_every_object_with_an_undefined_reference_is_blamed() -> None:
    output = (
        "ld: mm/swap.o: in function `release_pages':\n"
        "ld: swap.c:(.text+0x717): undefined reference to `free_zone_device_page'\n"
        "ld: kernel/fork.o:(.rodata+0x8): undefined reference to `nowhere'\n"
        "ld: lib/strange.o: in function `f':\n"
        "make[2]: *** [/src/scripts/Makefile.vmlinux:34: vmlinux] Error 1\n"
    )
    assert blamed_objects(output, KNOWN) == {
        "mm/swap.o": "does not link: undefined free_zone_device_page",
        "kernel/fork.o": "does not link: undefined nowhere",
    }


def test_a_part_that_fails_without_a_name_is_blamed_on_what_lies_beside_it() -> None:
    output = (
        "make[4]: *** [/src/arch/x86/entry/vdso/Makefile:160: "
        "arch/x86/entry/vdso/vdso64.so.dbg] Error 1\n"
    )
    assert blamed_objects(output, KNOWN) == {
        "arch/x86/entry/vdso/vclock_gettime.o": (
            "arch/x86/entry/vdso/vdso64.so.dbg could not be made with it"
        )
    }


@pytest.mark.parametrize(
    ("output", "package"),
    [
        ("/bin/sh: 1: flex: not found", "flex"),
        ("bison: command not found", "bison"),
        ("fatal error: gelf.h: No such file or directory", "libelf-dev"),
        ("fatal error: openssl/bio.h: No such file or directory", "libssl-dev"),
        ("/bin/sh: 1: bc: not found", "bc"),
        ("/bin/sh: 1: lz4c: not found", "lz4"),
    ],
)
def test_a_missing_tool_is_an_error_that_names_its_package(output: str, package: str) -> None:
    error = explain(output, "configure the kernel", "make.log")
    assert isinstance(error, UsageError)
    assert str(error) == f"could not configure the kernel: install {package} (make.log)"


def test_a_source_that_was_built_in_is_said_with_its_mend() -> None:
    error = explain("*** The source tree is not clean, please run 'make mrproper'", "build", "log")
    assert isinstance(error, UsageError)
    assert "make mrproper" in str(error)


def test_anything_else_shows_the_end_of_what_make_printed() -> None:
    text = str(explain("\n".join(f"line {n}" for n in range(100)), "build", "make.log"))
    assert text.startswith("could not build; the end of make.log:\nline 80\n")
    assert text.endswith("line 99")
