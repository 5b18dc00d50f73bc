"""``flaky-repro``, also ``python -m pytest_flaky_repro``."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from pytest_flaky_repro.commands import own_words
from pytest_flaky_repro.errors import ReproError

COMMANDS = {
    "doctor": "what would go wrong here, and the mend; also gets a kernel to try things with",
    "plan": "trials and time to each verdict",
    "classify": "console log in, crash titles out",
    "combine": "one verdict from the evidence of many jobs",
    "report": "one HTML page that shows the evidence of any number of runs",
    "culprit": "which object, option, commit or anything else makes it crash",
    "factors": "what matters? crash rates over kernels, CPUs, environments, command lines",
    "initramfs": "build an initramfs from a gen_init_cpio list",
    "cc": "the compiler wrapper of 'culprit objects': good or bad flags, by object file",
}

BAD_INPUT = 2
INTERRUPTED = 128 + signal.SIGINT  # as shells say it
BROKEN_PIPE = 128 + signal.SIGPIPE  # no 0: that would be a verdict nobody read to its end


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; the exit status is its own, 2 for bad input and for what failed."""
    try:
        options = _parsed(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("flaky-repro: interrupted", file=sys.stderr)
        return INTERRUPTED
    return _run(options)


def _parsed(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="flaky-repro", description="Probabilistic crash reproducers on real kernels."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = words[0] if words and words[0] in COMMANDS else None
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary)
        if name == chosen:  # only this one's module is worth importing
            import_module(f"pytest_flaky_repro.commands.{name}").add(command)
    return parser.parse_args(words, argparse.Namespace(words=words))


def _run(options: argparse.Namespace) -> int:
    try:
        status: int = import_module(f"pytest_flaky_repro.commands.{options.command}").run(options)
        sys.stdout.flush()
    except ReproError as error:
        return _failed(options, own_words(str(error), options))
    except BrokenPipeError:  # somebody closed our output, as head(1) does
        _drop_output()
        return BROKEN_PIPE
    except OSError as error:
        _drop_output()
        name = f"{error.filename}: " if error.filename is not None else ""
        return _failed(options, f"{name}{error.strerror}")
    except KeyboardInterrupt:
        hint = "; go on with --resume" if "resume" in vars(options) else ""
        _failed(options, f"interrupted{hint}")
        return INTERRUPTED
    return status


def _failed(options: argparse.Namespace, text: str) -> int:
    print(f"flaky-repro {options.command}: {text}", file=sys.stderr)
    return BAD_INPUT


def _drop_output() -> None:
    """Lets nothing be written any more: Python would try again at its exit, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
