"""The ``vm`` fixture's guest: an ordinary boot, on the same machine-wide slots as trials."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.campaign.experiment import ENVIRONMENT, Conditions, assemble
from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.guest.reproducer import Payload
from pytest_flaky_repro.guest.shell import SHELL
from pytest_flaky_repro.machine.live import LiveGuest
from pytest_flaky_repro.session import session_of, settings_of
from pytest_flaky_repro.unstarted import explained

if TYPE_CHECKING:
    import pytest

    from pytest_flaky_repro.kernels import Kernel


@contextmanager
def boot_guest(item: pytest.Item, kernel: Kernel | None) -> Iterator[LiveGuest]:
    """Boots the test's kernel (or the only one there is) with a shell in it."""
    session, settings = session_of(item.config), settings_of(item)
    kernels = list(session.kernels.values())
    if kernel is None and len(kernels) != 1:
        raise UsageError(
            "the vm fixture needs one kernel: pytest --kernel PATH/TO/bzImage; with several, "
            "let the test ask for the fixture 'kernel' too"
        )
    bench = session.bench
    experiment = assemble(
        bench.image_of(kernel or kernels[0]),
        Payload((), (), "none"),
        Conditions(
            smp=settings["smp"],
            memory_mib=settings["memory"],
            machine=settings["machine"],
            append=settings["append"],
            trial_time=0.0,
        ),
        [item.config.invocation_params.dir / path for path in settings["initrd"]],
        cache_folder(),
        os.environ,
    )
    shell = (SHELL,) if experiment.image.has_shell else None
    with ExitStack() as stack:
        machine = stack.enter_context(bench.qemu(experiment, settings))
        try:
            guest = stack.enter_context(LiveGuest(machine, settings["smp"], ENVIRONMENT, shell))
        except InfrastructureError as error:
            raise InfrastructureError(explained(str(error), experiment, settings)) from error
        yield guest
