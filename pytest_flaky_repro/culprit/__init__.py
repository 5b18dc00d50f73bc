"""Finding the culprit when the crash is a matter of luck.

A :class:`~pytest_flaky_repro.culprit.building.Builder` builds with a chosen subset of candidates
bad, a :class:`~pytest_flaky_repro.culprit.testing.Tester` runs trials on what it built, and
:func:`~pytest_flaky_repro.culprit.search.find_culprit` asks both for as little as it can until it
knows which candidates make the crash. Knows nothing of pytest, QEMU or kernels.
"""
