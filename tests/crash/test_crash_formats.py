"""Each row of the format table reads its own sample, in every dress the console gives it."""

from __future__ import annotations

import pytest

from pytest_flaky_repro.crash import CrashClass, read_console
from pytest_flaky_repro.crash.formats import TABLE, Format
from pytest_flaky_repro.crash.formats.boot import BOOT
from pytest_flaky_repro.crash.formats.unknown import UNKNOWN
from pytest_flaky_repro.crash.kinds import USER_CLASSES
from pytest_flaky_repro.crash.prefilter import NEEDLES

ALL = frozenset(CrashClass)
ROWS = [pytest.param(row, id=f"{row.kind.value}-{i}") for i, row in enumerate(TABLE)]
KERNEL = [param for param in ROWS if not param.values[0].user]  # type: ignore[union-attr]


def titles(data: bytes, classes: frozenset[CrashClass] = ALL) -> list[str]:
    return [report.title for report in read_console(data, classes=classes)]


def dressed(sample: bytes, prefix: bytes) -> bytes:
    return b"".join(prefix + line + b"\n" for line in sample.split(b"\n"))


@pytest.mark.parametrize("row", ROWS)
def test_a_sample_gives_its_title(row: Format) -> None:
    reports = read_console(row.sample, classes=ALL)
    assert [report.title for report in reports] == [row.expect]
    assert reports[0].kind is row.kind
    assert reports[0].start == 0


@pytest.mark.parametrize("row", KERNEL)
@pytest.mark.parametrize(
    "prefix", [b"[    1.234567] ", b"<4>[   12.345678][  T123] ", b"[ 1234.567890][    C0] "]
)
def test_printk_prefixes_change_nothing(row: Format, prefix: bytes) -> None:
    assert titles(dressed(row.sample, prefix)) == [row.expect]


@pytest.mark.parametrize("row", KERNEL)
def test_text_without_a_newline_in_front_changes_nothing(row: Format) -> None:
    sample = b"login: " + dressed(row.sample, b"[    1.234567] ")
    assert titles(sample) == [row.expect]


@pytest.mark.parametrize("row", ROWS)
def test_carriage_returns_change_nothing(row: Format) -> None:
    assert titles(row.sample.replace(b"\n", b"\r\n") + b"\r\n") == [row.expect]


@pytest.mark.parametrize("row", ROWS)
def test_the_prefilter_finds_every_sample(row: Format) -> None:
    assert set(row.needles) <= set(NEEDLES)
    assert any(needle in row.sample for needle in row.needles)


@pytest.mark.parametrize("row", ROWS)
def test_a_class_that_is_switched_off_is_not_reported(row: Format) -> None:
    assert titles(row.sample, ALL - {row.kind}) == []


@pytest.mark.parametrize("row", ROWS)
def test_a_header_inside_other_text_is_no_header(row: Format) -> None:
    first = row.sample.split(b"\n")[0].removeprefix(b"[    1.234567] ")
    assert titles(b"[    1.234567] probe: somebody wrote " + first + b"\n") == []


def test_every_class_that_text_can_show_has_a_row() -> None:
    by_status = {CrashClass.KILLED, CrashClass.EXIT}
    shown = {row.kind for row in (*TABLE, BOOT, UNKNOWN)}
    assert shown | by_status == ALL
    assert {row.kind for row in TABLE if row.user} <= USER_CLASSES


def test_a_second_boot_banner_is_a_reboot() -> None:
    assert titles(BOOT.sample) == [BOOT.expect]
    assert titles(b"[    0.000000] Linux version 6.1.0 (build@host) #1 SMP\n") == []


def test_firmware_after_other_output_is_a_reboot() -> None:
    boot = b"SeaBIOS (version 1.16.2)\n\n[    0.000000] Linux version 6.1.0 (build@host) #1\n"
    assert titles(boot) == []
    assert titles(b"reproducer: step 3\n" + boot) == ["unexpected kernel reboot"]


def test_an_unexplained_call_trace_is_unclassified() -> None:
    assert titles(UNKNOWN.sample) == [UNKNOWN.expect]


@pytest.mark.parametrize(
    "reason",
    [
        b"sh invoked oom-killer: gfp_mask=0x140dca, order=0, oom_score_adj=0",
        b"sh: page allocation failure: order:4, mode:0x40cc0",
        b"sysrq: Show backtrace of all active CPUs",
        b"FAULT_INJECTION: forcing a failure.",
    ],
)
def test_an_explained_call_trace_is_no_crash(reason: bytes) -> None:
    lines = UNKNOWN.sample.replace(b"probe: the ring is gone", reason)
    assert titles(lines) == []
