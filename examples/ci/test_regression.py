"""What the workflows beside this run, once for each kernel."""


def test_release_survives(repro, kernel):
    """One bug, one reproducer, one test."""
    repro.check("regression.c")
