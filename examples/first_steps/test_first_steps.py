"""pytest --kernel PATH/TO/bzImage --confidence 0.99 examples/first_steps"""


def test_rare_crash(repro, kernel):
    """Fails: one trial in twenty crashes, and 99 campaigns in 100 see it."""
    repro.check("rare_crash.c", crash="SIGSEGV")


def test_never_crashes(repro, kernel):
    """Passes: 90 trials without a crash rule out a rate of 5% or more at 99%."""
    repro.check("never_crashes.c")
