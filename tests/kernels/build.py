"""Build the small kernels that the tests boot, from Debian's linux-source package.

    python tests/kernels/build.py bare smp no_console no_initrd

prints one bzImage path a line. A kernel is kept, outside the checkout, under a key made of its
configuration, the source and the compiler, so that only the first run pays for it.
"""

# ruff: noqa: T201  # a command: printing is its answer

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import platformdirs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HERE = Path(__file__).resolve().parent
BASE = "bare"
SOURCE = "linux-source-6.1"
TARBALL = Path("/usr/src") / f"{SOURCE}.tar.xz"

# One object tree for all variants that differ from bare in an option or two: changing .config
# and running make again then rebuilds a handful of files. SMP changes every object.
OBJECT_TREES = {
    **dict.fromkeys(("bare", "described", "no_console", "no_initrd"), "bare"),
    "smp": "smp",
}

# What a build needs: the Debian package, and a file or command that shows it is there.
TOOLS = {"flex": "flex", "bison": "bison", "bc": "bc", "make": "make", "gcc": "gcc"}
HEADERS = {
    "libelf-dev": Path("/usr/include/gelf.h"),
    "libssl-dev": Path("/usr/include/openssl/opensslv.h"),
}

# The same configuration gives the same bytes: no clock, user, host or build counter inside.
REPRODUCIBLE = {
    "KBUILD_BUILD_TIMESTAMP": "2024-01-01",
    "KBUILD_BUILD_USER": "tests",
    "KBUILD_BUILD_HOST": "localhost",
    "KBUILD_BUILD_VERSION": "1",
}


class KernelBuildError(RuntimeError):
    """A test kernel could not be built; the message says what would mend it."""


def names() -> list[str]:
    """The kernels that can be built: one a `.config` file beside this module."""
    return sorted(path.stem for path in HERE.glob("*.config"))


def kernel(name: str) -> Path:
    """The bzImage of one of `names()`, built if it is not in the cache.

    Raises KernelBuildError when the source or a tool is missing, when the configuration does not
    take, or when make fails.
    """
    options = requested(name)
    source = ensure_source_package()
    result = cache_folder() / f"{name}-{_key(options, source)}" / "bzImage"
    if result.exists():
        return result
    _check_tools()
    with _locked():
        if not result.exists():
            _build(name, options, source, result)
    return result


def gen_init_cpio() -> Path:
    """The kernel's own archive writer, usr/gen_init_cpio.c, compiled alone."""
    source = ensure_source_package()
    program = cache_folder() / f"gen_init_cpio-{_key({}, source)}"
    if program.exists():
        return program
    with _locked():
        if program.exists():
            return program
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            code = _source_file("usr/gen_init_cpio.c", source, Path(scratch))
            built = Path(scratch) / "gen_init_cpio"
            _run(["gcc", "-O2", "-o", str(built), str(code)], "compile gen_init_cpio")
            built.rename(program)
    return program


def cache_folder() -> Path:
    """Where sources, objects and kernels are kept; made if it is not there."""
    root = os.environ.get("PYTEST_REPRO_CACHE")
    base = Path(root) if root else platformdirs.user_cache_path("pytest-flaky-repro")
    folder = base / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


# --- configuration -------------------------------------------------------------------------

_LINE = re.compile(r"CONFIG_(?P<set>\w+)=(?P<value>.+)|# CONFIG_(?P<unset>\w+) is not set")


def parse_config(text: str) -> dict[str, str]:
    """Options of a .config or fragment, in order; "n" for `# CONFIG_X is not set`."""
    options = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match:
            options[match["set"] or match["unset"]] = match["value"] or "n"
    return options


def requested(name: str) -> dict[str, str]:
    """What the kernel `name` asks for: bare.config with its own lines laid over it."""
    if name not in names():
        message = f"no test kernel is called {name!r}; there are: {', '.join(names())}"
        raise KernelBuildError(message)
    options = parse_config((HERE / f"{BASE}.config").read_text())
    return options | parse_config((HERE / f"{name}.config").read_text())


def format_config(options: Mapping[str, str]) -> str:
    """The .config lines for `options`."""
    return "".join(
        f"# CONFIG_{option} is not set\n" if value == "n" else f"CONFIG_{option}={value}\n"
        for option, value in options.items()
    )


