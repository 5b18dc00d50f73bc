"""Hypothesis without deadlines: no test here is about time, and the first numpy call is slow."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
