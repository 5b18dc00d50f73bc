"""What make's output says of a build that failed: which object, which tool, whose fault."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from pytest_flaky_repro.errors import UsageError

TAIL_LINES = 20

# GNU make: `make[3]: *** [scripts/Makefile.build:250: kernel/fork.o] Error 1`
_TARGET = re.compile(
    r"^make(?:\[\d+\])?: \*\*\* \[(?:[^\]]*?: )?(?P<target>[^\]\s:]+)\] ", re.MULTILINE
)
# GNU ld and LLD name the object whose reference cannot be satisfied, ld once for all that follow.
_LINK = (
    re.compile(r"^\S*ld(?:\.bfd)?: (?P<target>[^\s:]+\.o): in function", re.MULTILINE),
    re.compile(r"^\S*ld(?:\.bfd)?: (?P<target>[^\s:]+\.o):\([^)]*\): ", re.MULTILINE),
    re.compile(r"^>>> referenced by .*?(?P<target>[^\s:(]+\.o):", re.MULTILINE),
)
_UNDEFINED = re.compile(r"undefined (?:reference to|symbol:?) [`']?(?P<symbol>[\w.$]+)")

# what is missing: a sign of it in the output -> the package and the file or command it brings
_MISSING = {
    r"flex: (?:command )?not found": "flex",
    r"bison: (?:command )?not found": "bison",
    r"\bbc: (?:command )?not found": "bc",
    r"(?:gelf|libelf)\.h: No such file": "libelf-dev",
    r"openssl/\w+\.h: No such file": "libssl-dev",
    r"pahole \(pahole\) is not available": "dwarves",
    r"\b(?:xz|xzmisc|lzma): (?:command )?not found": "xz-utils",
    r"\bzstd: (?:command )?not found": "zstd",
    r"\blz4c?: (?:command )?not found": "lz4",
    r"\bcpio: (?:command )?not found": "cpio",
    r"\bperl: (?:command )?not found": "perl",
}


def failing_targets(output: str) -> tuple[str, ...]:
    """The files that make could not make, innermost first; each once."""
    return tuple(dict.fromkeys(match["target"] for match in _TARGET.finditer(output)))


def blamed_objects(output: str, known: Collection[str]) -> Mapping[str, str]:
    """Those of the ``known`` objects that a failed build names, and what it says of each.

    A link that fails without naming one (a vDSO's own checks, say) is blamed on the known objects
    that lie beside what could not be linked.
    """
    blamed = {}
    lines = output.splitlines()
    for target in failing_targets(output):
        if target in known:
            blamed[target] = _said_of(target, lines)
    for pattern in _LINK:
        for match in pattern.finditer(output):
            if match["target"] in known:
                blamed[match["target"]] = _unlinked(output[match.start() :])
    if not blamed:
        for target in failing_targets(output):
            folder = target.rpartition("/")[0]
            beside = [name for name in known if folder and name.rpartition("/")[0] == folder]
            blamed |= dict.fromkeys(beside, f"{target} could not be made with it")
    return blamed


def _said_of(target: str, lines: list[str]) -> str:
    said = [line.strip() for line in lines if target in line and "error" in line]
    return said[0] if said else f"make could not make {target}"


def _unlinked(output: str) -> str:
    found = _UNDEFINED.search(output)
    return f"does not link: undefined {found['symbol']}" if found else "does not link"


def explain(output: str, purpose: str, log: str) -> UsageError:
    """The error to raise for a build that no choice of objects could have saved."""
    missing = [package for sign, package in _MISSING.items() if re.search(sign, output)]
    if missing:
        return UsageError(f"could not {purpose}: install {' '.join(missing)} ({log})")
    if "source tree is not clean" in output:
        return UsageError(
            f"could not {purpose}: kbuild refuses a source tree that was built in ({log}). "
            "Save its .config, then run 'make mrproper' there, or name a clean copy with --source "
            "('git worktree add ../clean')"
        )
    tail = "\n".join(output.splitlines()[-TAIL_LINES:])
    return UsageError(f"could not {purpose}; the end of {log}:\n{tail}")
