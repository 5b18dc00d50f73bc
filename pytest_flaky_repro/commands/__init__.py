"""The commands of ``flaky-repro``: each module has ``add`` (its arguments) and ``run``."""
