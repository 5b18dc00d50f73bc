"""What the plugin costs a pytest run that does not use it, beside other plugins.

    python benchmarks/unused.py [--runs 15]

All sides in one run, in turn: pytest alone, then with one plugin each, in a throw-away virtual
environment that is made from the package index. Figures are CPU time (user + system, in
milliseconds) of ``pytest --collect-only`` on one empty test, the median over the runs and its
difference to core pytest; and the CPU time of importing the plugin's module once pytest is there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent.parent


@dataclass
class Side:
    """One plugin: the word for ``-p``, the module to import, and what was measured."""

    name: str
    plugin: str | None
    module: str | None
    collect: list[float] = field(default_factory=list)
    imported: list[float] = field(default_factory=list)


def sides() -> list[Side]:
    return [
        Side("core pytest", None, None),
        Side("this plugin", "pytest_flaky_repro.plugin", "pytest_flaky_repro.plugin"),
        Side("pytest-benchmark", "pytest_benchmark.plugin", "pytest_benchmark.plugin"),
        Side("pytest-rerunfailures", "pytest_rerunfailures", "pytest_rerunfailures"),
        Side("pytest-probability", "pytest_probability.plugin", "pytest_probability.plugin"),
    ]


def make_environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    peers = ["pytest-benchmark", "pytest-rerunfailures", "pytest-probability"]
    command = [str(python), "-m", "pip", "install", "--quiet", str(HERE), *peers]
    subprocess.run(command, check=True)
    return python


def plain_environment() -> dict[str, str]:
    """As a user has it: compiled modules are kept from one run to the next."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def collect_ms(python: Path, side: Side, folder: Path) -> float:
    command = [str(python), "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    if side.plugin is not None:
        command += ["-p", side.plugin]
    environment = {**plain_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    child = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    assert child.stderr is not None
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{side.name}: {command} ended with {child.returncode}: {said.decode()}")
    return 1000 * (usage.ru_utime + usage.ru_stime)


def import_ms(python: Path, module: str) -> float:
    code = (
        "import pytest, time; b = time.process_time(); "
        f"import {module}; print(1000 * (time.process_time() - b))"
    )
    return float(subprocess.check_output([python, "-c", code], env=plain_environment()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as scratch:
        python = make_environment(Path(scratch) / "venv")
        project = Path(scratch) / "project"
        project.mkdir()
        (project / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
        measured = sides()
        for _ in range(runs + 1):
            for side in measured:
                side.collect.append(collect_ms(python, side, project))
                if side.module is not None:
                    side.imported.append(import_ms(python, side.module))
        report(measured)


def report(measured: list[Side]) -> None:
    core = statistics.median(measured[0].collect[1:])  # the first run fills caches
    print("| | import, ms CPU | collect-only, ms CPU | over core pytest |")
    print("|---|---|---|---|")
    for side in measured:
        collect = statistics.median(side.collect[1:])
        imported = f"{statistics.median(side.imported[1:]):.1f}" if side.imported else ""
        more = f"{collect - core:+.1f} ms, x{collect / core:.2f}" if side.plugin else ""
        print(f"| {side.name} | {imported} | {collect:.0f} | {more} |")


if __name__ == "__main__":
    main()
