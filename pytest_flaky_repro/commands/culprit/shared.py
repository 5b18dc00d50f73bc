"""What all sub-commands share: options, the tester in guests, the search and its report."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_flaky_repro import crash
from pytest_flaky_repro import settings as options_of
from pytest_flaky_repro.bench import refuse_beside_dask
from pytest_flaky_repro.commands.culprit.backend import Backend, say
from pytest_flaky_repro.commands.culprit.showing import Display
from pytest_flaky_repro.culprit.disk import writing
from pytest_flaky_repro.culprit.ledger import FILES
from pytest_flaky_repro.culprit.result import Kind, Result
from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
from pytest_flaky_repro.culprit.testing import Tester
from pytest_flaky_repro.culprit_guests import GuestTester
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import folder_name
from pytest_flaky_repro.kernels import Kernel
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.report.culprit import report_data, report_lines
from pytest_flaky_repro.report.sentences import printable
from pytest_flaky_repro.request import Request, build_rules
from pytest_flaky_repro.settings import AutoTime, Settings, Sources, refuse_idle, resolve

FOUND, NOT_FOUND, UNRESOLVED = 0, 1, 3  # 2 is bad input, and what failed
GUEST_OPTIONS = (
    *("trial_time", "smp", "memory", "append", "initrd", "accel", "jobs", "machine"),
    *("boot", "batch", "boot_timeout", "hung", "crash_classes", "evidence", "qemu", "dask"),
)
_TRIAL_TIME = (
    "seconds that a trial may take, after which it has survived (default: 10; of --run-command: "
    "as many as it likes)"
)
EPILOG = """\
exit status: 0 the culprit is found and confirmed; 1 it is not in these candidates, or nothing
crashes; 3 unresolved (a budget was spent, or builds fail); 2 bad input, or the machinery failed.
Ctrl-C loses nothing that has ended: the same command with --resume goes on.
"""


def add_shared(parser: argparse.ArgumentParser) -> None:
    """The options of every sub-command."""
    search = parser.add_argument_group("the search")
    search.add_argument(
        "--confidence", default="0.99", metavar="C", help="of the answer (default: 0.99)"
    )
    search.add_argument(
        "--crash", metavar="REGEX", help="the crash that counts (default: what all bad shows)"
    )
    search.add_argument("--noise", default="0", metavar="P", help="rate of crashes that are noise")
    search.add_argument(
        "--min-rate", default="0.01", metavar="P",
        help="give up when all bad crashes less often (default: 0.01)",
    )  # fmt: skip
    of_all = "stop as unresolved after so many, those of earlier runs (--resume) included"
    search.add_argument(
        "--max-trials", metavar="N", help=f"{of_all}, and those that taught nothing"
    )
    search.add_argument("--max-builds", metavar="N", help=of_all)
    search.add_argument(
        "--budget", metavar="S", help="stop as unresolved after so many seconds of this run"
    )
    search.add_argument(
        "--strategy", choices=("prefix", "hash"), default="prefix",
        help="hash: one build for each of 32 bits of the names' SHA-1, for comparison",
    )  # fmt: skip
    search.add_argument("--evidence", metavar="DIR", help="where records go (default: .repro)")
    search.add_argument(
        "--resume", action="store_true",
        help="go on from an earlier run's records; without it no trial of them counts",
    )  # fmt: skip
    search.add_argument(
        "--seed", metavar="TEXT",
        help="what the trials' seeds are made from (default: random, noted in the evidence)",
    )  # fmt: skip
    search.add_argument("--json", action="store_true", help="for machines")
    guests = parser.add_argument_group(
        "trials in guests", "With --run-command, only --env, --trial-time and --jobs count."
    )
    guests.add_argument("--reproducer", type=Path, metavar="PATH", help="what makes it crash")
    guests.add_argument(
        "--env", action="append", default=[], metavar="NAME=VALUE",
        help="for the environment of the reproducer, or of --run-command; repeatable",
    )  # fmt: skip
    guests.add_argument(
        "--initrd", action="append", default=None, metavar="PATH",
        help="an archive laid over the generated initramfs; repeatable",
    )  # fmt: skip
    for name in GUEST_OPTIONS:
        if name in ("initrd", "evidence") or name not in options_of.BY_NAME:
            continue
        option = options_of.BY_NAME[name]
        flag = "--" + name.replace("_", "-")
        own = name == "trial_time"  # auto has nothing to learn from here
        metavar, text = ("S", _TRIAL_TIME) if own else (option.value, _help_of(option))
        guests.add_argument(flag, metavar=metavar, help=text)


def _help_of(option: options_of.Option) -> str:
    """As in pytest, with the names that options have here."""
    return option.help.replace("--repro-", "--")


def search_options(options: argparse.Namespace) -> SearchOptions:
    """The search's own options, checked."""
    target = crash.Signature.parse(options.crash, "--crash") if options.crash else None
    return SearchOptions(
        confidence=value_of(options, "confidence", options_of.confidence),
        noise=value_of(options, "noise", options_of.noise_rate),
        min_rate=value_of(options, "min_rate", options_of.rate),
        target=target,
        max_trials=value_of(options, "max_trials", options_of.count),
        max_builds=value_of(options, "max_builds", options_of.count),
        seconds=value_of(options, "budget", options_of.seconds),
        strategy=options.strategy,
        resume=options.resume,
    )


