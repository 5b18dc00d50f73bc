"""Crash reading: console bytes and an ending in, reports and one honest outcome out.

Pure and lazy: names are imported from their modules when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .collector import Collector
    from .console import primary, read_console
    from .ending import Ending, Phase, Reading, Vanished, judge
    from .kinds import DEFAULT_CLASSES, CrashClass, parse_classes
    from .reading import Report
    from .signature import Signature

__all__ = [
    "DEFAULT_CLASSES",
    "Collector",
    "CrashClass",
    "Ending",
    "Phase",
    "Reading",
    "Report",
    "Signature",
    "Vanished",
    "judge",
    "parse_classes",
    "primary",
    "read_console",
]

_HOMES = {
    "Collector": "collector",
    "CrashClass": "kinds",
    "DEFAULT_CLASSES": "kinds",
    "Ending": "ending",
    "Phase": "ending",
    "Reading": "ending",
    "Report": "reading",
    "Signature": "signature",
    "Vanished": "ending",
    "judge": "ending",
    "parse_classes": "kinds",
    "primary": "console",
    "read_console": "console",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
