"""pytest-flaky-repro: probabilistic crash reproducers on real kernels.

Names are imported when they are first used: importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.loop import Campaign
    from pytest_flaky_repro.campaign.verdict import Inconclusive, KernelCrashed, Verdict
    from pytest_flaky_repro.crash import Signature
    from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
    from pytest_flaky_repro.errors import InfrastructureError
    from pytest_flaky_repro.outcomes import Conclusion, Outcome
    from pytest_flaky_repro.stats import Design, Plan, Tally, plan_for

__all__ = [
    "Campaign",
    "Conclusion",
    "Design",
    "Inconclusive",
    "InfrastructureError",
    "KernelCrashed",
    "Outcome",
    "Plan",
    "SearchOptions",
    "Signature",
    "Tally",
    "Verdict",
    "find_culprit",
    "plan_for",
]

_HOMES = {
    "Campaign": "campaign.loop",
    "Conclusion": "outcomes",
    "Design": "stats",
    "Inconclusive": "campaign.verdict",
    "InfrastructureError": "errors",
    "KernelCrashed": "campaign.verdict",
    "Outcome": "outcomes",
    "Plan": "stats",
    "SearchOptions": "culprit.search",
    "Signature": "crash",
    "Tally": "stats",
    "Verdict": "campaign.verdict",
    "find_culprit": "culprit.search",
    "plan_for": "stats",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
