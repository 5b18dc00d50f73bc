"""Misconfigurations to plant, and the words by which ``flaky-repro doctor`` must name each.

    .venv/bin/python tests/commands/planting.py

plants all of them, runs the real command on each and prints the table of docs/doctor.md.
"""

# ruff: noqa: T201  # a command: printing is its answer

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import re
import runpy
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from pytest_flaky_repro.guest.cpio import Directory, Entry, File, write_archive

BUILD = Path(__file__).parents[1] / "kernels" / "build.py"
SIZE_APPENDED = {"bzip2", "lzma", "xz", "lzo", "lz4", "zstd"}
TOOLS = {"lzo": ["lzop", "-9"], "lz4": ["lz4", "-l", "-9"], "zstd": ["zstd", "-3"]}


@dataclass(frozen=True)
class Ground:
    """Where something is planted: an empty folder, and real kernels by name."""

    folder: Path
    kernels: Mapping[str, Path]

    def put(self, name: str, content: bytes, mode: int = 0o644) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
        return path

    def copy(self, kernel: str) -> Path:
        """A real kernel alone in its folder, without its .config beside it."""
        return self.put("bzImage", self.kernels[kernel].read_bytes())

    def config(self, kernel: str) -> str:
        return (self.kernels[kernel].parent / "config").read_text()

    def described(self, packing: str = "gzip", base: str = "smp", **options: str) -> Path:
        """A real kernel's bzImage, packed anew around its own .config with options changed."""
        text = changed(self.config(base), options)
        return self.put("bzImage", repacked(self.kernels[base].read_bytes(), text, packing))

    def archive(self, *entries: Entry) -> Path:
        return self.put("extra.cpio", write_archive(list(entries)))

    def program(self, *flags: str, source: str = "int main(void) { return 0; }") -> bytes:
        code = self.put("program.c", source.encode())
        built = self.folder / "program"
        subprocess.run(["cc", *flags, "-o", built, code], check=True)
        return built.read_bytes()


def changed(config: str, options: Mapping[str, str]) -> str:
    """The text of a .config with these options set; ``n`` takes one out."""
    for name, value in options.items():
        line = f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"
        known = re.compile(rf"^(CONFIG_{name}=.*|# CONFIG_{name} is not set)$", re.MULTILINE)
        config = known.sub(line, config) if known.search(config) else f"{config}{line}\n"
    return config


def repacked(image: bytes, config: str, packing: str) -> bytes:
    """A bzImage whose kernel carries ``config`` as CONFIG_IKCONFIG would, packed otherwise.

    What reads it cannot tell it from a built one; it would not boot.
    """
    setup = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    vmlinux = gzip.decompress(image[setup + offset : setup + offset + length])
    vmlinux += b"IKCFG_ST" + gzip.compress(config.encode()) + b"IKCFG_ED"
    payload = pack(vmlinux, packing)
    if packing in SIZE_APPENDED:
        payload += struct.pack("<I", len(vmlinux))
    new = bytearray(image[: setup + offset] + payload)
    new += bytes(-(len(new) - setup) % 16)
    struct.pack_into("<I", new, 0x24C, len(payload))
    struct.pack_into("<I", new, 0x1F4, (len(new) - setup) // 16)
    return bytes(new)


def pack(data: bytes, packing: str) -> bytes:
    """As scripts/Makefile.lib packs a kernel."""
    if packing == "gzip":
        return gzip.compress(data)
    if packing == "bzip2":
        return bz2.compress(data)
    if packing == "lzma":
        return lzma.compress(data, lzma.FORMAT_ALONE, preset=1)
    if packing == "xz":
        filters = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 1}]
        return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=filters)
    done = subprocess.run([*TOOLS[packing], "-c"], input=data, capture_output=True, check=True)
    return done.stdout


Words = list[str]
Plant = Callable[[Ground], Words]


