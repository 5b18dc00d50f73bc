"""Archives under ``flaky-repro doctor``: listed, laid over each other, and started in the mind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_flaky_repro.commands.findings import BLOCKS, GOOD, NOTE, Finding
from pytest_flaky_repro.errors import ReproError, UsageError
from pytest_flaky_repro.guest.compression import Compression, segments
from pytest_flaky_repro.guest.entries import Entry
from pytest_flaky_repro.guest.inspection import Tree, is_script, unstartable
from pytest_flaky_repro.machine.file_kinds import name_kind

_SHOWN = 8


@dataclass
class Archives:
    """What ``--initrd`` brings: filled by ``examine``, asked afterwards."""

    paths: Sequence[Path]
    base: Sequence[Entry]  # ours, which they are laid over; none when they stand alone
    alone: bool
    packings: set[str] = field(default_factory=set)
    size: int = 0
    scripts: bool = False
    _entries: list[Entry] = field(default_factory=list)

    def examine(self) -> Iterator[Finding]:
        """One finding an archive, then what the whole comes to."""
        yield from map(self._tried, self.paths)
        if self.alone or any(entry.path.lstrip("/") == "init" for entry in self._entries):
            yield from self._judge_init()
        yield from self._judge_programs()

    def _tried(self, path: Path) -> Finding:
        try:
            return self._read(path)
        except ReproError as error:
            return Finding("initrd", BLOCKS, *_split(str(error), path))

    def _read(self, path: Path) -> Finding:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read the archive {path}: {error.strerror}") from error
        if not data.strip(b"\0"):
            raise UsageError(f"{path}: expected an initramfs archive, the file is empty")
        self.size += len(data)
        found: list[Entry] = []
        packed: list[str] = []
        for packing, entries in segments(data, str(path)):
            found += entries
            packed.append(packing.value)
            if packing is not Compression.NONE:
                self.packings.add(f"RD_{packing.name}")
        self._entries += found
        tops = Tree(found).tops()
        more = ", ..." if len(tops) > _SHOWN else ""
        how = "+".join(dict.fromkeys(packed)).replace("none", "plain")
        text = f"{path}: {how}, {len(found)} entries: {', '.join(tops[:_SHOWN])}{more}"
        return Finding("initrd", GOOD, text)

    def _judge_init(self) -> Iterator[Finding]:
        tree = Tree([*self.base, *self._entries])
        self.scripts = is_script(tree, "init")
        fault = unstartable(tree, "init")
        if fault is not None:
            yield Finding("init", BLOCKS, fault.why, fault.mend)
        elif self.alone:
            yield Finding("init", GOOD, "/init would be started")
        if not self.alone:
            yield Finding(
                "init", BLOCKS,
                "the archive brings its own /init, which takes the place of ours: no trial begins",
                "leave /init out of it, and start what it does from the reproducer",
            )  # fmt: skip

    def _judge_programs(self) -> Iterator[Finding]:
        """Programs that could not be started matter only to a reproducer that tries."""
        tree = Tree([*self.base, *self._entries])
        faults = [
            fault
            for path in Tree(self._entries).programs()
            if path != "init" and (fault := unstartable(tree, path)) is not None
        ]
        if faults:
            more = f" (and {len(faults) - 1} more programs)" if len(faults) > 1 else ""
            yield Finding("initrd", NOTE, f"{faults[0].why}{more}", faults[0].mend)


def _split(text: str, path: Path) -> tuple[str, str]:
    """What is wrong, and the mend: a file that is no archive at all is called by its name."""
    try:
        head = path.read_bytes()
    except OSError:
        return text, ""
    kind = name_kind(head)
    if "expected a newc cpio archive" in text and kind is not None:
        return f"{path} is no cpio archive, it is {kind[0]}", kind[1]
    return text, ""
