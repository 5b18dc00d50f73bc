"""A running search on a terminal (one line, rewritten) or in a log (a line now and then)."""

from __future__ import annotations

import shutil
import sys
import time

from pytest_flaky_repro.culprit.watching import Activity, View
from pytest_flaky_repro.report.culprit import progress_line

REWRITE_EVERY_S = 0.2
LOG_EVERY_S = 30.0


class Display:
    """Watches a search, and prints on stderr."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._last = 0.0
        self._seen = (-1, -1, -1)
        self._on_line = False

    def see(self, view: View) -> None:
        if self._is_terminal:
            self._rewrite(view)
        elif self._is_due(view):
            self._last = time.monotonic()
            print(f"  {progress_line(view)}", file=sys.stderr, flush=True)

    def _rewrite(self, view: View) -> None:
        now = time.monotonic()
        if view.activity is Activity.DONE:
            self.clear()
        elif now - self._last >= REWRITE_EVERY_S or view.activity is not Activity.TESTING:
            self._last, self._on_line = now, True
            width = shutil.get_terminal_size().columns - 1
            text = f"  {progress_line(view)}"[:width]
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Takes the line away, so that what comes next begins one."""
        if self._on_line:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._on_line = False

    def _is_due(self, view: View) -> bool:
        """In a log: at each build, at each crash, and every 30 s."""
        if view.activity in (Activity.DONE, Activity.BUILDING):
            return False
        spent = view.spent
        seen = (spent.builds, spent.skips, spent.crashes)
        due = seen != self._seen or time.monotonic() - self._last >= LOG_EVERY_S
        self._seen = seen
        return due
