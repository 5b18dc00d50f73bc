"""Where what is built is kept between runs."""

from __future__ import annotations

from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError
from pytest_flaky_repro.settings import BY_NAME


def build_folder(evidence: str | None, name: str) -> Path:
    """A search's own folder beside its evidence, which git and its users need not see."""
    builds = Path(evidence or BY_NAME["evidence"].default) / "builds"
    try:
        builds.mkdir(parents=True, exist_ok=True)
        (builds / ".gitignore").write_text("*\n")
    except OSError as error:
        raise InfrastructureError(
            f"{builds} cannot be made: {error.strerror}. Name another folder with --build-folder"
        ) from error
    return builds / name
