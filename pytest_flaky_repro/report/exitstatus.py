"""``--repro-exit=bisect``: an exit status that ``git bisect run`` reads as it is meant.

git takes 0 for good, 125 for "cannot be tested", and every other status up to 127 for bad, pytest's
own 2 to 5 (interrupted, internal error, usage, nothing collected) among them.
"""

from __future__ import annotations

from collections.abc import Sequence

GOOD, BAD, SKIP = 0, 1, 125


def bisect_status(conclusions: Sequence[str], pytest_status: int) -> int:
    """``conclusions`` are those of every verdict of the run, in any order."""
    if "crashes" in conclusions:
        return BAD
    if pytest_status == 0 and conclusions and all(c == "safe" for c in conclusions):
        return GOOD
    return SKIP
