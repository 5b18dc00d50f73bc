"""Where this project keeps what is costly to make again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "PYTEST_REPRO_CACHE"


def cache_folder() -> Path:
    """Where compiled agents, reproducers and probe results are kept."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    from platformdirs import user_cache_path

    return user_cache_path("pytest-flaky-repro")
