"""The commands of ``flaky-repro``: each module has ``add`` (its arguments) and ``run``."""

from __future__ import annotations

import argparse
import re

_PLUGIN_OPTION = re.compile(r"--repro-([a-z]+(?:-[a-z]+)*)")


def own_words(text: str, options: argparse.Namespace) -> str:
    """A message of the layers below: ``--repro-smp`` becomes the command's own ``--smp``."""

    def own(match: re.Match[str]) -> str:
        known = match[1].replace("-", "_") in vars(options)
        return f"--{match[1]}" if known else match[0]

    return _PLUGIN_OPTION.sub(own, text)
