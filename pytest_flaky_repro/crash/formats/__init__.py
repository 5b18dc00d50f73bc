"""The table of formats, in the order in which rows are tried."""

from __future__ import annotations

from . import faults, locking, memory, stalls, user, warnings
from .model import Ends, Format, Where, masked, spoken

TABLE: tuple[Format, ...] = (
    *memory.ROWS,
    *faults.ROWS,
    *locking.ROWS,
    *stalls.ROWS,
    *user.ROWS,
    *warnings.ROWS,
)

__all__ = ["TABLE", "Ends", "Format", "Where", "masked", "spoken"]
