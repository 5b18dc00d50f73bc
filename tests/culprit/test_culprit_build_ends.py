"""Whose fault a failed build is: that of what was built, or the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.build_end import BuildEnd, Obstacle, first_error, obstacle_in
from pytest_flaky_repro.errors import InfrastructureError

UNDEFINED = "ld: x.o: in function `f': undefined reference to `g'"
IN_LINKING = "ld: final link failed: bad value"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("  CC a.o\na.c:1: error: bad\nmake: *** [x] Error 1", "a.c:1: error: bad"),
        (f"{UNDEFINED}\nmake: *** [x] Error 1", UNDEFINED),
        (
            f"  LD vmlinux\n{IN_LINKING}\nmake[1]: *** [x] Error 1\nmake: *** [y] Error 2",
            IN_LINKING,
        ),
        ("make[1]: *** [x] Error 1\nmake: *** [y] Error 2", "make[1]: *** [x] Error 1"),
        ("", "(it said nothing)"),
    ],
)
def test_the_line_that_says_most_is_a_tool_s_before_make_s(said: str, line: str) -> None:
    assert first_error(said) == line


@pytest.mark.parametrize(
    "said",
    [
        "ld: final link failed: No space left on device\nmake: *** [vmlinux] Error 1",
        "as: cannot write a.o: Disk quota exceeded",
    ],
)
def test_a_full_disk_is_the_machine_s_fault(said: str) -> None:
    assert obstacle_in(said) is Obstacle.FULL


@pytest.mark.parametrize(
    "said",
    [
        "gcc: fatal error: Killed signal terminated program cc1\ncompilation terminated.",
        "gcc: internal compiler error: Killed (program cc1)",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
        "clang: error: unable to execute command: Killed",
        "Killed\nmake: *** [Makefile:3: vmlinux] Error 137",
        "make[2]: *** [scripts/Makefile.build:250: mm/gup.o] Killed",
        "make[2]: *** [scripts/Makefile.build:250: mm/gup.o] Terminated",
        "scripts/link-vmlinux.sh: line 57: 3214 Killed                  ld -o vmlinux",
    ],
)
def test_what_somebody_killed_is_the_machine_s_fault(said: str) -> None:
    assert obstacle_in(said) is Obstacle.KILLED


@pytest.mark.parametrize(
    "said",
    [
        'mm/oom_kill.c:9:5: error: no\n    9 |     pr_err("%s: Killed process %d\\n", message);',
        "collect2: fatal error: ld terminated with signal 11 [Segmentation fault]",
        "make[2]: *** [scripts/Makefile.build:250: mm/gup.o] Error 1",
    ],
)
def test_what_the_source_or_the_tool_brings_is_not(said: str) -> None:
    assert obstacle_in(said) is None


def test_the_error_shows_the_tool_s_own_line_and_the_mend(tmp_path: Path) -> None:
    end = BuildEnd(2, "ld: final link failed: No space left on device\nmake: *** [x] Error 1")
    with pytest.raises(InfrastructureError) as error:
        end.refuse_obstacles("make", tmp_path, tmp_path / "log", ", or name another with --work")
    assert str(error.value) == (
        f"the disk is full: make failed in {tmp_path}: ld: final link failed: No space left on "
        f"device ({tmp_path}/log). Free some space, or name another with --work, then go on with "
        "--resume"
    )


def test_a_build_that_succeeded_may_print_what_it_likes(tmp_path: Path) -> None:
    BuildEnd(0, "Killed\nNo space left on device").refuse_obstacles(
        "make", tmp_path, tmp_path / "log"
    )
