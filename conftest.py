"""What tests of several folders share: the small kernels, and a QEMU. Nothing here skips."""

from __future__ import annotations

import runpy
import signal
from pathlib import Path

import pytest

from pytest_flaky_repro.cache import cache_folder
from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.machine.emulator import find_emulator
from pytest_flaky_repro.machine.spec import Emulator

pytest_plugins = ["pytester"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # started in the background by a shell: what the tests start would be deaf to Ctrl-C as well
    signal.signal(signal.SIGINT, signal.default_int_handler)

KERNELS = Path(__file__).parent / "tests" / "kernels" / "build.py"


def _kernel(name: str) -> Path:
    """Builds it the first time (minutes); what is missing for that is a failure, with the mend."""
    build = runpy.run_path(str(KERNELS))
    try:
        image: Path = build["kernel"](name)
    except build["KernelBuildError"] as error:
        pytest.fail(f"the test kernel {name!r} cannot be built: {error}", pytrace=False)
    return image


@pytest.fixture(scope="session")
def bare_kernel() -> Path:
    """One 8250 port, an initramfs, ELF, and nothing else."""
    return _kernel("bare")


@pytest.fixture(scope="session")
def smp_kernel() -> Path:
    """More than one CPU, /proc, SysRq, futexes."""
    return _kernel("smp")


@pytest.fixture(scope="session")
def no_console_kernel() -> Path:
    """A serial port, and no console on it."""
    return _kernel("no_console")


@pytest.fixture(scope="session")
def no_initrd_kernel() -> Path:
    """Never looks at its initramfs."""
    return _kernel("no_initrd")


@pytest.fixture(scope="session")
def described_kernel() -> Path:
    """Carries its own configuration (IKCONFIG), and is packed with zstd."""
    return _kernel("described")


@pytest.fixture(scope="session")
def emulator() -> Emulator:
    """The machine's QEMU."""
    try:
        return find_emulator()
    except InfrastructureError as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture(scope="session")
def user_cache() -> Path:
    """Where compiled agents and reproducers are kept between runs."""
    return cache_folder()
