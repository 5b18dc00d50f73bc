"""``--repro-boot``: how trials get their guests, and what a boot of them is taken to prove."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_flaky_repro.campaign.boots import Counting, Sharing
from pytest_flaky_repro.campaign.verdict import BootTerms
from pytest_flaky_repro.settings import Settings
from pytest_flaky_repro.stats import Design
from pytest_flaky_repro.stats.clusters import Basis, boot_design

COLD = "cold"


@dataclass(frozen=True)
class BootMode:
    """One campaign's way: ``how`` is cold, batch or snapshot; ``note`` says what it was not."""

    how: str = COLD
    size: int = 1
    basis: Basis = Basis.BOOTS
    correlation: float = 1.0
    note: str = ""

    @property
    def sharing(self) -> Sharing:
        return Sharing(
            size=self.size,
            counting=Counting.FIRST if self.basis is Basis.BOOTS else Counting.WHOLE,
            side_by_side=self.how == "snapshot",
            thrifty=self.basis is Basis.BOOTS,
        )

    def parameters(self) -> dict[str, object]:
        """For the plan's hash; none for cold boots, whose evidence is older than the others."""
        if self.how == COLD:
            return {}
        return {"boot": self.how, "batch": self.size, "counting": self.sharing.counting.value}

    def info(self, asked: Design) -> dict[str, object]:
        """What a report needs to put the question as the run did: boots hide it."""
        if self.basis is not Basis.BOUNDED:
            return {}
        return {"asked": vars(asked), "correlation": self.correlation}

    def terms(self, asked: Design) -> BootTerms:
        """For a verdict on boots."""
        return BootTerms(self.how, self.sharing, self.basis, asked, self.correlation)

    def design(self, asked: Design) -> Design:
        """The question about boots, from the one about trials."""
        return asked if self.size == 1 else boot_design(asked, self.correlation, self.size)


def mode_for(settings: Settings, *, calibrated: bool) -> BootMode:
    """The way that the settings ask for, or cold boots where sharing one could prove nothing.

    ``calibrated``: the question is put in boots already, by a known-bad kernel's.
    """
    how, size = settings["boot"], settings["batch"]
    if how == COLD:
        return BootMode()
    if size == 1:
        return BootMode(note=f"one trial a boot ({settings.source('batch')}) is a cold boot")
    if calibrated:
        note = ""
        if settings["correlation"] < 1.0:
            note = (
                f"{settings.source('correlation')} was not needed: whole boots are counted, "
                "however crashes cluster by boot"
            )
        return BootMode(how, size, Basis.CALIBRATED, note=note)
    if settings["correlation"] < 1.0:
        return BootMode(how, size, Basis.BOUNDED, settings["correlation"])
    if settings["noise"] > 0.0:
        return BootMode(
            note=(
                "with a noise floor (--repro-noise), and nothing known of how crashes cluster by "
                "boot, further trials of a boot prove nothing either way: cold boots were used. "
                "A calibration (--repro-calibrate NAME=PATH) lets whole boots count"
            )
        )
    return BootMode(how, size)
