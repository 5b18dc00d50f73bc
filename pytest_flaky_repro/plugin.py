"""The pytest plugin: options and hooks. What they do lives in the modules they call.

Nothing heavy is imported here: this file is loaded by every pytest run, used or not.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.fixtures import kernel, kernels, repro, vm
from pytest_flaky_repro.session import (
    COMPARISONS,
    DEADLINE,
    VERDICTS,
    exits_for_bisect,
    session_of,
    settings_of,
)
from pytest_flaky_repro.settings import OPTIONS, Option, unknown_variables

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["kernel", "kernels", "repro", "vm"]

MARKER = (
    "repro(min_rate=, trial_time=, ...): settings of this test's campaigns; every --repro-NAME "
    "option but those of the run as a whole can be given"
)


# ---- options


@pytest.hookimpl(trylast=True)
def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("flaky-repro", "probabilistic crash reproducers on real kernels")
    for option in OPTIONS:
        _add(group, option)
        kind: Any = "args" if option.repeatable else "string"
        parser.addini(option.ini, option.help, type=kind, default=[] if option.repeatable else "")


def _add(group: pytest.OptionGroup, option: Option) -> None:
    arguments: dict[str, Any] = {"dest": f"repro_{option.name}", "default": None}
    arguments["help"] = f"{option.help} (or {option.alias})" if option.alias else option.help
    if option.flag:
        arguments["action"] = "store_true"
    else:
        arguments["metavar"] = option.value
        arguments["action"] = "append" if option.repeatable else "store"
    group.addoption(option.option, **arguments)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from pytest_flaky_repro import hooks

    pluginmanager.add_hookspecs(hooks)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(
    early_config: pytest.Config, parser: pytest.Parser, args: list[str]
) -> Generator[None, Any, Any]:
    from pytest_flaky_repro.shortnames import spell_out

    if any(word.startswith("--repro-") for word in spell_out(args, parser)):
        from pytest_flaky_repro.rootdir import look_again

        look_again(early_config, args)
    result = yield
    args[:] = spell_out(args, parser)  # only now: a conftest.py may own a short name
    return result


def pytest_configure(config: pytest.Config) -> None:
    from pytest_flaky_repro.errors import UsageError

    config.addinivalue_line("markers", MARKER)
    try:
        settings = settings_of(config)
        if settings["pause_on_crash"] and (config.getoption("tx", None) or _is_worker(config)):
            msg = "--repro-pause-on-crash needs the terminal to itself: leave -n out"
            raise UsageError(msg)
        if settings["kernel"]:  # their names are checked before anything is collected
            session_of(config).kernels  # noqa: B018
        if settings["crash_classes"]:
            from pytest_flaky_repro.crash import parse_classes

            parse_classes(settings["crash_classes"], settings.source("crash_classes"))
        if (settings["html"] or settings["metrics"]) and not _is_worker(config):
            from pytest_flaky_repro.report.outputs import check_outputs

            check_outputs(settings, config.invocation_params.dir)
    except UsageError as error:
        raise pytest.UsageError(str(error)) from error
    if not _is_worker(config):
        for text in unknown_variables(os.environ):
            config.issue_config_time_warning(pytest.PytestConfigWarning(text), stacklevel=2)
    if settings["reproducer"] is not None and not _paths_were_given(config):
        config.args = []  # only the reproducer, not whatever tests lie about


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except pytest.UsageError as error:
        if not exits_for_bisect(config):
            raise
        from pytest_flaky_repro.report.exitstatus import SKIP

        sys.stderr.write(f"ERROR: {error}\n")
        return SKIP


def _in_use(config: pytest.Config) -> bool:
    settings = settings_of(config)
    return bool(settings["kernel"] or settings["reproducer"])


def _paths_were_given(config: pytest.Config) -> bool:
    return config.args_source is pytest.Config.ArgsSource.ARGS


def pytest_report_header(config: pytest.Config) -> list[str] | None:
    if not _in_use(config):
        return None
    from pytest_flaky_repro.report.header import header

    return header(config)


# ---- collection


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel" not in metafunc.fixturenames or not _is_ours(metafunc):
        return
    names = list(session_of(metafunc.config).kernels)
    if names:
        metafunc.parametrize("kernel", names, indirect=True)


def _is_ours(metafunc: pytest.Metafunc) -> bool:
    """Whether ``kernel`` is this plugin's fixture, and not parametrised by the test itself."""
    own = any("kernel" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    found = metafunc._arg2fixturedefs.get("kernel")  # noqa: SLF001 - there is no public way
    if own or not found:
        return False
    return found[-1].func.__module__ == "pytest_flaky_repro.fixtures"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    if settings_of(session.config)["reproducer"] is not None:
        from pytest_flaky_repro.collect import collect_reproducer

        items.extend(collect_reproducer(session))


# ---- running and reporting


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> None:
    """Notes pytest-timeout's deadline, so that a campaign ends before it, its evidence whole."""
    if settings.timeout:
        from pytest_flaky_repro.repro import seconds_left

        item.stash[DEADLINE] = seconds_left(settings.timeout)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.excinfo is not None or VERDICTS in item.stash or COMPARISONS in item.stash:
        from pytest_flaky_repro.report.outcomes import amend

        amend(report, item, call)
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport,
) -> tuple[str, str, Any] | None:
    if report.when == "repro-progress":
        return "", "", ""
    if hasattr(report, "repro_word"):
        from pytest_flaky_repro.report.outcomes import status

        return status(report)
    return None


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    settings = settings_of(config)
    is_wanted = _in_use(config) or settings["html"] or settings["metrics"]
    if _is_worker(config) or not is_wanted:
        return
    from pytest_flaky_repro.progress import ProgressPrinter

    config.pluginmanager.register(ProgressPrinter(config), "flaky-repro-progress")
    if settings["html"] or settings["metrics"]:
        from pytest_flaky_repro.report.outputs import Outputs

        config.pluginmanager.register(Outputs(config), "flaky-repro-outputs")
    if config.pluginmanager.has_plugin("dsession"):  # it starts its workers after this
        from pytest_flaky_repro.xdist import StopFile

        config.pluginmanager.register(StopFile(session), "flaky-repro-stop-file")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if settings_of(session.config)["exit"] == "bisect" and not _is_worker(session.config):
        from pytest_flaky_repro.report.exitstatus import bisect_status

        conclusions = [
            verdict["conclusion"]
            for verdict in session_of(session.config).summaries
            if verdict["deciding"]
        ]
        session.exitstatus = bisect_status(conclusions, int(exitstatus))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    summaries = session_of(config).summaries
    if summaries:
        from pytest_flaky_repro.report.terminal import write_summary

        write_summary(terminalreporter, summaries)
    if exitstatus == pytest.ExitCode.INTERRUPTED and _in_use(config):
        from pytest_flaky_repro.report.terminal import write_how_to_go_on

        write_how_to_go_on(terminalreporter, settings_of(config)["evidence"])


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")
