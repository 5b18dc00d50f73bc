"""Undoes a mistake that pytest makes before it knows this plugin's options.

pytest looks for its rootdir and ini file before plugins are loaded. ``--kernel`` is unknown to it
then, so in ``pytest --kernel /boot/vmlinuz`` the kernel is taken for a test path: /boot becomes
the rootdir, and the project's ini file is not read. ``--kernel=/boot/vmlinuz`` is not affected.

There is no public way to look again, so this uses pytest's own function for it and puts the
answer where it would have been; where a pytest has changed too much for that, it says what to type.
"""

from __future__ import annotations

import inspect
import warnings
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.settings import OPTIONS

if TYPE_CHECKING:
    import pytest


def look_again(config: pytest.Config, args: list[str]) -> None:
    """Corrects ``config``'s rootdir and ini file, and adds that file's addopts to ``args``."""
    if not _values_stand_apart(args) or _was_told(config):
        return
    try:
        _correct(config, args)
    except (ImportError, TypeError, AttributeError, ValueError) as error:
        message = (
            f"pytest may have taken the value of --kernel for a test path ({error}); "
            "write it in one word: --kernel=PATH"
        )
        warnings.warn(message, stacklevel=2)


def _values_stand_apart(args: list[str]) -> bool:
    """Whether an option of ours was given as two words."""
    flags = {flag for o in OPTIONS if not o.flag for flag in (o.option, o.alias) if flag}
    return not flags.isdisjoint(args)


def _was_told(config: pytest.Config) -> bool:
    known = config.known_args_namespace
    return bool(known.rootdir or known.inifilename)


def _correct(config: Any, args: list[str]) -> None:
    from _pytest.config.findpaths import determine_setup

    known = config.known_args_namespace
    offered: dict[str, Any] = {
        "inifile": None,
        "override_ini": known.override_ini,
        "args": known.file_or_dir,
        "rootdir_cmd_arg": None,
        "invocation_dir": config.invocation_params.dir,
        "config": config,
    }
    wanted = inspect.signature(determine_setup).parameters
    found = determine_setup(**{name: offered[name] for name in wanted if name in offered})
    rootpath, inipath, inicfg = found[:3]
    if (rootpath, inipath) == (config.rootpath, config.inipath):
        return
    another_file = inipath != config.inipath
    config._rootpath, config._inipath = rootpath, inipath  # noqa: SLF001
    setattr(config, "_inicfg" if hasattr(config, "_inicfg") else "inicfg", inicfg)
    config._inicache.clear()  # noqa: SLF001
    config._parser.extra_info.update(rootdir=str(rootpath), inifile=str(inipath))  # noqa: SLF001
    if another_file:
        _apply_file(config, args)


def _apply_file(config: Any, args: list[str]) -> None:
    """What reading the ini file in the first place would have done."""
    import copy

    args[:] = [*config.getini("addopts"), *args]
    config.pluginmanager.consider_preparse(args, exclude_only=False)
    config._configure_python_path()  # noqa: SLF001
    parse = config._parser.parse_known_args  # noqa: SLF001
    config.known_args_namespace = parse(args, namespace=copy.copy(config.option))
