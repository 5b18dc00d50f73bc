"""A pytest run that does not use the plugin pays next to nothing for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    *("scipy", "numpy", "asyncio", "sqlite3", "ctypes", "elftools", "platformdirs", "xml.etree"),
    *("distributed", "dask"),
}
AT_MOST = {
    *("plugin", "fixtures", "session", "settings", "errors", "hooks", "kernels"),
    *("rootdir", "shortnames", "progress", "outcomes"),
}
SCRIPT = """
import json, sys
import pytest
status = pytest.main(json.loads(sys.argv[1]))
print("modules", json.dumps(sorted(sys.modules)))
sys.exit(int(status) not in (0, 5))
"""
ALONE = ("-p", "pytest_flaky_repro.plugin")


def modules_of_a_run(folder: Path, *plugins: str) -> set[str]:
    """All that a ``pytest --collect-only`` imports that loads no plugins but ``plugins``."""
    words = json.dumps(["--collect-only", "-q", *plugins])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, words],
        cwd=folder,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    last = done.stdout.splitlines()[-1]
    return set(json.loads(last.removeprefix("modules ")))


@pytest.fixture(scope="module")
def added(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The modules that a run has only with the plugin."""
    folder = tmp_path_factory.mktemp("empty")
    return modules_of_a_run(folder, *ALONE) - modules_of_a_run(folder)


def test_no_heavy_module_is_imported(added: set[str]) -> None:
    assert {name for name in added if name in HEAVY or name.split(".")[0] in HEAVY} == set()


def test_of_the_package_only_the_thin_modules_are_imported(added: set[str]) -> None:
    own = {
        name.removeprefix("pytest_flaky_repro.")
        for name in added
        if name.startswith("pytest_flaky_repro.")
    }
    assert own - AT_MOST == set()
    assert "plugin" in own  # it was loaded, so the sets above are about something


def test_the_standard_library_modules_it_adds_are_few(added: set[str]) -> None:
    public = {name.split(".")[0] for name in added} - {"pytest_flaky_repro"}
    assert {name for name in public if not name.startswith("_")} <= {"tempfile", "random", "bisect"}


def test_importing_the_package_imports_no_other_module_of_it() -> None:
    script = "import sys, pytest_flaky_repro as p; print([m for m in sys.modules if 'repro.' in m])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
