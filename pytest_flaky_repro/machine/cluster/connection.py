"""Getting through to a Dask scheduler, and saying clearly why not."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_flaky_repro.errors import UsageError

PACKAGE = "pytest_flaky_repro"
PATIENCE_S = 10.0


def connect(address: str) -> Any:
    """A ``distributed.Client``, which has no types.

    ``address`` is the scheduler's (``tcp://host:port``), or the path of its scheduler file. TLS
    and time limits are as Dask's own configuration sets them. Raises UsageError.
    """
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--repro-dask needs Dask, which is not installed here ({error}). "
            "Install it: pip install 'pytest-flaky-repro[dask]'"
        ) from error
    where = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    if "scheduler_file" in where and not Path(address).is_file():
        raise UsageError(
            f"--repro-dask {address}: there is no such scheduler file. Name the one that "
            "'dask scheduler --scheduler-file' writes, or an address such as tcp://HOST:8786"
        )
    try:
        connected: Any = distributed.Client
        return connected(**where, timeout=PATIENCE_S, set_as_default=False, name="flaky-repro")
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"--repro-dask {address}: no scheduler answers there ({_reason(error)}). Start one "
            "('dask scheduler' prints its address), or mend the address or what lies between"
        ) from error


def equal_workers(client: Any, address: str) -> list[str]:
    """The addresses of all workers. UsageError names the first whose version is not ours.

    The scheduler needs the package too: it looks into the tasks that it is given.
    """
    ours = version(PACKAGE)
    found = client.get_versions(packages=[PACKAGE])
    places = {"the scheduler": found["scheduler"]}
    places |= {f"worker {worker}": said for worker, said in found["workers"].items()}
    for place, said in places.items():
        theirs = said["packages"].get(PACKAGE)
        if theirs != ours:
            has = f"has pytest-flaky-repro {theirs}" if theirs else "has no pytest-flaky-repro"
            raise UsageError(
                f"--repro-dask {address}: {place} {has}, and this is {ours}. Trials of "
                "different versions are not added up: run there "
                f"\"pip install 'pytest-flaky-repro[dask]=={ours}'\" and start it again"
            )
    return list(found["workers"])


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
