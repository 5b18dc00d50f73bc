"""``python -m pytest_flaky_repro`` is ``flaky-repro``."""

import sys

from pytest_flaky_repro.cli import main

if __name__ == "__main__":
    sys.exit(main())
