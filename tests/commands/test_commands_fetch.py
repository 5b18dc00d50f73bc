"""``flaky-repro doctor --fetch-kernel``: Debian's cloud kernel, for whoever asks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.machine.kernel_image import read_kernel

Start = Callable[..., "subprocess.Popen[bytes]"]
ROOT = Path(__file__).parents[2]
NOBODY = 65534


def programs(folder: Path, **scripts: str) -> str:
    """A PATH that holds these shell scripts and nothing else."""
    folder.mkdir()
    for name, script in scripts.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return str(folder)


def fetched(start: Start, path: str, cache: Path | str) -> tuple[int, str]:
    environment = {"PATH": path, "PYTEST_REPRO_CACHE": str(cache)}
    process = start("doctor", "--fetch-kernel", environment=environment)
    out, err = process.communicate(timeout=60)
    assert out == b""
    return process.returncode, err.decode()


def test_a_kernel_that_was_fetched_is_not_fetched_again(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "cache" / "debian-kernel" / "vmlinuz-6.1.0-1-cloud-amd64"
    kept.parent.mkdir(parents=True)
    kept.touch()
    monkeypatch.setenv("PYTEST_REPRO_CACHE", "cache")  # under the current folder
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = command("doctor", "--fetch-kernel")
    assert (ran.status, ran.out, ran.err) == (0, f"{kept}\n", "")
    ran = command("doctor", "--fetch-kernel", "--json")
    assert (ran.status, json.loads(ran.out)) == (0, {"kernel": str(kept)})


def test_a_host_that_is_no_debian_is_told_so(start: Start, tmp_path: Path) -> None:
    status, said = fetched(start, programs(tmp_path / "bin"), tmp_path / "cache")
    assert status == 2
    assert "--fetch-kernel needs apt-get, which only Debian and its descendants have" in said
    assert "--kernel PATH" in said


def test_a_network_that_is_down_is_told_in_apt_words(start: Start, tmp_path: Path) -> None:
    broken = "echo 'E: Temporary failure resolving' >&2; exit 100"
    path = programs(tmp_path / "bin", apt_get=broken, apt_cache="exit 0", dpkg_deb="exit 0")
    status, said = fetched(start, path, tmp_path / "cache")
    assert status == 2
    assert "apt-get -q failed:\nE: Temporary failure resolving" in said
    assert "Is the network there" in said


def test_an_archive_without_the_kernel_is_told_so(start: Start, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", apt_get="exit 0", apt_cache="exit 0", dpkg_deb="exit 0")
    status, said = fetched(start, path, tmp_path / "cache")
    assert status == 2
    assert "apt knows no kernel behind linux-image-cloud-amd64" in said


def test_a_package_that_cannot_be_unpacked_is_told_so(start: Start, tmp_path: Path) -> None:
    path = programs(
        tmp_path / "bin",
        apt_get='for word; do :; done; [ "$word" = update ] || : > "$word.deb"',
        apt_cache="echo '  Depends: linux-image-6.1.0-1-cloud-amd64'",
        dpkg_deb="echo 'dpkg-deb: error: truncated' >&2; exit 2",
    )
    status, said = fetched(start, path, tmp_path / "cache")
    assert status == 2
    assert "linux-image-6.1.0-1-cloud-amd64.deb cannot be unpacked" in said
    assert list((tmp_path / "cache" / "debian-kernel").iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(start: Start, tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", apt_get="exit 0", apt_cache="exit 0", dpkg_deb="exit 0")
    status, said = fetched(start, path, "/proc/nowhere")
    assert status == 2
    assert "/proc/nowhere/debian-kernel cannot be made" in said
    assert "PYTEST_REPRO_CACHE=DIR" in said


@pytest.mark.slow
def test_debian_s_kernel_is_fetched(start: Start, tmp_path: Path) -> None:
    environment = {"PYTEST_REPRO_CACHE": str(tmp_path / "cache")}
    process = start("doctor", "--fetch-kernel", environment=environment)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err.decode()
    path = Path(out.decode().rstrip("\n"))
    assert path.parent == tmp_path / "cache" / "debian-kernel"
    assert "Debian" in read_kernel(path).banner
    assert list(path.parent.iterdir()) == [path]  # what was downloaded with it is gone


@pytest.fixture
def home_of_nobody() -> Iterator[Path]:
    """Not under tmp_path, which only its owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="flaky-repro-nobody-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_may_fetch_it(home_of_nobody: Path) -> None:
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    pythons = [sys.executable, "/usr/bin/python3"]  # the first may be in a folder of root's
    python = next(
        path
        for path in pythons
        if subprocess.run([*become, "test", "-x", path], check=False).returncode == 0
    )
    done = subprocess.run(
        [*become, python, "-m", "pytest_flaky_repro", "doctor", "--fetch-kernel"],
        capture_output=True, text=True, timeout=600, check=False, cwd=home_of_nobody,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(home_of_nobody),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *(p for p in sys.path if "-packages" in p)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.rstrip("\n"))
    assert path.is_relative_to(home_of_nobody / ".cache" / "pytest-flaky-repro")
    assert path.stat().st_uid == NOBODY
    assert "Debian" in read_kernel(path).banner
