"""The kernels a run was given: ``--kernel [NAME=]PATH``, any number of times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_flaky_repro.errors import UsageError


@dataclass(frozen=True)
class Kernel:
    """A kernel by name. The file is read when the first campaign needs it, not before."""

    name: str
    path: Path
    source: str = field(default="--kernel", compare=False)  # what named it

    def __str__(self) -> str:
        return self.name


class Kernels(Mapping[str, Kernel]):
    """Kernels in the order they were given; asking for an unknown name says which there are."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self._kernels = {kernel.name: kernel for kernel in kernels}

    def __getitem__(self, name: str) -> Kernel:
        if name not in self._kernels:
            raise UsageError(
                f"this test needs a kernel named {name!r}: give --kernel {name}=PATH. "
                f"There are: {', '.join(self._kernels) or 'none'}"
            )
        return self._kernels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kernels)

    def __len__(self) -> int:
        return len(self._kernels)


def parse_kernels(texts: Sequence[str], root: Path, source: str = "--kernel") -> Kernels:
    """Names and absolute paths; a kernel without a name is called after its file.

    Files of the same name get as much of their folders as tells them apart.
    """
    named: list[tuple[str | None, Path]] = []
    for text in texts:
        name, equals, rest = text.partition("=")
        has_name = bool(equals) and "/" not in name
        if not text or (has_name and not (name and rest)):
            raise UsageError(f"{source} {text!r}: expected PATH or NAME=PATH")
        named.append((name, root / rest) if has_name else (None, root / text))
    unnamed = _short_names([path for name, path in named if name is None])
    kernels = [Kernel(name or unnamed[path], path, source) for name, path in named]
    for name, times in Counter(kernel.name for kernel in kernels).items():
        if times > 1:
            raise UsageError(
                f"{source}: {times} kernels are called {name!r}; give each a name: NAME=PATH"
            )
    return Kernels(kernels)


def _short_names(paths: Sequence[Path]) -> dict[Path, str]:
    """The shortest ends of the paths that differ from each other."""
    names = {}
    for path in paths:
        parts = path.parts
        for size in range(1, len(parts) + 1):
            end = parts[-size:]
            if all(other.parts[-size:] != end for other in paths if other != path):
                break
        names[path] = "/".join(end).lstrip("/")
    return names