def check_config(name: str, wanted: Mapping[str, str], config: Path) -> None:
    """Kconfig drops what its dependencies forbid without a word; a test kernel must not differ."""
    got = parse_config(config.read_text())
    wrong = {
        option: (value, got.get(option, "n"))
        for option, value in wanted.items()
        if got.get(option, "n") != value
    }
    if wrong:
        lines = [f"  {o}: asked for {want}, got {have}" for o, (want, have) in wrong.items()]
        message = f"kernel {name}: the configuration did not take ({config}):\n"
        raise KernelBuildError(message + "\n".join(lines))


# --- source, tools, cache ------------------------------------------------------------------


def ensure_source_package() -> Path:
    """The source archive, installed first if it is missing and we are root."""
    if TARBALL.exists():
        return TARBALL
    command = ["apt-get", "install", "-y", "--no-install-recommends", SOURCE]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        message = f"{TARBALL} is not there; run: sudo {' '.join(command)}"
        raise KernelBuildError(message)
    _say(f"installing {SOURCE}")
    _run(["apt-get", "update"], "apt-get update")
    _run(command, f"install {SOURCE}")
    if not TARBALL.exists():
        message = f"{' '.join(command)} did not bring {TARBALL}: is this Debian 12?"
        raise KernelBuildError(message)
    return TARBALL


def _check_tools() -> None:
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    missing += [package for package, header in HEADERS.items() if not header.exists()]
    if missing:
        message = f"building a kernel needs: apt-get install -y {' '.join(missing)}"
        raise KernelBuildError(message)


def _key(options: Mapping[str, str], source: Path) -> str:
    version = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", SOURCE],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    compiler = _run(["gcc", "--version"], "run gcc").splitlines()[0]
    facts = [
        format_config(options),
        SOURCE,
        version,
        str(source.stat().st_size),
        compiler,
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _source_tree(source: Path) -> Path:
    """The unpacked source; a half-unpacked one is never seen under its final name."""
    tree = cache_folder() / f"{SOURCE}-{source.stat().st_size}"
    if not tree.exists():
        _say(f"unpacking {source}")
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            _run(["tar", "-xf", str(source), "-C", scratch], f"unpack {source}")
            (Path(scratch) / SOURCE).rename(tree)
    return tree


def _source_file(name: str, source: Path, scratch: Path) -> Path:
    """One file of the source, without unpacking the other eighty thousand."""
    tree = cache_folder() / f"{SOURCE}-{source.stat().st_size}"
    if (tree / name).exists():
        return tree / name
    member = f"{SOURCE}/{name}"
    _say(f"extracting {name} from {source}")
    command = ["tar", "-xf", str(source), "-C", str(scratch), "--occurrence=1", member]
    _run(command, f"extract {member}")
    return scratch / member


@contextmanager
def _locked() -> Iterator[None]:
    lock = filelock.FileLock(cache_folder() / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        _say("waiting for another process that builds test kernels")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


# --- make ----------------------------------------------------------------------------------


def _build(name: str, options: Mapping[str, str], source: Path, result: Path) -> None:
    tree = _source_tree(source)
    objects = cache_folder() / f"objects-{OBJECT_TREES.get(name, name)}-{tree.name}"
    objects.mkdir(exist_ok=True)
    _say(f"building kernel {name} in {objects}")
    _make(tree, objects, "tinyconfig")
    config = objects / ".config"
    config.write_text(config.read_text() + format_config(options))
    _make(tree, objects, "olddefconfig")
    check_config(name, options, config)
    _make(tree, objects, "bzImage")
    result.parent.mkdir(exist_ok=True)
    shutil.copy(config, result.parent / "config")
    part = result.with_suffix(".part")
    shutil.copy(objects / "arch/x86/boot/bzImage", part)
    part.rename(result)


def _make(tree: Path, objects: Path, target: str) -> None:
    jobs = os.cpu_count() or 1
    command = [
        "make",
        "-C",
        str(tree),
        f"O={objects}",
        "ARCH=x86_64",
        f"-j{jobs}",
        target,
    ]
    _run(["nice", *command], f"make {target}", environment=os.environ | REPRODUCIBLE)


def _run(command: Sequence[str], purpose: str, environment: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-30:])
        message = f"could not {purpose} (exit {done.returncode}): {' '.join(command)}\n{tail}"
        raise KernelBuildError(message)
    return done.stdout


def _say(text: str) -> None:
    print(f"kernels: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the kernels named on the command line and print where they are."""
    parser = argparse.ArgumentParser(description="Build the kernels that the tests boot.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"of: {', '.join(names())}")
    try:
        for name in parser.parse_args(arguments).names:
            print(kernel(name), flush=True)
    except KernelBuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
