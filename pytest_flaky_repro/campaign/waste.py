"""When too much teaches nothing: a harness that fails never votes, and never runs for ever."""

from __future__ import annotations

VOID_AT_START = 3  # so many in a row that could not be run, and nothing before them: give up
SHARE_FROM = 10
SHARE_MAX = 0.2  # of what was run, that may teach nothing


def is_too_much(wasted: int, run: int) -> bool:
    """Whether so many of those that were run, if there are enough of them, may not be wasted."""
    return run >= SHARE_FROM and wasted > SHARE_MAX * run
