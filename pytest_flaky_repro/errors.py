"""Errors a user meets. Each message says what was expected, what was seen, and the mend."""

from __future__ import annotations


class ReproError(Exception):
    """Base of everything this package raises on purpose."""


class UsageError(ReproError):
    """Bad input: an option, a marker, a file. Names the source and the mend."""


class InfrastructureError(ReproError):
    """The harness failed, so nothing was learned about the kernel."""