@dataclass(frozen=True)
class Case:
    """A misconfiguration: how it is made, and what must be said of it.

    ``cause`` is sought in the texts of findings that block, or in notes when ``blocks`` is False.
    """

    name: str
    plant: Plant
    cause: str
    blocks: bool = True


def _kernel(path: Path | str, *words: str) -> Words:
    return ["--kernel", str(path), "--accel", "tcg", *words]


def _qemu(script: str) -> Plant:
    return lambda g: ["--qemu", str(g.put("qemu", f"#!/bin/sh\n{script}\n".encode(), 0o755))]


def _old_qemu(ground: Ground) -> Words:
    """Answers as QEMU 2.5 does: -accel came with 2.9."""
    script = (
        "case $1 in --version) echo 'QEMU emulator version 2.5.0';; -L) echo /nowhere;;\n"
        "-sandbox) echo seccomp >&2; exit 1;;\n"
        "*) echo 'qemu-system-x86_64: -accel: invalid option' >&2; exit 1;; esac"
    )
    return [*_kernel(ground.copy("bare")), *_qemu(script)(ground)]


def _file(content: bytes) -> Plant:
    return lambda g: _kernel(g.put("kernel", content))


def _option(packing: str = "gzip", words: tuple[str, ...] = (), **options: str) -> Plant:
    return lambda g: _kernel(g.described(packing, **options), *words)


def _init(content: bytes | None, mode: int = 0o755, *words: str, alone: bool = True) -> Plant:
    def plant(ground: Ground) -> Words:
        entries: list[Entry] = [Directory("dev")]
        entries += [File("init", content, mode=mode)] if content is not None else []
        extra = ["--initrd-alone"] if alone else []
        return ["--accel", "tcg", "--initrd", str(ground.archive(*entries)), *extra, *words]

    return plant


def _dynamic_init(ground: Ground) -> Words:
    archive = ground.archive(File("init", ground.program(), mode=0o755))
    return ["--initrd", str(archive), "--initrd-alone"]


def _init_for_arm(ground: Ground) -> Words:
    content = bytearray(ground.program("-static", "-nostdlib", "-Wl,-emain"))
    content[18:20] = struct.pack("<H", 183)  # e_machine: AArch64
    archive = ground.archive(File("init", bytes(content), mode=0o755))
    return ["--initrd", str(archive), "--initrd-alone"]


def _script_init(ground: Ground) -> Words:
    shell = ground.program("-static", "-nostdlib", "-Wl,-emain")
    archive = ground.archive(
        File("init", b"#!/bin/sh\necho up\n", mode=0o755), File("bin/sh", shell, mode=0o755)
    )
    kernel = ground.described(BINFMT_SCRIPT="n")
    return [*_kernel(kernel), "--initrd", str(archive), "--initrd-alone"]


def _cut_kernel(ground: Ground) -> Words:
    return _kernel(ground.put("bzImage", ground.kernels["bare"].read_bytes()[:300_000]))


def _old_32_bit(ground: Ground) -> Words:
    image = bytearray(ground.kernels["bare"].read_bytes())
    image[0x236] &= 0xFE  # xloadflags: no 64-bit entry point
    return _kernel(ground.put("bzImage", bytes(image)))


