"""The order in which options change, so that (nearly) every prefix of it is a configuration.

An option that is switched on comes after what it depends on; one that is switched off comes before
what it depends on. A prefix of such an order loses hardly any of its values when Kconfig settles
it: between a tiny configuration of Linux 6.1 and x86_64_defconfig, which differ in 748 options,
0 to 3 did not take at cuts in eighths. In the order of the files it is 43 to 66, by the alphabet
36 to 148, at random 74 to 278.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from pytest_flaky_repro.culprit.config.changes import Change
from pytest_flaky_repro.culprit.config.kconfig import Symbols


def ordered(symbols: Symbols, changes: Mapping[str, Change]) -> list[Change]:
    """The changes in a topological order of their dependencies; where free, on before off.

    A circle of dependencies is cut at its earliest member in the files.
    """
    before = prerequisites(symbols, changes)
    after: dict[str, list[str]] = {name: [] for name in changes}
    for name, earlier in before.items():
        for other in earlier:
            after[other].append(name)
    ranks = {
        name: (not change.is_upward, place) for place, (name, change) in enumerate(changes.items())
    }
    return [changes[name] for name in _topological(before, after, ranks)]


def _topological(
    before: Mapping[str, set[str]],
    after: Mapping[str, Iterable[str]],
    ranks: Mapping[str, tuple[bool, int]],
) -> list[str]:
    waiting = {name: set(earlier) for name, earlier in before.items()}
    ready = [(ranks[name], name) for name, earlier in waiting.items() if not earlier]
    heapq.heapify(ready)
    done: list[str] = []
    while waiting:
        if not ready:  # a circle
            fewest = min(waiting, key=lambda name: (len(waiting[name]), ranks[name]))
            heapq.heappush(ready, (ranks[fewest], fewest))
            waiting[fewest].clear()
        _, name = heapq.heappop(ready)
        if waiting.pop(name, None) is None:
            continue
        done.append(name)
        for later in after[name]:
            if later in waiting and name in waiting[later]:
                waiting[later].discard(name)
                if not waiting[later]:
                    heapq.heappush(ready, (ranks[later], later))
    return done


def prerequisites(symbols: Symbols, changes: Mapping[str, Change]) -> dict[str, set[str]]:
    """For each change, those that have to come before it.

    Switched on, an option comes after what it depends on and what it selects; switched off, before
    them. Whatever becomes of it, its value can be chosen only while its prompt is shown.
    Dependencies are followed through symbols without a prompt.
    """
    owners = {option.name: name for name, change in changes.items() for option in change.options}
    upward = {option.name: option.is_upward for c in changes.values() for option in c.options}
    sources = _hidden_sources(symbols)
    before: dict[str, set[str]] = {name: set() for name in changes}
    for name in owners:
        pairs = {
            (other, name) if upward[name] else (name, other)
            for other in _needed(name, symbols, sources, owners)
        } | set(_shown(name, symbols, upward))
        for earlier, later in pairs:
            if owners[earlier] != owners[later]:
                before[owners[later]].add(owners[earlier])
    return before


def _shown(name: str, symbols: Symbols, upward: Mapping[str, bool]) -> Iterator[tuple[str, str]]:
    """Pairs (earlier, later) that keep the option's prompt in sight when its value changes."""
    symbol = symbols.get(name)
    for condition in symbol.shown_if if symbol is not None else ():
        other = condition.lstrip("!")
        if other in upward:
            comes_into_sight = upward[other] != condition.startswith("!")
            yield (other, name) if comes_into_sight else (name, other)


def _hidden_sources(symbols: Symbols) -> dict[str, set[str]]:
    """What each symbol without a prompt takes its value from."""
    sources = {
        name: symbol.needs | symbol.defaults
        for name, symbol in symbols.items()
        if not symbol.prompt
    }
    for name, symbol in symbols.items():
        for selected in symbol.selects:
            if selected in sources:
                sources[selected].add(name)
    return sources


def _needed(
    name: str, symbols: Symbols, sources: Mapping[str, set[str]], goals: Mapping[str, str]
) -> set[str]:
    """The changing options that this one depends on or selects, also through hidden symbols."""
    symbol = symbols.get(name)
    if symbol is None:
        return set()
    hidden_selects = {
        hidden: symbols[hidden].selects for hidden in sources if symbols[hidden].selects
    }
    return _reached(symbol.needs, sources, goals) | _reached(symbol.selects, hidden_selects, goals)


def _reached(
    starts: Iterable[str], steps: Mapping[str, set[str]], goals: Mapping[str, str]
) -> set[str]:
    """The goals met first on each way from ``starts``."""
    todo, seen, reached = list(starts), set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in goals:
            reached.add(name)
        else:
            todo += steps.get(name, ())
    return reached
