"""The ``--update`` switch of the corpus."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update",
        action="store_true",
        default=False,
        help="write what the reader makes of tests/crash/corpus/*.log into their headers",
    )
