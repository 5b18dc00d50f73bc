"""``flaky-repro culprit set``: any list of candidates, any command."""

from __future__ import annotations

import argparse
import shlex
from contextlib import ExitStack
from pathlib import Path

from pytest_flaky_repro import settings as options_of
from pytest_flaky_repro.commands.culprit.backend import Backend
from pytest_flaky_repro.commands.culprit.running import HELP, command_tester
from pytest_flaky_repro.commands.culprit.shared import check_guests
from pytest_flaky_repro.culprit.building import Builder, Shape
from pytest_flaky_repro.culprit.candidates import Candidate
from pytest_flaky_repro.culprit.command_files import files_of, mentions
from pytest_flaky_repro.culprit.commanded import (
    VARIABLES,
    CommandBuilder,
    TrialsIn,
    Variation,
    VariedBuilder,
)
from pytest_flaky_repro.culprit.holding import held
from pytest_flaky_repro.culprit.processes import ProcessTester
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import folder_name

DESCRIPTION = """\
any list of candidates, any command that builds or runs with a chosen subset

A command finds the names that are bad this time in the file $CULPRIT_BAD, one a line, and the
others in $CULPRIT_GOOD.

  --build-command CMD   leaves a kernel (or anything --run-command can use) at $CULPRIT_OUTPUT, or
                        prints its path as its last line. Exit 0: built; any other: this subset
                        cannot be built, which is never taken for good. What was built is reused
                        with --resume only, and only while the command and the scripts that it
                        names are the same.
  --run-command CMD     is a trial on this machine, without a guest. Exit 0: survived; 125: could
                        not be run; 126, 127: there is no such command, which ends the search;
                        anything else, or a signal: crashed. It may take as long as it likes; with
                        --trial-time, still running then is survived. What was built is at
                        $CULPRIT_ARTEFACT, $REPRO_SEED differs with each trial. Trials run side by
                        side: --jobs 1 for a command that uses fixed names or ports.
  --vary append         nothing is built: the names are words for the command line of --kernel.
  --vary env            nothing is built: the names are NAME=VALUE, set for the reproducer (with
                        --kernel) or for --run-command.

Subsets whose builds are equal share their trials, unless --run-command, or a file that it names,
speaks of $CULPRIT_BAD or $CULPRIT_GOOD.

examples:
  flaky-repro culprit set --candidates passes.txt --build-command ./build.sh --reproducer race.c
  flaky-repro culprit set --candidates flags.txt --run-command ./try.sh
  flaky-repro culprit set --candidates words.txt --vary append --kernel bzImage --reproducer race.c
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    argument = parser.add_argument
    argument(
        "--candidates", type=Path, required=True, metavar="FILE",
        help="one name a line; what is empty or begins with # is left out",
    )  # fmt: skip
    argument("--build-command", metavar="CMD", help="builds with a subset bad")
    argument("--run-command", metavar="CMD", help=HELP)
    argument("--vary", choices=("append", "env"), help="what the names change; nothing is built")
    argument("--kernel", type=Path, metavar="PATH", help="the kernel of --vary")
    argument(
        "--ordered", action="store_true",
        help="only the first so many can be bad together, as with patches of a series",
    )  # fmt: skip


def backend(options: argparse.Namespace, stack: ExitStack) -> Backend:
    candidates = _candidates(options.candidates)
    title = f"set {options.candidates}"
    evidence = Path(options.evidence or options_of.BY_NAME["evidence"].default)
    folder = (evidence / "builds" / folder_name(title)).absolute()
    builder = _builder(options, candidates, folder)
    if options.build_command is not None:
        stack.enter_context(held(folder, "--evidence"))
    return Backend(builder, title, _tester(options))


def _candidates(path: Path) -> list[Candidate]:
    try:
        lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    except OSError as error:
        raise UsageError(f"--candidates {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        number = 1 + error.object.count(b"\n", 0, error.start)
        raise UsageError(
            f"--candidates {path}: expected text (UTF-8), one name a line; line {number} is none"
        ) from error
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise UsageError(f"--candidates {path}: expected one name a line, found none")
    return [Candidate(name) for name in names]


def _builder(options: argparse.Namespace, candidates: list[Candidate], folder: Path) -> Builder:
    shape = Shape.CHAIN if options.ordered else Shape.SET
    if options.build_command is not None:
        if options.vary is not None or options.kernel is not None:
            raise UsageError("--build-command builds what is tested: leave --vary, --kernel out")
        command, trials = options.build_command, _trials_in(options)
        return CommandBuilder(
            candidates, command, folder, shape, reuse=options.resume, trials=trials
        )
    if options.run_command is None and (options.vary is None or options.kernel is None):
        raise UsageError(
            "expected --build-command CMD, or --run-command CMD, or --vary append|env with "
            "--kernel PATH: something has to differ between subsets"
        )
    if options.run_command is not None and options.kernel is not None:
        raise UsageError("--run-command is a trial without a guest: leave --kernel out")
    if options.kernel is not None and not options.kernel.is_file():
        raise UsageError(f"--kernel {options.kernel}: no such file. Give the path of a bzImage")
    if options.run_command is not None and options.vary == "append":
        raise UsageError("--vary append changes a kernel's command line: --run-command has none")
    variation = Variation(options.vary) if options.vary is not None else Variation.FILE
    kernel = options.kernel.absolute() if options.kernel is not None else None
    return VariedBuilder(candidates, variation, folder, shape, kernel)


def _trials_in(options: argparse.Namespace) -> TrialsIn:
    """Equal builds share their trials, unless these look at the names, too."""
    command = options.run_command
    if command is None:
        return TrialsIn.GUESTS
    files = files_of(command, Path.cwd())
    asks = any(mentions(command, files, Path.cwd(), name) for name in VARIABLES)
    return TrialsIn.KNOWING if asks else TrialsIn.COMMANDS


def _tester(options: argparse.Namespace) -> ProcessTester | None:
    if options.run_command is None:
        check_guests(options)
        return None
    command = f"cd {shlex.quote(str(Path.cwd()))} && {options.run_command}"
    return command_tester(options, command, Path.cwd())
