"""The statistical question behind the settings, and its solved plan."""

from __future__ import annotations

import hashlib
import json
import os

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.settings import Settings
from pytest_flaky_repro.stats import Design, Plan, plan_for
from pytest_flaky_repro.stats.solve import ALGORITHM


def design_of(settings: Settings) -> Design:
    """The statistical question; UsageError names what gave the field that is wrong."""
    both = settings["confidence"]
    try:
        return Design(
            min_rate=settings["min_rate"],
            noise=settings["noise"],
            confidence_safe=settings["confidence_safe"] or both,
            confidence_crash=settings["confidence_crash"] or both,
        )
    except UsageError as error:
        raise UsageError(f"{_givers(settings, str(error))}: {error}") from error


def _givers(settings: Settings, said: str) -> str:
    """Where the fields that a message names come from."""
    named = []
    for field in ("noise", "min_rate", "confidence_safe", "confidence_crash"):
        if field in said:
            own = settings[field] is not None
            named.append(settings.source(field if own else "confidence"))
    return " and ".join(dict.fromkeys(s for s in named if s != "default")) or "defaults"


def solved(design: Design) -> Plan:
    """The plan for a design; one that takes a moment to solve is kept in the cache."""
    if design.noise == 0.0:
        return plan_for(design)
    question = json.dumps([ALGORITHM, *vars(design).values()])
    kept = cache_folder() / "plans" / f"{hashlib.sha256(question.encode()).hexdigest()[:24]}.json"
    if kept.is_file():
        try:
            return Plan.from_json(kept.read_text())
        except UsageError:
            kept.unlink()  # torn, or of another version: it is only a copy
    plan = plan_for(design)
    kept.parent.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_text(plan.to_json())
    part.replace(kept)
    return plan


def question_parameters(plan: Plan) -> dict[str, object]:
    """What the statistics were asked, for the plan's hash."""
    design = plan.design
    return {
        "min_rate": design.min_rate,
        "noise": design.noise,
        "confidence_safe": design.confidence_safe,
        "confidence_crash": design.confidence_crash,
        "lines": plan.digest(),
    }
