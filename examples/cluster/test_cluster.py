"""An ordinary test: where its trials run is said on the command line (``--repro-dask``)."""

import pytest


@pytest.mark.repro(min_rate=0.2, confidence=0.9, trial_time=5)
def test_survives(repro, kernel):
    repro.check("survivor.c")
