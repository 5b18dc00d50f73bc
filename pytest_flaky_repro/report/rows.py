"""Plots in the rows of pytest-html, where a run writes such a report too."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.report.page import NEEDED

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.verdict import Verdict


def plots_for_pytest_html(
    verdicts: Sequence[Verdict],
) -> list[dict[str, Any]]:
    """Extras (https://pytest-html.readthedocs.io, "Extra content"): plain data, as xdist needs."""
    extras = _extras()
    if any(find_spec(module) is None for module in NEEDED):
        missing = "Plots need: pip install pytest-flaky-repro[report]"
        return [extras.text(missing, name="flaky-repro")]
    return [
        extras.svg(content, name=f"{title}: {verdict.subject.item}")
        for verdict in verdicts
        for title, content in _images(verdict)
    ]


def _extras() -> Any:
    import pytest_html.extras

    return pytest_html.extras


def _images(verdict: Verdict) -> list[tuple[str, str]]:
    from pytest_flaky_repro.report.findings import findings_of
    from pytest_flaky_repro.report.runs import runs_of
    from pytest_flaky_repro.report.sections import plots_of
    from pytest_flaky_repro.report.svg import for_image

    (finding,) = findings_of(runs_of([verdict.evidence]))
    return [
        (plot.title, base64.b64encode(for_image(plot.drawing, plot.title).encode()).decode())
        for plot in plots_of(finding)[0]
    ]
