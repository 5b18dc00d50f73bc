"""``flaky-repro culprit``: what makes it crash, when the crash is a matter of luck.

Each sub-command is a module of its own here, with ``add`` (its arguments) and ``backend`` (what
builds); everything after that, from the shared options to the report, is the same for all.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from importlib import import_module

SUBCOMMANDS = {
    "objects": "object files: whose flags, or whose compiler, make the kernel crash",
    "config": "options: what must change in a good .config to make it crash",
    "commits": "commits: which one brought the crash",
    "set": "any list of candidates, any command that builds or runs with a chosen subset",
}


def add(parser: argparse.ArgumentParser) -> None:
    from pytest_flaky_repro.commands.culprit.shared import EPILOG, add_shared

    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    for name, summary in SUBCOMMANDS.items():
        kind = kinds.add_parser(
            name,
            help=summary,
            description=summary,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        import_module(f"{__name__}.{name}").add(kind)
        add_shared(kind)


def run(options: argparse.Namespace) -> int:
    from pytest_flaky_repro.commands.culprit.shared import search, search_options

    search_options(options)  # what is wrong with them is said before anything is built
    with ExitStack() as stack:
        backend = import_module(f"{__name__}.{options.kind}").backend(options, stack)
        return search(backend, options)
