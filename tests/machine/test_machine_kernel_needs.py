"""What a configuration lacks, and words that spoil a campaign: pure functions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.machine.command_line import bad_words
from pytest_flaky_repro.machine.kernel_config import KernelConfig
from pytest_flaky_repro.machine.kernel_needs import Demands, extras, lacks, mend

NEEDED = ("64BIT", "PRINTK", "TTY", "SERIAL_8250", "SERIAL_8250_CONSOLE", "BLK_DEV_INITRD")
SOUND = dict.fromkeys((*NEEDED, "BINFMT_ELF"), "y")


def blocking(options: dict[str, str], demands: Demands | None = None) -> list[str]:
    config = KernelConfig(options, "here", embedded=True)
    return [lack.option for lack in lacks(config, demands or Demands()) if lack.blocks]


def test_a_sound_kernel_lacks_nothing_that_blocks() -> None:
    assert blocking(SOUND) == []


@pytest.mark.parametrize("option", SOUND)
@pytest.mark.parametrize("value", ["m", "n"])
def test_each_needed_option_is_missed(option: str, value: str) -> None:
    (said,) = blocking(SOUND | {option: value})
    assert said.startswith((f"{option}=m is a module", f"{option} is not set"))


def test_only_the_root_of_a_chain_is_named() -> None:
    assert blocking({"64BIT": "y", "PRINTK": "y", "BLK_DEV_INITRD": "y", "BINFMT_ELF": "y"}) == [
        "TTY is not set"
    ]


def test_a_mend_enables_the_whole_chain() -> None:
    config = KernelConfig({**SOUND, "TTY": "n"}, "here", embedded=True)
    found = [lack for lack in lacks(config, Demands()) if lack.blocks]
    assert mend(found) == (
        "scripts/config -e TTY -e SERIAL_8250 -e SERIAL_8250_CONSOLE; make olddefconfig bzImage"
    )


SMP = {**SOUND, "SMP": "y", "NR_CPUS": "8"}


@pytest.mark.parametrize(
    ("options", "demands", "said"),
    [
        (SMP, Demands(smp=2), "neither ACPI nor X86_MPPARSE is set"),
        (SMP | {"X86_MPPARSE": "y"}, Demands(smp=2, mp_table=False), "ACPI is not set, and"),
        (SMP | {"ACPI": "y"}, Demands(smp=9), "NR_CPUS=8"),
        (SOUND, Demands(smp=2), "SMP is not set"),
        (SOUND, Demands(packings=frozenset({"RD_XZ"})), "RD_XZ is not set"),
        (SOUND, Demands(scripts=True), "BINFMT_SCRIPT is not set"),
    ],
)
def test_what_is_asked_for_decides_what_is_missing(
    options: dict[str, str], demands: Demands, said: str
) -> None:
    assert blocking(options) == []
    assert [text for text in blocking(options, demands) if text.startswith(said)]


@pytest.mark.parametrize("table", ["ACPI", "X86_MPPARSE"])
def test_either_table_shows_the_other_cpus(table: str) -> None:
    assert blocking(SMP | {table: "y"}, Demands(smp=2)) == []


@given(st.dictionaries(st.sampled_from([*SOUND, "SMP", "FUTEX", "ACPI"]), st.just("y")))
def test_more_options_never_block_more(options: dict[str, str]) -> None:
    assert set(blocking({**options, **SOUND})) <= set(blocking(options))


def test_what_few_reproducers_need_is_listed_apart() -> None:
    config = KernelConfig({"NET": "y"}, "here", embedded=True)
    assert "NET" not in extras(config)
    assert "PROC_FS" in extras(config)


@pytest.mark.parametrize(
    ("append", "smp", "word"),
    [
        ("quiet rdinit=/bin/sh", 1, "rdinit=/bin/sh"),
        ("8250.nr_uarts=0", 1, "8250.nr_uarts=0"),
        ("printk.devkmsg=off", 1, "printk.devkmsg=off"),
        ("maxcpus=1", 2, "maxcpus=1"),
        ("'unbalanced nosmp", 2, "nosmp"),
    ],
)
def test_a_word_that_spoils_everything_is_found(append: str, smp: int, word: str) -> None:
    (bad,) = bad_words(append, smp)
    assert (bad.word, bad.blocks) == (word, True)


@pytest.mark.parametrize("append", ["", "quiet", "maxcpus=1", "8250.nr_uarts=2", "console=tty0"])
def test_harmless_words_are_let_pass(append: str) -> None:
    assert list(bad_words(append, 1)) == []


def test_a_panic_that_waits_is_noted() -> None:
    (bad,) = bad_words("panic=30", 1)
    assert not bad.blocks
