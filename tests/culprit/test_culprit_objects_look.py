"""Looking at an object's two variants."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.objects.disassembly import (
    Function,
    differences,
    disassemble,
    parse,
    side_by_side,
)
from pytest_flaky_repro.culprit.objects.look import look_at
from pytest_flaky_repro.culprit.objects.pairs import Pair
from pytest_flaky_repro.culprit.objects.store import ObjectStore
from pytest_flaky_repro.errors import UsageError

SOURCE = """
int other(int);
static int inner(int x) { return other(x) + 1; }
int outer(int x) { return inner(x) * 3; }
int same(void) { return 1; }
"""
STORY_FLAGS = ["-fno-inline", "-fstack-check", "-mpreferred-stack-boundary=4"]
LISTING = """
x.o:     file format elf64-x86-64


Disassembly of section .text:

0000000000000000 <probing>:
   0:\tpush   %rbp
   1:\tsub    $0x1000,%rsp
   8:\torq    $0x0,(%rsp)
   d:\tadd    $0x1000,%rsp
  14:\tcall   19 <probing+0x19>
\t\t\t15: R_X86_64_PLT32\tother-0x4
  19:\tje     8 <probing+0x8>
  1b:\tret

0000000000000020 <plain>:
  20:\tmov    0x0(%rip),%eax        # 26 <plain+0x6>
\t\t\t22: R_X86_64_PC32\tcounter-0x4
  26:\torl    $0x0,(%rax)
  29:\tret
"""


def compiled(folder: Path, name: str, *flags: str) -> Path:
    source = folder / "x.c"
    source.write_text(SOURCE)
    made = folder / f"{name}.o"
    subprocess.run(["gcc", "-O2", "-c", "-o", made, source, *flags], check=True)
    return made


def test_functions_are_read_without_what_only_says_where_they_lie() -> None:
    functions = parse(LISTING)
    assert list(functions) == ["probing", "plain"]
    assert functions["probing"].instructions == (
        *("push %rbp", "sub $0x1000,%rsp", "orq $0x0,(%rsp)", "add $0x1000,%rsp"),
        *("call [other-0x4]", "je <probing>", "ret"),
    )
    assert functions["plain"].instructions[0] == "mov 0x0(%rip),%eax [counter-0x4]"


def test_stack_use_and_probes_are_counted() -> None:
    functions = parse(LISTING)
    assert (functions["probing"].stack, functions["probing"].probes) == (8 + 0x1000, 1)
    assert (functions["plain"].stack, functions["plain"].probes) == (0, 0)


@pytest.mark.parametrize(
    ("text", "probes"),
    [
        ("orq $0x0,(%rsp)", 1),
        ("orl $0x0,(%esp)", 1),
        ("orq $0x0,-0x1038(%rsp)", 1),
        ("orq $0x0,(%rsp,%rax,1)", 1),
        ("orq $0x1,(%rsp)", 0),
        ("orq $0x0,(%rax)", 0),
    ],
)
def test_a_probe_is_an_or_with_zero_at_the_stack_pointer(text: str, probes: int) -> None:
    assert Function("f", (text,)).probes == probes


def test_functions_that_are_the_same_are_not_shown() -> None:
    functions = parse(LISTING)
    assert differences(functions, functions) == []


def test_the_story_s_flags_put_a_probe_into_a_function_that_was_inlined(tmp_path: Path) -> None:
    good = disassemble(compiled(tmp_path, "good"))
    bad = disassemble(compiled(tmp_path, "bad", *STORY_FLAGS))
    first, *others = differences(good, bad)
    assert first.bad is not None
    assert first.bad.probes > 0
    assert "same" not in [difference.name for difference in (first, *others)]
    assert any("orq $0x0,(%rsp)" in line for line in side_by_side(first))


def test_a_function_that_was_inlined_is_shown_beside_what_it_was_inlined_into() -> None:
    good = {"outer": Function("outer", ("mov $0x1,%eax", "ret"))}
    bad = {
        "inner": Function("inner", ("mov $0x1,%eax", "ret")),
        "middle": Function("middle", ("jmp <inner>",)),
        "outer": Function("outer", ("call [middle-0x4]", "ret")),
    }
    shown = {difference.name: difference for difference in differences(good, bad)}
    assert shown["inner"].host == good["outer"]
    assert list(side_by_side(shown["inner"])) == [
        f"{text:46}   {text}" for text in ("mov $0x1,%eax", "ret")
    ]


def test_sides_are_marked_where_they_differ() -> None:
    (found,) = differences(
        {"f": Function("f", ("a", "b", "c"))}, {"f": Function("f", ("a", "x", "c", "d"))}
    )
    assert [line[47:].strip() for line in side_by_side(found)] == ["a", "! x", "c", "> d"]


def test_a_look_names_functions_stack_and_probes_and_keeps_all_of_it(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "store")
    good, bad = (
        store.put(compiled(tmp_path, name, *flags))
        for name, flags in (("good", []), ("bad", STORY_FLAGS))
    )
    listing = tmp_path / "listing.txt"
    look = look_at(Pair("x.o", good, bad), store, listing)
    assert any("orq $0x0,(%rsp)" in line for line in look.lines)
    assert "orq $0x0,(%rsp)" in listing.read_text()
    assert any(record["bad"] and record["bad"]["probes"] for record in look.data["functions"])


def test_what_is_no_object_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.o").write_text("text")
    with pytest.raises(UsageError, match="objdump could not disassemble it"):
        disassemble(tmp_path / "x.o")
