"""The test kernels: what their configurations ask for, and that asking is checked."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

SCRIPT = Path(__file__).with_name("build.py")
build = runpy.run_path(str(SCRIPT))

options = st.dictionaries(
    st.from_regex(r"[A-Z0-9_]{1,12}", fullmatch=True), st.sampled_from(["y", "n", "4", '"text"'])
)


@given(options)
def test_a_configuration_survives_being_written(wanted: dict[str, str]) -> None:
    assert build["parse_config"](build["format_config"](wanted)) == wanted


def test_a_variant_is_bare_with_its_own_lines_laid_over() -> None:
    bare, variant = build["requested"]("bare"), build["requested"]("no_console")
    changed = {option for option in bare if bare[option] != variant[option]}
    assert changed == {"SERIAL_8250_CONSOLE"}
    assert variant["SERIAL_8250_CONSOLE"] == "n"


def test_bare_has_nothing_but_a_serial_port_an_initramfs_and_elf() -> None:
    bare = build["requested"]("bare")
    absent = ("PCI", "BLOCK", "NET", "ACPI", "PROC_FS", "DEVTMPFS", "BINFMT_SCRIPT", "SMP")
    assert {bare[option] for option in absent} == {"n"}
    assert {bare[option] for option in ("SERIAL_8250", "BLK_DEV_INITRD", "BINFMT_ELF")} == {"y"}


def test_an_option_that_kconfig_dropped_is_an_error(tmp_path: Path) -> None:
    config = tmp_path / ".config"
    config.write_text("CONFIG_SMP=y\n# CONFIG_PCI is not set\n")
    build["check_config"]("mine", {"SMP": "y", "PCI": "n", "NET": "n"}, config)
    with pytest.raises(RuntimeError, match="PCI: asked for y, got n"):
        build["check_config"]("mine", {"SMP": "y", "PCI": "y"}, config)
    with pytest.raises(RuntimeError, match="SMP: asked for n, got y"):
        build["check_config"]("mine", {"SMP": "n"}, config)


def test_an_unknown_kernel_is_refused_with_the_names_there_are() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "nosuch"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "there are: bare, described, lkdtm, no_console, no_initrd, smp" in done.stderr


def test_the_cache_lies_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "PYTEST_REPRO_CACHE", str(tmp_path))
    assert build["cache_folder"]() == tmp_path / "kernels"
