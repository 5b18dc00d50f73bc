"""Misconfigurations planted one by one: ``flaky-repro doctor`` names each, and cries no wolf."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLANTING = runpy.run_path(str(Path(__file__).with_name("planting.py")))
CASES = {case.name: case for case in PLANTING["CASES"]}


@pytest.fixture
def ground(
    tmp_path: Path,
    bare_kernel: Path,
    described_kernel: Path,
    smp_kernel: Path,
    no_console_kernel: Path,
    no_initrd_kernel: Path,
) -> Any:
    kernels = {
        "bare": bare_kernel,
        "described": described_kernel,
        "smp": smp_kernel,
        "no_console": no_console_kernel,
        "no_initrd": no_initrd_kernel,
    }
    return PLANTING["Ground"](tmp_path, kernels)


@pytest.mark.parametrize("name", CASES)
def test_its_cause_is_named(command: Callable[..., Any], ground: Any, name: str) -> None:
    case = CASES[name]
    ran = command("doctor", "--json", *case.plant(ground))
    assert PLANTING["named"](case, json.loads(ran.out)), ran.out
    assert ran.status == (1 if case.blocks else 0)


@pytest.mark.parametrize("name", PLANTING["HEALTHY"])
def test_what_is_sound_does_not_block(command: Callable[..., Any], ground: Any, name: str) -> None:
    ran = command("doctor", "--json", *PLANTING["HEALTHY"][name](ground))
    assert ran.status == 0, ran.out
    read = [f["text"] for f in json.loads(ran.out) if f["subject"] == "config"]
    assert any("in the image (IKCONFIG)" in text for text in read)


def test_there_are_thirty_of_them_at_least() -> None:
    assert len(CASES) >= 30


def test_a_report_fits_on_one_screen(command: Callable[..., Any], ground: Any) -> None:
    """The worst: nothing that is asked for is there."""
    options = dict.fromkeys(("PRINTK", "TTY", "BLK_DEV_INITRD", "BINFMT_ELF", "SMP", "FUTEX"), "n")
    words = ("--kernel", ground.described(**options), "--smp", "2", "--accel", "tcg")
    assert len(command("doctor", *words).out.splitlines()) <= 24
