"""A kernel in miniature for the object search: a make tree with kbuild's habits."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.objects.builder import ObjectsBuilder
from pytest_flaky_repro.culprit.objects.pairs import Objects
from pytest_flaky_repro.culprit.objects.workplace import Inputs, Workplace
from pytest_flaky_repro.culprit.objects.wrapper import Variant

HERE = Path(__file__).parent
MAIN = """
#include <stdio.h>
int a(void), b(void), ext(void);
extern const unsigned char vdso_image[];
extern const unsigned long vdso_size;
int main(void) {
    unsigned long sum = 0;
    for (unsigned long i = 0; i < vdso_size; i++) sum = sum * 31 + vdso_image[i];
    printf("a=%d b=%d ext=%d vdso=%lu\\n", a(), b(), ext(), sum);
    return 0;
}
"""
# What -DBAD changes: in core/a.c and vdso/clock.c the code, in the others nothing.
SOURCES = {
    "core/main.c": MAIN,
    "core/a.c": "#ifdef BAD\nint a(void) { return 2; }\n#else\nint a(void) { return 1; }\n#endif\n",
    "core/b.c": "#ifdef BAD\nint b(void) { return 4; }\n#else\nint b(void) { return 3; }\n#endif\n",
    "fs/ext.c": "int ext(void) { return 5; }\n",
    "vdso/clock.c": (
        "#ifdef BAD\nint clock(void) { return 7; }\n#else\nint clock(void) { return 6; }\n#endif\n"
    ),
}


@dataclass
class Toy:
    """A source tree that builds in a second, and a configured build of it."""

    folder: Path
    sources: dict[str, str] = field(default_factory=lambda: dict(SOURCES))
    bad: Variant = field(default_factory=lambda: Variant("gcc", "-DBAD"))
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "build").mkdir()
        (self.folder / "build" / ".config").write_text("CONFIG_TOY=y\n")
        self.source.mkdir()
        shutil.copy(HERE / "toy_kernel.mk", self.source / "Makefile")
        self.write()

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def write(self, **more: str) -> None:
        """``core_x="..."`` also writes ``core/x.c``."""
        self.sources |= {f"{name.replace('_', '/')}.c": text for name, text in more.items()}
        for name, text in self.sources.items():
            path = self.source / name
            path.parent.mkdir(exist_ok=True)
            if not path.exists() or path.read_text() != text:
                path.write_text(text)

    @property
    def place(self) -> Workplace:
        inputs = Inputs(self.source, self.folder / "build", Variant("gcc"), self.bad)
        return Workplace(self.folder / "work", inputs, jobs=2)

    def objects(self, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Objects:
        return self.place.objects(self.said.append, only, exclude)

    def builder(self, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> ObjectsBuilder:
        return self.place.builder(self.objects(only, exclude))

    @staticmethod
    def says(image: Path) -> dict[str, str]:
        """What a kernel of this toy prints when it runs."""
        image.chmod(0o755)  # kernels are kept for QEMU, which does not ask
        done = subprocess.run([str(image)], capture_output=True, text=True, check=True)
        return dict(word.split("=") for word in done.stdout.split())


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy(tmp_path)
