"""Read a whole console at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .kinds import DEFAULT_CLASSES
from .reading import Report, reports_of
from .scan import Scan

if TYPE_CHECKING:
    from .kinds import CrashClass


def read_console(
    data: bytes, *, classes: frozenset[CrashClass] | None = None
) -> tuple[Report, ...]:
    """All reports on a console, in the order of their headers.

    ``classes`` restricts what is looked for; None means ``DEFAULT_CLASSES``. Time and memory are
    linear in ``len(data)``. At most ``scan.MAX_HITS`` headers are read.
    """
    scan = Scan(DEFAULT_CLASSES if classes is None else classes)
    scan.feed(data)
    scan.finish()
    return reports_of(scan)


def primary(reports: tuple[Report, ...]) -> Report | None:
    """The report that names a console: the kernel's first one, else the first one."""
    kernel = (report for report in reports if report.kind.kernel)
    return next(kernel, reports[0] if reports else None)
