"""Plants a crash that needs two options at once, and luck, in a copy of a kernel's source.

    python plant.py SOURCE FOLDER

makes FOLDER/source (hard links where it can), in which umask(04242) panics in three calls of ten
if HID_KENSINGTON and NLS_KOI8_R are both on, and FOLDER/good.config and FOLDER/bad.config, which
differ in 114 options. SOURCE, Linux 6.1, must be clean (never built in); it is only read.
Then, to find the two (about 14 builds, and 4 that confirm):

    flaky-repro culprit config --source FOLDER/source --good FOLDER/good.config \\
        --bad FOLDER/bad.config --reproducer umask.c
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CULPRITS = ("HID_KENSINGTON", "NLS_KOI8_R")
PLACE = "SYSCALL_DEFINE1(umask, int, mask)\n{\n"
PLANT = """\
#if defined(CONFIG_HID_KENSINGTON) && defined(CONFIG_NLS_KOI8_R)
	if (mask == 04242 && (rdtsc() >> 4) * 0x9e3779b97f4a7c15ULL >> 32 < 0x4ccccccc)
		panic("planted: the trackball meets KOI8-R");
#endif
"""


def plant(source: Path, folder: Path) -> Path:
    """The copy of the source with the crash in it."""
    copy = folder / "source"
    shutil.copytree(source, copy, symlinks=True, copy_function=link_or_copy)
    file = copy / "kernel" / "sys.c"
    text = file.read_text()
    assert PLACE in text, f"{file} is not as expected"
    file.unlink()  # it may be a link to the original
    file.write_text(text.replace(PLACE, PLACE + PLANT))
    return copy


def link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def configurations(source: Path, folder: Path) -> tuple[Path, Path]:
    """good.config and bad.config."""
    objects = folder / "objects"
    objects.mkdir()
    make = ["make", "-s", "-C", str(source), f"O={objects}", "ARCH=x86_64"]
    subprocess.run([*make, "tinyconfig"], check=True, capture_output=True)
    written = []
    for name in ("good", "bad"):
        fragment = (HERE / f"{name}.fragment").read_text()
        with (objects / ".config").open("a") as config:
            config.write(fragment)
        subprocess.run([*make, "olddefconfig"], check=True, stderr=subprocess.DEVNULL)
        written.append(folder / f"{name}.config")
        shutil.copy(objects / ".config", written[-1])
    return written[0], written[1]


if __name__ == "__main__":
    target = Path(sys.argv[2]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    configurations(plant(Path(sys.argv[1]), target), target)
