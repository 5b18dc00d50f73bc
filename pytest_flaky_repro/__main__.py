"""``python -m pytest_flaky_repro`` is ``flaky-repro``."""

from __future__ import annotations

import sys


def _main() -> int:
    try:
        from pytest_flaky_repro.cli import main
    except KeyboardInterrupt:  # before main could see to it
        sys.stderr.write("flaky-repro: interrupted\n")
        return 130
    return main()


if __name__ == "__main__":
    sys.exit(_main())
