"""What differs between two configurations, as changes that can be made one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_flaky_repro.culprit.config.dotconfig import NOT_SET
from pytest_flaky_repro.culprit.config.kconfig import Symbol, Symbols

_LEVEL = {NOT_SET: 0, "m": 1, "y": 2}


@dataclass(frozen=True)
class Option:
    """One option's value in either configuration."""

    name: str
    good: str
    bad: str

    @property
    def is_upward(self) -> bool:
        """Whether it is switched on, or further on, or given another value."""
        return _LEVEL.get(self.bad, 2) >= _LEVEL.get(self.good, 2)

    def __str__(self) -> str:
        return f"{self.name}: {self.good} -> {self.bad}"


@dataclass(frozen=True)
class Change:
    """What is changed at once: one option, or the members of a choice, of which one is always on.

    ``name`` is the option's; of a choice, that of the member which the bad configuration has on.
    """

    name: str
    options: tuple[Option, ...]

    @property
    def is_upward(self) -> bool:
        """Whether it switches something on."""
        return next(option for option in self.options if option.name == self.name).is_upward

    def __str__(self) -> str:
        if len(self.options) == 1:
            return str(self.options[0])
        before = [option.name for option in self.options if option.good == "y"]
        return f"{self.name} instead of {' or '.join(before) or 'nothing'}"


def find_changes(
    symbols: Symbols, good: Mapping[str, str], bad: Mapping[str, str]
) -> dict[str, Change]:
    """The changes that a user could make in menuconfig, by name, in the order of the Kconfig files.

    Symbols without a prompt follow from the others. An option that is off in one configuration and
    out of sight in the other does not differ; neither does a number or a string that only one of
    the two shows, since it counts only where the option it hangs on is on.
    """
    different: dict[str, Option] = {}
    for name in sorted(good.keys() | bad.keys(), key=lambda name: _place(symbols, name)):
        symbol = symbols.get(name)
        if symbol is not None and not symbol.prompt:
            continue
        values = (good.get(name), bad.get(name))
        if _is_switch(symbols, name, values):
            values = (values[0] or NOT_SET, values[1] or NOT_SET)
        if values[0] is not None and values[1] is not None and values[0] != values[1]:
            different[name] = Option(name, values[0], values[1])
    return _grouped(symbols, different)


def wanted_everywhere(
    symbols: Symbols, good: Mapping[str, str], bad: Mapping[str, str]
) -> dict[str, str]:
    """The prompts' values that are no change: the same in both, or shown by one of them only.

    Switches that neither configuration has on are off, also where a mixture of the two would bring
    them into sight with a default of "y".
    """
    values = {name: NOT_SET for name, symbol in symbols.items() if _may_be_off(symbol)}
    for name in good.keys() | bad.keys():
        symbol = symbols.get(name)
        if symbol is None or symbol.prompt:
            values[name] = good.get(name, bad.get(name, NOT_SET))
    return values


def _may_be_off(symbol: Symbol) -> bool:
    """A choice's members are left to the choice: one of them is always on."""
    return symbol.prompt and symbol.is_switch and symbol.choice is None


def _is_switch(symbols: Symbols, name: str, values: tuple[str | None, str | None]) -> bool:
    symbol = symbols.get(name)
    if symbol is not None and symbol.kind:
        return symbol.is_switch
    return all(value is None or value in _LEVEL for value in values)


def _place(symbols: Symbols, name: str) -> tuple[int, str]:
    symbol = symbols.get(name)
    return (symbol.place if symbol is not None else len(symbols), name)


def _grouped(symbols: Symbols, different: Mapping[str, Option]) -> dict[str, Change]:
    """Members of one choice go together."""
    groups: dict[object, list[Option]] = {}
    for name, option in different.items():
        symbol = symbols.get(name)
        of_choice = symbol is not None and symbol.choice is not None
        groups.setdefault(symbol.choice if of_choice and symbol else name, []).append(option)
    changes = [Change(_spokesman(options), tuple(options)) for options in groups.values()]
    return {change.name: change for change in changes}


def _spokesman(options: list[Option]) -> str:
    on = [option.name for option in options if option.bad == "y"]
    return (on or [options[0].name])[0]
