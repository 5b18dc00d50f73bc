"""The fixtures that tests ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flaky_repro.kernels import Kernel, Kernels
    from pytest_flaky_repro.machine.live import LiveGuest
    from pytest_flaky_repro.repro import Repro


@pytest.fixture
def kernels(pytestconfig: pytest.Config) -> Kernels:
    """All kernels of the run, by name."""
    return session_of(pytestconfig).kernels


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """One kernel of the run: a test that asks for it runs once for each."""
    name = getattr(request, "param", None)
    if name is None:
        raise UsageError("this test needs a kernel: pytest --kernel PATH/TO/bzImage")
    return session_of(request.config).kernels[name]


@pytest.fixture
def repro(request: pytest.FixtureRequest) -> Repro:
    """Runs a reproducer until there is a verdict: ``check`` raises, ``measure`` returns."""
    from pytest_flaky_repro.repro import Repro

    return Repro(request.node, _own_kernel(request))


@pytest.fixture
def vm(request: pytest.FixtureRequest) -> Iterator[LiveGuest]:
    """A guest that is booted once for the test: ``vm.run("uname -r")``."""
    from pytest_flaky_repro.vm import boot_guest

    with boot_guest(request.node, _own_kernel(request)) as guest:
        yield guest


def _own_kernel(request: pytest.FixtureRequest) -> Kernel | None:
    """The test's kernel, if it asked for one (in its arguments or through another fixture)."""
    if "kernel" not in request.fixturenames:
        return None
    from pytest_flaky_repro.kernels import Kernel

    chosen = request.getfixturevalue("kernel")
    return chosen if isinstance(chosen, Kernel) else None
