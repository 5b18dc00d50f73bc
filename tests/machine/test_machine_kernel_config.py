"""The configuration inside a kernel, or beside it."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.machine.kernel_config import (
    config_beside,
    embedded_config,
    parse,
    unpack,
)
from pytest_flaky_repro.machine.kernel_image import read_kernel

NAMES = st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True)
VALUES = st.sampled_from(["y", "m", "4", "0x10", '"a text"'])


def test_a_built_kernel_gives_its_configuration_away(described_kernel: Path) -> None:
    config = embedded_config(unpack(read_kernel(described_kernel)))
    assert config is not None
    assert config.embedded
    assert config.options == parse((described_kernel.parent / "config").read_text())
    assert (config.value("IKCONFIG"), config.value("SMP")) == ("y", "n")
    assert "KERNEL_ZSTD" in config


def test_a_kernel_without_one_says_so(bare_kernel: Path) -> None:
    assert embedded_config(unpack(read_kernel(bare_kernel))) is None


@given(st.dictionaries(NAMES, VALUES), st.binary(max_size=64), st.binary(max_size=64))
def test_it_is_found_wherever_it_lies(options: dict[str, str], before: bytes, after: bytes) -> None:
    text = "".join(f"CONFIG_{name}={value}\n" for name, value in options.items())
    vmlinux = before + b"IKCFG_ST" + gzip.compress(text.encode()) + b"IKCFG_ED" + after
    config = embedded_config(vmlinux)
    assert config is not None
    assert config.options == options


def test_a_damaged_one_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"IKCONFIG.* is damaged"):
        embedded_config(b"IKCFG_ST\x1f\x8b" + bytes(99))


def test_a_kernel_that_cannot_be_unpacked_is_named(bare_kernel: Path, tmp_path: Path) -> None:
    content = bytearray(bare_kernel.read_bytes())
    content[0x5000:0x6000] = bytes(0x1000)
    (tmp_path / "bzImage").write_bytes(content)
    with pytest.raises(UsageError, match=r"bzImage: the kernel in it cannot be unpacked: damaged"):
        unpack(read_kernel(tmp_path / "bzImage"))


def test_an_option_that_is_not_mentioned_is_not_set() -> None:
    assert parse("# CONFIG_A is not set\nCONFIG_B=m\n# a remark\n") == {"A": "n", "B": "m"}


@pytest.mark.parametrize("name", ["config", ".config", "config-6.1.192"])
def test_a_configuration_beside_the_image_is_read(
    bare_kernel: Path, tmp_path: Path, name: str
) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(bare_kernel.read_bytes())
    assert config_beside(read_kernel(image)) is None
    (tmp_path / name).write_bytes((bare_kernel.parent / "config").read_bytes())
    config = config_beside(read_kernel(image))
    assert config is not None
    assert (config.source, config.embedded) == (str(tmp_path / name), False)


def test_that_of_a_build_tree_is_read(bare_kernel: Path, tmp_path: Path) -> None:
    image = tmp_path / "arch/x86/boot/bzImage"
    image.parent.mkdir(parents=True)
    image.write_bytes(bare_kernel.read_bytes())
    (tmp_path / ".config").write_bytes((bare_kernel.parent / "config").read_bytes())
    config = config_beside(read_kernel(image))
    assert config is not None
    assert config.source == str(tmp_path / ".config")


@pytest.mark.parametrize(
    "text",
    [
        "# Linux/x86 5.10.0 Kernel Configuration\nCONFIG_TTY=y\n",
        "# Linux/x86 6.1.192 Kernel Configuration\nCONFIG_SMP=y\n",
        "no configuration at all",
    ],
    ids=["another version", "SMP, and the banner has none", "another file"],
)
def test_one_that_does_not_belong_is_passed_over(
    bare_kernel: Path, tmp_path: Path, text: str
) -> None:
    image = tmp_path / "bzImage"
    image.write_bytes(bare_kernel.read_bytes())
    (tmp_path / "config").write_text(text)
    assert config_beside(read_kernel(image)) is None


@given(places=st.dictionaries(st.integers(0x1F1, 0x268), st.integers(0, 255), max_size=6))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_damaged_header_is_an_error_and_nothing_else(
    bare_kernel: Path, tmp_path: Path, places: dict[int, int]
) -> None:
    content = bytearray(bare_kernel.read_bytes())
    for place, value in places.items():
        content[place] = value
    image = tmp_path / "bzImage"
    image.write_bytes(content)
    try:
        vmlinux = unpack(read_kernel(image))
    except UsageError as error:
        assert str(image) in str(error)  # noqa: PT017 - most damage is seen, some does no harm
    else:
        assert vmlinux.startswith(b"\x7fELF")
