"""Getting through to a Dask scheduler, and saying clearly why not."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flaky_repro.errors import UsageError

if TYPE_CHECKING:
    from distributed import Client

PACKAGE = "pytest_flaky_repro"
PATIENCE_S = 10.0


def connect(address: str) -> Client:
    """A client of the scheduler at ``address``: ``tcp://host:port``, or its scheduler file.

    TLS and time limits are as Dask's own configuration sets them. Raises UsageError.
    """
    try:
        from distributed import Client
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
        return Client(**where, timeout=PATIENCE_S, set_as_default=False, name="flaky-repro")
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"--repro-dask {address}: no scheduler answers there ({_reason(error)}). Start one "
            "('dask scheduler' prints its address), or mend the address or what lies between"
        ) from error


def refuse_other_versions(client: Client, address: str) -> None:
    """UsageError that names the first worker (or scheduler) whose version is not ours."""
    ours = version(PACKAGE)
    found = client.get_versions(packages=[PACKAGE])
    places = {"the scheduler": found["scheduler"]}
    places |= {f"worker {worker}": said for worker, said in found["workers"].items()}
    for place, said in places.items():
        theirs = said["packages"].get(PACKAGE)
        if theirs != ours:
            has = f"has pytest-flaky-repro {theirs}" if theirs else "has no pytest-flaky-repro"
            raise UsageError(
                f"--repro-dask {address}: {place} {has}, and this is {ours}. Results of different "
                f"versions are not added up: pip install 'pytest-flaky-repro[dask]=={ours}' there "
                "and start it again"
            )


def worker_addresses(client: Client) -> list[str]:
    """All workers that the scheduler has now."""
    return list(client.scheduler_info(n_workers=-1)["workers"])


def _reason(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__
