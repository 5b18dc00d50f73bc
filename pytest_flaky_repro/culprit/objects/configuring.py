"""The configuration of our own object tree: the user's, but for what only hinders a search."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from pytest_flaky_repro.culprit.config import dotconfig
from pytest_flaky_repro.culprit.objects.kbuild import Kbuild
from pytest_flaky_repro.errors import UsageError

# Checks of the build, not parts of the kernel: a warning about a bad object is no reason to do
# without it (lib/Kconfig.debug, init/Kconfig).
TOLERANT = """\
CONFIG_SECTION_MISMATCH_WARN_ONLY=y
# CONFIG_WERROR is not set
# CONFIG_OBJTOOL_WERROR is not set
"""

_LTO = re.compile(r"^CONFIG_LTO(?:_CLANG|_CLANG_THIN|_CLANG_FULL|_GCC)?=y$", re.MULTILINE)
_DESCRIBES_TOOLS = ("CC_", "GCC_", "CLANG_", "AS_", "LD_", "LLD_", "PAHOLE_", "RUSTC_", "BINDGEN_")
NAMED = 5  # of the options that are other ones than asked for


def configure(kbuild: Kbuild, config: Path, say: Callable[[str], None]) -> None:
    """Makes .config in the object tree from the user's, unless it is there already."""
    ours = kbuild.tree / ".config"
    if ours.exists():
        return
    asked = config.read_text()
    refuse_lto(asked, config)
    kbuild.tree.mkdir(parents=True, exist_ok=True)
    part = ours.with_name(".config.part")
    part.write_text(asked + TOLERANT)
    part.replace(ours)
    try:
        kbuild.must("olddefconfig", "configure the kernel")
        refuse_lto(ours.read_text(), ours)
    except BaseException:
        ours.unlink(missing_ok=True)  # it would look configured
        raise
    changed = changed_options(asked, ours.read_text())
    if changed:
        more = f" and {len(changed) - NAMED} more" if len(changed) > NAMED else ""
        say(
            f"not as in {config} (made for other sources or another compiler?): "
            f"CONFIG_{', CONFIG_'.join(changed[:NAMED])}{more}"
        )


def changed_options(asked: str, got: str) -> list[str]:
    """The options that a .config gives a value that they do not have in another one.

    What only describes the tools (CC_VERSION_TEXT, AS_VERSION...) or the build's checks is none.
    """
    values, tolerated = dotconfig.parse(got), dotconfig.parse(TOLERANT)
    return [
        name
        for name, value in dotconfig.parse(asked).items()
        if values.get(name, dotconfig.NOT_SET) != value
        and name not in tolerated
        and not name.startswith(_DESCRIBES_TOOLS)
    ]


def refuse_lto(config: str, path: Path) -> None:
    if _LTO.search(config):
        raise UsageError(
            f"{path}: link-time optimisation is on. Its objects hold no code yet: the linker "
            "compiles all of them together, so no object has flags of its own. "
            "Search with CONFIG_LTO_NONE=y"
        )