def _vmlinux(ground: Ground) -> Words:
    image = ground.kernels["bare"].read_bytes()
    setup = ((image[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    content = gzip.decompress(image[setup + offset : setup + offset + length])
    return _kernel(ground.put("vmlinux", content))


def _kernel_for_initrd(ground: Ground) -> Words:
    kernel = ground.copy("bare")
    return [*_kernel(kernel), "--initrd", str(kernel)]


def _packed_archive(packing: str, **options: str) -> Plant:
    def plant(ground: Ground) -> Words:
        archive = pack(write_archive([File("etc/motd", b"hi\n")]), packing)
        path = ground.put(f"extra.cpio.{packing}", archive)
        return [*_kernel(ground.described(**options)), "--initrd", str(path)]

    return plant


def _archive_bytes(content: Callable[[], bytes]) -> Plant:
    return lambda g: ["--accel", "tcg", "--initrd", str(g.put("extra.cpio", content()))]


def _odc() -> bytes:
    done = subprocess.run(
        ["cpio", "-o", "-H", "odc", "--quiet"],
        input=b"/dev/null\n",
        capture_output=True,
        check=True,
    )
    return done.stdout


def _newc() -> bytes:
    return write_archive([File("etc/motd", b"hello\n" * 100)])


CASES = (
    Case("QEMU is not there", lambda _: ["--qemu", "/nowhere/qemu"], "no such program"),
    Case("another program for QEMU", lambda _: ["--qemu", "/bin/true"], "not answer like QEMU"),
    Case("a QEMU too old", _old_qemu, r"2\.5\.0 .*-accel: invalid option"),
    Case(
        "a machine that QEMU does not know",
        lambda g: _kernel(g.copy("bare"), "--machine", "virt"),
        "unsupported machine type",
    ),
    Case("a vmlinux", _vmlinux, "ELF file: a vmlinux for x86-64"),
    Case("an arm64 Image", _file(bytes(0x38) + b"ARM\x64" + bytes(4096)), "an arm64 Image"),
    Case("a gzip file", _file(gzip.compress(bytes(9999))), "a gzip file"),
    Case("an initramfs for the kernel", lambda g: _kernel(g.archive(Directory("etc"))), "a cpio"),
    Case("a 32-bit kernel", _old_32_bit, "a 32-bit kernel"),
    Case("a kernel cut short", _cut_kernel, "cut short"),
    Case(
        "no serial console, packed with gzip",
        _option(SERIAL_8250_CONSOLE="n"),
        "SERIAL_8250_CONSOLE is not set: .*nothing will ever be printed",
    ),
    Case(
        "the serial driver is a module, lz4",
        _option("lz4", SERIAL_8250="m", SERIAL_8250_CONSOLE="n"),
        "SERIAL_8250=m is a module",
    ),
    Case("no terminals, zstd", _option("zstd", TTY="n"), "TTY is not set"),
    Case("no printk, xz", _option("xz", PRINTK="n"), "PRINTK is not set"),
    Case("no initramfs, bzip2", _option("bzip2", BLK_DEV_INITRD="n"), "BLK_DEV_INITRD is not set"),
    Case("no ELF programs, lzma", _option("lzma", BINFMT_ELF="n"), "BINFMT_ELF is not set"),
    Case("a single CPU, lzo", _option("lzo", ("--smp", "2"), SMP="n"), "SMP is not set"),
    Case("too few CPUs", _option(words=("--smp", "4"), NR_CPUS="2"), "NR_CPUS=2"),
    Case(
        "CPUs that are not found",
        _option(words=("--smp", "2"), X86_MPPARSE="n", ACPI="n"),
        "neither ACPI nor X86_MPPARSE",
    ),
    Case(
        "a command line built in",
        _option(CMDLINE_BOOL="y", CMDLINE='"console=tty0"', CMDLINE_OVERRIDE="y"),
        "CMDLINE_OVERRIDE is set",
    ),
    Case(
        "no serial port set up",
        _option(SERIAL_8250_RUNTIME_UARTS="0"),
        "SERIAL_8250_RUNTIME_UARTS=0",
    ),
    Case("no futexes", _option(FUTEX="n"), "FUTEX is not set: .*threads die", blocks=False),
    Case("an archive the kernel cannot unpack", _packed_archive("gzip", RD_GZIP="n"), "RD_GZIP is"),
    Case("a zstd archive it cannot unpack", _packed_archive("zstd", RD_ZSTD="n"), "RD_ZSTD is"),
    Case("a kernel for the initramfs", _kernel_for_initrd, r"a kernel \(bzImage\)"),
    Case("an archive cut short", _archive_bytes(lambda: _newc()[:300]), "malformed archive"),
    Case("an archive in the old format", _archive_bytes(_odc), "the old portable format"),
    Case("no /init", _init(None), "/init is missing"),
    Case("/init not executable", _init(b"\x7fELF", 0o644), "/init is not executable"),
    Case("/init for arm64", _init_for_arm, "/init: expected a 64-bit x86-64 program.*AArch64"),
    Case("/init without its loader", _dynamic_init, "its loader /lib64/ld-linux.*is not in"),
    Case("/init without its interpreter", _init(b"#!/bin/sh\n"), "wants the interpreter /bin/sh"),
    Case("a script for /init", _script_init, "BINFMT_SCRIPT is not set"),
    Case("an /init in place of ours", _init(b"#!/x", alone=False), "takes the place of ours"),
    Case(
        "too little memory",
        lambda g: _kernel(g.copy("bare"), "--memory", "24"),
        "24 MiB: the kernel and its initramfs take",
    ),
    Case(
        "a word that hides the serial port",
        lambda g: _kernel(g.copy("bare"), "--append", "8250.nr_uarts=0"),
        "8250.nr_uarts=0: no serial port",
    ),
    Case(
        "a word that takes /init away",
        lambda g: _kernel(g.copy("bare"), "--append", "rdinit=/sbin/init"),
        "rdinit=/sbin/init: the kernel does not start our /init",
    ),
    Case("a real kernel without a console", lambda g: _kernel(g.copy("no_console")), "_CONSOLE is"),
    Case("a real kernel without initramfs", lambda g: _kernel(g.copy("no_initrd")), "_INITRD is"),
    Case(
        "a real kernel with one CPU, booted",
        lambda g: _kernel(g.copy("bare"), "--smp", "2", "--boot"),
        r"the guest shows 1 CPU\(s\), --smp asked for 2",
    ),
)

HEALTHY = {
    "gzip": _option("gzip"),
    "bzip2": _option("bzip2"),
    "lzma": _option("lzma"),
    "xz": _option("xz"),
    "lzo": _option("lzo"),
    "lz4": _option("lz4"),
    "zstd": _option("zstd"),
    "a real one with its configuration": lambda g: _kernel(g.copy("described")),
    "two CPUs": _option(words=("--smp", "2")),
    "a gzip archive": _packed_archive("gzip"),
}


def named(case: Case, report: list[dict[str, str]]) -> bool:
    """Whether the report of ``doctor --json`` names the cause."""
    wanted = "blocks" if case.blocks else "note"
    return any(
        finding["state"] == wanted and re.search(case.cause, finding["text"]) for finding in report
    )


def _in_a_cell(text: str) -> str:
    """A text for a Markdown table, on one line and not too long."""
    return textwrap.shorten(text.replace("|", " "), 150, placeholder=" ...").replace("<", "&lt;")


def main() -> int:
    """Plants all cases and prints what was said, as a Markdown table."""
    from pytest_flaky_repro.cli import main as flaky_repro

    build = runpy.run_path(str(BUILD))
    kernels = {
        n: build["kernel"](n) for n in ("bare", "described", "smp", "no_console", "no_initrd")
    }
    found = 0
    print("| planted | said |\n|---|---|")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()) as out:
            os.chdir(folder)
            flaky_repro(["doctor", "--json", *case.plant(Ground(Path(folder), kernels))])
            report = json.loads(out.getvalue())
            texts = [f["text"] for f in report if re.search(case.cause, f["text"])]
            text = texts[0].replace(f"{folder}/", "") if texts else "**not named**"
            os.chdir("/")
        found += named(case, report)
        print(f"| {case.name} | {_in_a_cell(text)} |", flush=True)
    print(f"\n{found} of {len(CASES)} named")
    return 0 if found >= len(CASES) - 1 else 1


if __name__ == "__main__":
    sys.exit(main())