def value_of(options: argparse.Namespace, name: str, parse: Callable[[str], Any]) -> Any:
    """An option's value, parsed; None when it was not given."""
    text = getattr(options, name)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        flag = "--" + name.replace("_", "-")
        raise UsageError(f"{flag} {text}: expected {error}") from None


def environment_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The words of --env, checked."""
    for text in options.env:
        if not text.partition("=")[0] or "=" not in text:
            raise UsageError(f"--env {text}: expected NAME=VALUE")
    return tuple(options.env)


def guest_settings(options: argparse.Namespace) -> Settings:
    """The options of trials in guests, as everywhere else."""
    given = {name: getattr(options, name) for name in GUEST_OPTIONS if name in options_of.BY_NAME}
    settings = resolve(Sources({}, given, {}, {}))
    refuse_idle(settings)
    return settings


def guest_tester(options: argparse.Namespace, settings: Settings, title: str) -> GuestTester:
    """Guests that run ``--reproducer``."""
    if options.reproducer is None:
        raise UsageError("--reproducer PATH is needed: what trials run in the guest")
    root = Path.cwd()
    request = Request(
        item=f"trials of {title}",
        kernel=Kernel("none", root),  # each image brings its own
        reproducer=root / options.reproducer,
        rules=build_rules(settings, None, (0,)),
        environment=environment_of(options),
        named_by="--reproducer",
    )
    return GuestTester(root, request, settings, options.seed)


def check_guests(options: argparse.Namespace) -> None:
    """What is wrong with trials in guests is said before anything is built."""
    settings = guest_settings(options)
    if isinstance(settings["trial_time"], AutoTime):
        raise UsageError(
            f"--trial-time {options.trial_time}: expected a positive number of seconds; how long "
            "is best is learned from a known-bad kernel, which a search is yet to find"
        )
    if settings["dask"] is None:
        find_emulator(settings["qemu"])
    else:
        refuse_beside_dask(settings)
    guest_tester(options, settings, options.kind)


def search(backend: Backend, options: argparse.Namespace) -> int:
    """Searches, reports, and goes deeper where the backend says so; the exit status."""
    asked, settings = search_options(options), guest_settings(options)
    reports: list[dict[str, Any]] = []
    while True:
        tester: Tester = backend.tester or guest_tester(options, settings, backend.title)
        result = _one(backend, tester, asked, Path.cwd() / settings["evidence"])
        reports.append(_report(backend, result, as_json=options.json))
        further = backend.deeper(result) if backend.deeper is not None else None
        if further is None:
            break
        backend = further
        if not options.json:
            print()
    if options.json:
        print(json.dumps({**reports[-1], "before": reports[:-1]}, indent=1))
    return exit_status(result)


def _one(backend: Backend, tester: Tester, asked: SearchOptions, evidence: Path) -> Result:
    display, folder = Display(), evidence / folder_name(f"culprit {backend.title}")
    if not asked.resume and any(folder.glob(FILES)):
        say(
            f"{folder} has earlier runs, which this one leaves behind with its first trial; "
            "with --resume it would go on from them"
        )
    try:
        with writing(folder):
            return find_culprit(
                backend.builder,
                tester,
                asked,
                folder=folder,
                title=backend.title,
                watcher=display,
            )
    finally:
        display.clear()


def _report(backend: Backend, result: Result, *, as_json: bool) -> dict[str, Any]:
    sections = backend.afterwards(result) if backend.afterwards is not None else []
    data: Mapping[str, Any] = {section.heading: dict(section.data) for section in sections}
    if not as_json:
        print(printable(backend.title))
        print("\n".join(report_lines(result)))
        for section in sections:
            print(f"\n{section.heading}")
            print("\n".join(section.lines))
    return {"title": backend.title, **report_data(result), "sections": data}


def exit_status(result: Result) -> int:
    """0 found and confirmed, 1 not there, 3 unresolved."""
    if result.kind in (Kind.SINGLE, Kind.ALL_OF, Kind.ANY_OF):
        return FOUND
    if result.kind is Kind.UNRESOLVED:
        say(f"unresolved: {printable(result.why)}")
        return UNRESOLVED
    return NOT_FOUND
