"""The fuzz target on seeds and on mutations of them, without coverage guidance."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

TARGET: dict[str, Any] = runpy.run_path(str(Path(__file__).with_name("console_path.py")))
SEEDS: list[bytes] = list(TARGET["seeds"]())
# What the fuzzer found, kept: QEMU saying what is no JSON, and numbers that int() refuses.
FOUND = [
    b"\x00\x00{]\n",
    b"\x00\x00[]\n1\n" + b"[" * 100_000 + b"\n",
    b'\x00\x00{"event": "SHUTDOWN", "data": 3}\n',
    b"\x00\x00RFL=zz HLT=1\n",
]


def mutated() -> st.SearchStrategy[bytes]:
    """A seed with a piece replaced by noise or by a piece of another seed."""
    return st.builds(
        lambda a, b, at, length, noise: a[:at] + (noise or b[at : at + length]) + a[at + length :],
        st.sampled_from(SEEDS),
        st.sampled_from(SEEDS),
        st.integers(0, 4000),
        st.integers(0, 200),
        st.binary(max_size=40),
    )


def test_there_are_seeds() -> None:
    assert len(SEEDS) > 30


@pytest.mark.parametrize("data", [*SEEDS, *FOUND], ids=lambda data: repr(bytes(data[2:22])))
def test_a_seed_is_read(data: bytes) -> None:
    TARGET["play"](data)


@settings(deadline=None)
@given(mutated())
def test_a_mutated_seed_is_read(data: bytes) -> None:
    TARGET["play"](data)


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_noise_is_read(data: bytes) -> None:
    TARGET["play"](data)
