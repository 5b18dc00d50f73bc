"""Gets a kernel to try things with: Debian's cloud kernel, downloaded and unpacked, not installed.

Works for an ordinary user: apt gets folders of its own, so that neither the machine's package
lists nor its state are touched. Needs apt-get and dpkg-deb, so Debian or one of its descendants.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from pytest_flaky_repro.errors import InfrastructureError

METAPACKAGE = "linux-image-cloud-amd64"
_PACKAGE = re.compile(
    r"^ *(?:Pre)?Depends: (linux-image-[0-9][a-z0-9.+-]*-cloud-amd64)$", re.MULTILINE
)


def fetch_kernel(cache: Path) -> Path:
    """The path of the kernel's bzImage; it is downloaded only once."""
    kept = cache.absolute() / "debian-kernel"
    found = sorted(kept.glob("vmlinuz-*"))
    if found:
        return found[-1]
    for program in ("apt-get", "apt-cache", "dpkg-deb"):
        if shutil.which(program) is None:
            raise InfrastructureError(
                f"--fetch-kernel needs {program}, which only Debian and its descendants have. "
                "Use a bzImage of your own: --kernel PATH"
            )
    try:
        kept.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InfrastructureError(
            f"{kept} cannot be made: {error.strerror}. Name another folder: PYTEST_REPRO_CACHE=DIR"
        ) from error
    with tempfile.TemporaryDirectory(dir=kept) as folder:
        package = _download(Path(folder))
        return _unpack(package, kept)


def _download(folder: Path) -> Path:
    options = _apt_options(folder)
    _say("reading the package lists")
    _run(["apt-get", "-q", *options, "update"], folder)
    depends = _run(["apt-cache", *options, "depends", METAPACKAGE], folder)
    match = _PACKAGE.search(depends)
    if match is None:
        raise InfrastructureError(
            f"apt knows no kernel behind {METAPACKAGE}: this is not Debian, or its sources lack "
            "the main archive. Use a bzImage of your own: --kernel PATH"
        )
    _say(f"downloading {match[1]}")
    _run(["apt-get", "-q", *options, "download", match[1]], folder)
    return next(folder.glob("*.deb"))


def _apt_options(folder: Path) -> list[str]:
    lists, archives = folder / "lists", folder / "archives"
    (lists / "partial").mkdir(parents=True)
    (archives / "partial").mkdir(parents=True)
    settings = {
        "Dir::State::lists": lists,
        "Dir::Cache": folder,
        "Dir::Cache::archives": archives,
        "APT::Sandbox::User": "root",  # there is nobody to drop to in a folder of one's own
        "Acquire::Languages": "none",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _unpack(package: Path, kept: Path) -> Path:
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE
    ) as unpacker:
        assert unpacker.stdout is not None
        try:
            with tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive:
                image = _image_in(archive)
        except tarfile.TarError as error:
            raise InfrastructureError(f"{package.name} cannot be unpacked: {error}") from error
        finally:
            unpacker.stdout.read()
    if unpacker.returncode:
        raise InfrastructureError(
            f"{package.name} cannot be unpacked: dpkg-deb ended with {unpacker.returncode}"
        )
    if image is None:
        raise InfrastructureError(f"{package.name} holds no vmlinuz")
    return _keep(kept / image[0], image[1])


def _image_in(archive: tarfile.TarFile) -> tuple[str, bytes] | None:
    for member in archive:
        name = Path(member.name).name
        if name.startswith("vmlinuz-"):
            content = archive.extractfile(member)
            assert content is not None
            return name, content.read()
    return None


def _keep(path: Path, content: bytes) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.replace(path)
    return path


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise InfrastructureError(
            f"{' '.join(command[:2])} failed:\n{done.stderr.strip()[-2000:]}\n"
            "Is the network there, and does /etc/apt name an archive? "
            "Or use a bzImage of your own: --kernel PATH"
        )
    return done.stdout


def _say(text: str) -> None:
    print(f"flaky-repro: {text}", file=sys.stderr)
