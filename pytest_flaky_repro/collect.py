"""``--reproducer PATH``: items for which no test file is needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_flaky_repro.session import session_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def collect_reproducer(session: pytest.Session) -> list[pytest.Item]:
    """The items, and the report of them that lets pytest count what it collected."""
    items = list(_reproducer_items(session))
    session.config.hook.pytest_collectreport(
        report=pytest.CollectReport("", "passed", None, list(items))
    )
    return items


def _reproducer_items(session: pytest.Session) -> Iterator[pytest.Item]:
    """One item for each kernel."""
    config = session.config
    path = settings_of(config)["reproducer"]
    names = list(session_of(config).kernels)
    if not names:
        raise pytest.UsageError(
            f"--reproducer {path} needs a kernel to run on: --kernel PATH/TO/bzImage"
        )
    for name in names:
        yield ReproducerItem.from_parent(
            session, name=f"{path}[{name}]", nodeid=f"{path}[{name}]", kernel=name, program=path
        )


class ReproducerItem(pytest.Item):
    """Checks one reproducer on one kernel."""

    def __init__(self, *, kernel: str, program: str, **rest: Any) -> None:
        super().__init__(**rest)
        self._kernel, self._program = kernel, program

    def runtest(self) -> None:
        from pytest_flaky_repro.repro import Repro

        kernel = session_of(self.config).kernels[self._kernel]
        path = self.config.invocation_params.dir / self._program
        named_by = settings_of(self.config).source("reproducer")
        Repro(self, kernel, named_by).check(path)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        # not the name: pytest would take the dot of "crasher.c" for a class's and write "::"
        title = f"{self._program} on {self._kernel}"
        return self.config.invocation_params.dir / self._program, None, title
