"""``--run-command``: trials on this machine, and the options of guests that mean nothing there."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pytest_flaky_repro import settings as options_of
from pytest_flaky_repro.commands.culprit.shared import GUEST_OPTIONS, environment_of, value_of
from pytest_flaky_repro.culprit.command_files import files_of
from pytest_flaky_repro.culprit.processes import ProcessTester
from pytest_flaky_repro.errors import UsageError

_NOT_HERE = {*GUEST_OPTIONS, "reproducer"} - {"trial_time", "jobs", "evidence"}
HELP = "a trial is this command on this machine, without a guest; exit 0 is survived"


def command_tester(options: argparse.Namespace, command: str, folder: Path | None) -> ProcessTester:
    """Runs ``command`` for each trial; files that --run-command names count from ``folder``."""
    given = [name for name in sorted(_NOT_HERE) if getattr(options, name, None)]
    if given:
        flag = "--" + given[0].replace("_", "-")
        raise UsageError(
            f"{flag} is for trials in guests, and with --run-command there are none: leave it out"
        )
    return ProcessTester(
        command,
        value_of(options, "trial_time", options_of.seconds),
        value_of(options, "jobs", options_of.jobs) or len(os.sched_getaffinity(0)),
        options.seed,
        environment=environment_of(options),
        files=files_of(options.run_command, folder),
    )
