"""Hooks that this plugin calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_flaky_repro.campaign.experiment import Experiment
    from pytest_flaky_repro.machine.trial import Machine
    from pytest_flaky_repro.settings import Settings


@pytest.hookspec(firstresult=True)
def pytest_repro_machine(
    config: pytest.Config, experiment: Experiment, settings: Settings
) -> Machine | None:
    """The machine that an experiment's trials run on; None leaves it to QEMU.

    For boards, other emulators, and the fake machine (``pytest_flaky_repro.machine.fake``).
    """
