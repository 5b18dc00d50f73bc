"""What to say when no guest ever got to START: what was asked of it, and who looks further."""

from __future__ import annotations

import shlex

from pytest_flaky_repro.campaign.experiment import Experiment
from pytest_flaky_repro.machine.command_line import bad_words
from pytest_flaky_repro.machine.kernel_image import memory_lacking
from pytest_flaky_repro.settings import Settings

_DOCTORS = ("smp", "memory", "machine", "append", "initrd", "qemu")  # its options, too


def explained(why: str, experiment: Experiment, settings: Settings) -> str:
    """``why`` is what was seen: a guess, where the settings alone can be the cause."""
    suspects = _suspects(experiment, settings)
    if suspects:
        return f"{'; '.join(suspects)}. What was seen of it: {why}"
    if settings["dask"] is not None:  # the doctor looks at this machine only
        return why
    return f"{why}. More may be told by: {_doctor(experiment, settings)}"


def _suspects(experiment: Experiment, settings: Settings) -> list[str]:
    """What the doctor would say of the settings."""
    said = [
        f"{settings.source('append')}: {bad.word}: {bad.effect}: leave out {bad.word}"
        for bad in bad_words(settings["append"], settings["smp"])
        if bad.blocks
    ]
    lacking = memory_lacking(experiment.kernel, len(experiment.image.archive), settings["memory"])
    if lacking is not None:
        said.append(f"{settings.source('memory')}: {lacking}: give more, such as 256")
    return said


def _doctor(experiment: Experiment, settings: Settings) -> str:
    words = ["flaky-repro", "doctor", "--kernel", str(experiment.kernel.path), "--boot"]
    for name in _DOCTORS:
        if settings.source(name) == "default":
            continue
        values = settings[name] if isinstance(settings[name], tuple) else (settings[name],)
        words += [f"--{name}={value}" for value in values]
    return shlex.join(words)
