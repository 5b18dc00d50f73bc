"""Undoes a mistake that pytest makes before it knows this plugin's options.

pytest looks for its rootdir and ini file before plugins are loaded. ``--kernel`` is unknown to it
then, so in ``pytest --kernel /boot/vmlinuz`` the kernel is taken for a test path: /boot becomes
the rootdir, and the project's ini file is not read. ``--kernel=/boot/vmlinuz`` is not affected.

There is no public way to look again, so this uses pytest's own function for it and puts the
answer where it would have been; where a pytest has changed too much for that, it says what to type.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_flaky_repro.settings import OPTIONS
from pytest_flaky_repro.shortnames import spell_out

if TYPE_CHECKING:
    import pytest


def look_again(config: pytest.Config, args: list[str]) -> None:
    """Corrects ``config``'s rootdir and ini file, and ``args`` by what that file adds to them."""
    if not _values_stand_apart(spell_out(args, config._parser)):  # noqa: SLF001
        return
    try:
        _correct(config, args)
    except (ImportError, TypeError, AttributeError, ValueError) as error:
        message = (
            f"pytest may have taken the value of --kernel for a test path ({error!r}); "
            "write it in one word: --kernel=PATH"
        )
        warnings.warn(message, stacklevel=2)


def _values_stand_apart(words: Sequence[str]) -> bool:
    """Whether an option of ours was given as two words."""
    return not {option.option for option in OPTIONS if not option.flag}.isdisjoint(words)


def _correct(config: Any, args: list[str]) -> None:
    misread = config.getini("addopts")
    if _look(config, _parse(config, args)):
        if args[: len(misread)] == misread:  # they came first, before anything else was added
            del args[: len(misread)]
        args[:] = [*config.getini("addopts"), *args]
        config.pluginmanager.consider_preparse(args, exclude_only=False)
        if hasattr(config, "_configure_python_path"):  # pytest 8.0 does it later, in a hook
            config._configure_python_path()  # noqa: SLF001
    config.known_args_namespace = known = _parse(config, args)
    if known.confcutdir is None:
        known.confcutdir = str(config.inipath.parent if config.inipath else config.rootpath)


def _parse(config: Any, args: list[str]) -> Any:
    import copy

    parser = config._parser  # noqa: SLF001
    return parser.parse_known_args(spell_out(args, parser), namespace=copy.copy(config.option))


def _look(config: Any, known: Any) -> bool:
    """As pytest did, but with what are test paths indeed; True if that is another ini file."""
    import inspect

    from _pytest.config.findpaths import determine_setup

    offered: dict[str, Any] = {
        "inifile": known.inifilename,
        "override_ini": known.override_ini,
        "args": known.file_or_dir,
        "rootdir_cmd_arg": known.rootdir or None,
        "invocation_dir": config.invocation_params.dir,
    }
    wanted = inspect.signature(determine_setup).parameters
    rootpath, inipath, inicfg, *_ = determine_setup(**{name: offered[name] for name in wanted})
    is_another: bool = inipath != config.inipath
    config._rootpath, config._inipath = rootpath, inipath  # noqa: SLF001
    setattr(config, "_inicfg" if hasattr(config, "_inicfg") else "inicfg", inicfg)
    config._inicache.clear()  # noqa: SLF001
    config._parser.extra_info.update(rootdir=str(rootpath), inifile=str(inipath))  # noqa: SLF001
    return is_another
