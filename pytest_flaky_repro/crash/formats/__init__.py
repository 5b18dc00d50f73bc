"""The table of formats, in the order in which rows are tried."""

from __future__ import annotations

from . import faults, leftovers, locking, memory, stalls, user, warnings
from .model import Ends, Format, Where, masked, spoken

TABLE: tuple[Format, ...] = (
    *leftovers.ROWS,
    *memory.ROWS,
    *faults.ROWS,
    *locking.ROWS,
    *stalls.ROWS,
    *user.ROWS,
    *warnings.ROWS,
)

__all__ = ["TABLE", "Ends", "Format", "Where", "masked", "spoken"]
