"""Sequential statistics for crash rates: pure functions of counts, no I/O, no clock.

Everything is re-exported lazily (PEP 562), so that importing this package costs nothing; numpy
is loaded only when a plan with noise > 0 has to be solved or its curves are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_flaky_repro.stats.agreement import (
        Agreed,
        Agreement,
        halves,
        hosts_agree,
        pool,
    )
    from pytest_flaky_repro.stats.bounds import (
        EValues,
        RateBounds,
        clean_trials_needed,
        e_values,
        rate_bounds,
        total_rate_excluded,
        zero_crash_upper,
    )
    from pytest_flaky_repro.stats.budget import (
        Purchase,
        largest_confidence,
        rate_excluded_with_losses,
        smallest_min_rate,
    )
    from pytest_flaky_repro.stats.calibration import (
        Calibration,
        CalibrationRule,
    )
    from pytest_flaky_repro.stats.compare import (
        Comparison,
        Difference,
    )
    from pytest_flaky_repro.stats.control import (
        ControlCheck,
        ControlState,
        check_control,
        is_control,
    )
    from pytest_flaky_repro.stats.design import (
        Design,
    )
    from pytest_flaky_repro.stats.duration import (
        Advice,
        CrashTimes,
        Hazard,
        Length,
        advise,
        best_length,
        hazard,
    )
    from pytest_flaky_repro.stats.factors import (
        Cell,
        Effect,
        cells,
        effects,
    )
    from pytest_flaky_repro.stats.family import (
        FalseCalls,
        FamilyRule,
        e_bh,
        false_calls,
        member_design,
    )
    from pytest_flaky_repro.stats.lines import (
        NEVER,
        Line,
        Lines,
    )
    from pytest_flaky_repro.stats.plan import (
        Decision,
        Judgement,
        OperatingPoint,
        Plan,
        WorstCase,
        plan_for,
    )
    from pytest_flaky_repro.stats.statement import (
        meaning,
        word,
    )
    from pytest_flaky_repro.stats.survival import (
        Curve,
        kaplan_meier,
    )
    from pytest_flaky_repro.stats.tally import (
        Tally,
    )

_HOMES = {
    "Advice": "duration",
    "CrashTimes": "duration",
    "Hazard": "duration",
    "Length": "duration",
    "advise": "duration",
    "best_length": "duration",
    "hazard": "duration",
    "meaning": "statement",
    "word": "statement",
    "Agreed": "agreement",
    "Agreement": "agreement",
    "Calibration": "calibration",
    "CalibrationRule": "calibration",
    "Cell": "factors",
    "Comparison": "compare",
    "Curve": "survival",
    "ControlCheck": "control",
    "ControlState": "control",
    "Decision": "plan",
    "Design": "design",
    "Difference": "compare",
    "EValues": "bounds",
    "Effect": "factors",
    "FalseCalls": "family",
    "FamilyRule": "family",
    "Judgement": "plan",
    "Line": "lines",
    "Lines": "lines",
    "NEVER": "lines",
    "OperatingPoint": "plan",
    "Plan": "plan",
    "Purchase": "budget",
    "RateBounds": "bounds",
    "Tally": "tally",
    "WorstCase": "plan",
    "cells": "factors",
    "check_control": "control",
    "clean_trials_needed": "bounds",
    "e_bh": "family",
    "e_values": "bounds",
    "effects": "factors",
    "false_calls": "family",
    "halves": "agreement",
    "hosts_agree": "agreement",
    "is_control": "control",
    "kaplan_meier": "survival",
    "largest_confidence": "budget",
    "member_design": "family",
    "plan_for": "plan",
    "pool": "agreement",
    "rate_bounds": "bounds",
    "rate_excluded_with_losses": "budget",
    "smallest_min_rate": "budget",
    "total_rate_excluded": "bounds",
    "zero_crash_upper": "bounds",
}

__all__ = [
    "NEVER",
    "Advice",
    "Agreed",
    "Agreement",
    "Calibration",
    "CalibrationRule",
    "Cell",
    "Comparison",
    "ControlCheck",
    "ControlState",
    "CrashTimes",
    "Curve",
    "Decision",
    "Design",
    "Difference",
    "EValues",
    "Effect",
    "FalseCalls",
    "FamilyRule",
    "Hazard",
    "Judgement",
    "Length",
    "Line",
    "Lines",
    "OperatingPoint",
    "Plan",
    "Purchase",
    "RateBounds",
    "Tally",
    "WorstCase",
    "advise",
    "best_length",
    "cells",
    "check_control",
    "clean_trials_needed",
    "e_bh",
    "e_values",
    "effects",
    "false_calls",
    "halves",
    "hazard",
    "hosts_agree",
    "is_control",
    "kaplan_meier",
    "largest_confidence",
    "meaning",
    "member_design",
    "plan_for",
    "pool",
    "rate_bounds",
    "rate_excluded_with_losses",
    "smallest_min_rate",
    "total_rate_excluded",
    "word",
    "zero_crash_upper",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
