"""What one pytest session keeps for its campaigns, in ``config.stash`` (no globals)."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.settings import OPTIONS, Settings, Sources, resolve, resolve_one

if TYPE_CHECKING:
    from pytest_flaky_repro.bench import Bench
    from pytest_flaky_repro.campaign.comparison import ComparisonVerdict
    from pytest_flaky_repro.campaign.verdict import Verdict
    from pytest_flaky_repro.kernels import Kernels

STOP_FILE_POLL_S = 0.5


class Session:
    """Shared by all items of one pytest process."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self._bench: Bench | None = None
        self._kernels: Kernels | None = None
        self._stop_file = _stop_file(config)
        self._looked = 0.0
        self.summaries: list[dict[str, Any]] = []  # verdicts, as plain data, as they come in

    @property
    def bench(self) -> Bench:
        if self._bench is None:
            from pytest_flaky_repro.bench import Bench

            self._bench = Bench(self.config.invocation_params.dir)
            self.config.add_cleanup(self._bench.close)
        return self._bench

    @property
    def kernels(self) -> Kernels:
        if self._kernels is None:
            from pytest_flaky_repro.kernels import parse_kernels

            settings, root = settings_of(self.config), self.config.invocation_params.dir
            source = settings.source("kernel")
            self._kernels = parse_kernels(settings["kernel"], root, source)
        return self._kernels

    def tell(self, text: str) -> None:
        """Writes to the terminal now, from any thread, whatever is captured."""
        from pytest_flaky_repro.report.live import uncaptured

        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is None:  # -p no:terminal
            return
        with uncaptured(self.config):
            reporter.ensure_newline()
            reporter.write_line(text)
            reporter.flush()

    def should_stop(self) -> str | None:
        """Why running campaigns have to end, if the xdist controller says so."""
        if self._stop_file is None or time.monotonic() - self._looked < STOP_FILE_POLL_S:
            return None
        self._looked = time.monotonic()
        return "the test run is being stopped" if self._stop_file.exists() else None


SESSION = pytest.StashKey[Session]()
SETTINGS = pytest.StashKey[Settings]()
VERDICTS: pytest.StashKey[list[Verdict]] = pytest.StashKey()
COMPARISONS: pytest.StashKey[list[ComparisonVerdict]] = pytest.StashKey()
DEADLINE = pytest.StashKey[float]()


def session_of(config: pytest.Config) -> Session:
    """The session's state, made when first asked for."""
    if SESSION not in config.stash:
        config.stash[SESSION] = Session(config)
    return config.stash[SESSION]


def settings_of(node: pytest.Item | pytest.Config) -> Settings:
    """Resolved settings of one test, or of the run."""
    if SETTINGS not in node.stash:
        node.stash[SETTINGS] = resolve(_sources(node))
    return node.stash[SETTINGS]


def exits_for_bisect(config: pytest.Config) -> bool:
    """Whether ``--repro-exit=bisect`` holds, however bad the other settings are."""
    try:
        return bool(resolve_one("exit", _sources(config)) == "bisect")
    except UsageError:
        return False


def _sources(node: pytest.Item | pytest.Config) -> Sources:
    config = node if isinstance(node, pytest.Config) else node.config
    marker: dict[str, Any] = {}
    where = ""
    if isinstance(node, pytest.Item):
        where = node.nodeid
        for mark in reversed(list(node.iter_markers("repro"))):  # the closest has the last word
            marker |= mark.kwargs
            if mark.args:
                raise UsageError(f"@pytest.mark.repro on {where} takes keywords only")
    return Sources(
        marker=marker,
        command_line=_command_line(config),
        environment=os.environ,
        ini={o.name: _ini(config, o.ini, repeatable=o.repeatable) for o in OPTIONS},
        where=where,
    )


def _command_line(config: pytest.Config) -> dict[str, Any]:
    return {o.name: config.getoption(f"repro_{o.name}", None) for o in OPTIONS}


def _ini(config: pytest.Config, name: str, *, repeatable: bool) -> Any:
    value = config.getini(name)
    return value if value or not repeatable else None


def _stop_file(config: pytest.Config) -> Path | None:
    told = getattr(config, "workerinput", {}).get("repro_stop_file")
    return Path(told) if told else None
