"""Errors a user meets. Each message says what was expected, what was seen, and the mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.verdict import Verdict


class ReproError(Exception):
    """Base of everything this package raises on purpose."""


class UsageError(ReproError):
    """Bad input: an option, a marker, a file. Names the source and the mend."""


class InfrastructureError(ReproError):
    """The harness failed, so nothing was learned about the kernel."""


class CampaignError(ReproError):
    """A campaign's verdict, raised; ``verdict`` has everything it rests on."""

    def __init__(self, message: str, verdict: Verdict) -> None:
        super().__init__(message)
        self.verdict = verdict


class KernelCrashed(CampaignError):
    """The reproducer crashes on this kernel."""


class Inconclusive(CampaignError):
    """Neither *crashes* nor *safe* could be said within the budget."""


class CampaignInfrastructureError(CampaignError, InfrastructureError):
    """Too much of the campaign was lost to the harness for any verdict."""
