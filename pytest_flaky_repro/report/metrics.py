"""Metrics in Prometheus' text format, for a node exporter's textfile collector.

https://prometheus.io/docs/instrumenting/exposition_formats/ and, for the collector,
https://github.com/prometheus/node_exporter#textfile-collector: a file is replaced at once, so that
it is never read half-written.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.outcomes import Conclusion

WRITE_EVERY_S = 5.0
STATES = ("running", *(conclusion.value for conclusion in Conclusion))

COUNTS = {
    "trials": "trials (boots, where trials share them) that ended in a crash or an intact survival",
    "crashes": "of these, those that crashed",
    "void": "trials that never started: they count for nothing",
    "lost": "trials that started and came to no verdict: never survivals",
    "needed": "further surviving trials that would make it safe",
    "rate_upper": "upper bound of the crash rate of a trial",
    "rate_lower": "lower bound of the crash rate of a trial",
    "confidence": "how sure 'safe' has to be",
}


def check_installed() -> None:
    """UsageError, with the mend, when the client library is not there."""
    if find_spec("prometheus_client") is None:
        raise UsageError(
            "--repro-metrics needs prometheus-client: pip install pytest-flaky-repro[metrics]"
        )


class MetricsFile:
    """The latest figures of every campaign of a run, and the file they are kept in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._campaigns: dict[tuple[str, str], Mapping[str, Any]] = {}
        self._tried = 0.0

    def running(self, figures: Mapping[str, Any]) -> None:
        """Takes the figures of a campaign that is running; the file follows every few seconds."""
        self._campaigns[_key(figures)] = {**figures, "conclusion": "running"}
        if time.monotonic() - self._tried >= WRITE_EVERY_S:
            with suppress(OSError):  # told of at the run's end, if it fails then, too
                self.write()

    def ended(self, summaries: Iterable[Mapping[str, Any]]) -> None:
        """Takes verdicts."""
        for summary in summaries:
            if summary["conclusion"] in STATES:
                self._campaigns[_key(summary)] = summary

    def write(self) -> None:
        """Replaces the file at once. OSError where it cannot be."""
        self._tried = time.monotonic()
        from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

        registry = CollectorRegistry()
        labels = ("test", "kernel")
        gauges = {
            name: Gauge(f"flaky_repro_{name}", text, labels, registry=registry)
            for name, text in COUNTS.items()
        }
        verdict = Gauge(
            "flaky_repro_verdict",
            "1 for the verdict that was said (or running), 0 for the others",
            (*labels, "verdict"),
            registry=registry,
        )
        written = Gauge(
            "flaky_repro_written_timestamp_seconds", "when this was written", registry=registry
        )
        for (test, kernel), figures in self._campaigns.items():
            for name, gauge in gauges.items():
                if figures.get(name) is not None:
                    gauge.labels(test, kernel).set(figures[name])
            for state in STATES:
                verdict.labels(test, kernel, state).set(state == figures["conclusion"])
        written.set(time.time())
        self._path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(self._path), registry)


def _key(figures: Mapping[str, Any]) -> tuple[str, str]:
    return str(figures["item"]), str(figures["kernel"])
