"""Deadlines that a loaded host does not shorten."""

from __future__ import annotations

import time

from pytest_flaky_repro.machine.process import cpu_seconds, is_in_line, wanted_seconds

IDLE_SHARE = 0.1  # who wants less CPU than this, of the wall time, does nothing
CROWDED_TIMES = 8  # of ``idle_s``
LOOK_EVERY_S = 0.1


class PhaseClock:
    """Watches one phase of one guest.

    It expires when QEMU, counted from ``not_before`` on,

    * has used ``cpu_s`` seconds of CPU time (a spinning guest), or
    * was silent for ``idle_s`` seconds and wanted almost no CPU (a halted guest; one that stands in
      line for a CPU wants it), or
    * has had ``wall_cap_s`` seconds of wall time (the last resort).

    A guest that is merely starved by other load does neither of the first two.
    """

    def __init__(
        self, pid: int, *, cpu_s: float, idle_s: float, wall_cap_s: float, not_before: float = 0.0
    ) -> None:
        self._pid = pid
        self._cpu_s, self._idle_s, self._wall_cap_s = cpu_s, idle_s, wall_cap_s
        self._begins = time.monotonic() + not_before
        self._wall_0 = self._cpu_0 = 0.0
        self._quiet_wall = self._quiet_cpu = self._quiet_wanted = 0.0
        self._looked = 0.0
        self._spoke = True  # its silence is counted from the first look on
        self._running = False
        self._why: str | None = None

    def progress(self) -> None:
        """The guest said something: it is not idle. Noted at the next look, which is soon."""
        self._spoke = True

    def next_look(self) -> float:
        """Seconds until a look at the limits can be worth it."""
        return min(1.0, max(LOOK_EVERY_S, self._begins - time.monotonic()))

    def expired(self) -> bool:
        now = time.monotonic()
        if self._why is None and now >= self._begins and now - self._looked >= LOOK_EVERY_S:
            self._looked = now
            self._why = self._look(now, cpu_seconds(self._pid))
        return self._why is not None

    def describe(self) -> str:
        """Which limit ended the phase."""
        return self._why or "within its limits"

    def _mark_quiet(self, now: float, cpu: float) -> None:
        self._quiet_wall, self._quiet_cpu = now, cpu
        self._quiet_wanted = wanted_seconds(self._pid)

    def _is_idle(self, quiet: float, cpu: float) -> bool:
        """On a host so full that standing in line looks like work, silence must last longer."""
        if quiet < self._idle_s:
            return False
        wanted = wanted_seconds(self._pid) - self._quiet_wanted
        had = cpu - self._quiet_cpu
        is_long = quiet >= CROWDED_TIMES * self._idle_s
        if wanted < IDLE_SHARE * quiet and not is_in_line(self._pid):
            return True
        return is_long and had < IDLE_SHARE * quiet

    def _look(self, now: float, cpu: float) -> str | None:
        if not self._running:
            self._running = True
            self._wall_0, self._cpu_0 = now, cpu
        if self._spoke:
            self._spoke = False
            self._mark_quiet(now, cpu)
        if cpu - self._cpu_0 >= self._cpu_s:
            return f"QEMU used {cpu - self._cpu_0:.0f} s of CPU time (limit {self._cpu_s:g} s)"
        quiet = now - self._quiet_wall
        if self._is_idle(quiet, cpu):
            return f"silent and idle for {quiet:.0f} s (limit {self._idle_s:g} s)"
        if now - self._wall_0 >= self._wall_cap_s:
            return f"{now - self._wall_0:.0f} s of wall time (limit {self._wall_cap_s:g} s)"
        return None
