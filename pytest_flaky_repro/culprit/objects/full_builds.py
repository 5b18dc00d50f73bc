"""The two full builds: everything good, then every candidate bad, in one object tree.

Each step leaves a file behind when it is done, and make itself knows how far it got: after a kill
the same call goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from pytest_flaky_repro.culprit.build_end import BuildEnd, first_error, obstacle_in
from pytest_flaky_repro.culprit.disk import write_whole
from pytest_flaky_repro.culprit.objects import failures
from pytest_flaky_repro.culprit.objects.configuring import configure
from pytest_flaky_repro.culprit.objects.kbuild import ANOTHER_DISK, Kbuild
from pytest_flaky_repro.culprit.objects.pairs import Objects, Pair, chosen
from pytest_flaky_repro.culprit.objects.store import ObjectStore, digest_of
from pytest_flaky_repro.culprit.objects.wrapper import read_log
from pytest_flaky_repro.errors import UsageError

OUTSIDE = {"arch/*/boot/*": "part of the boot wrapper, not of the kernel that runs"}
GOOD = "good.json"  # the digests of all good objects, and vmlinux's own: the same for equal builds

_MOST_ROUNDS = 20


Globs = tuple[str, ...]


@dataclass(frozen=True)
class Bad:
    """An object's bad variant: its digest in the store, or None and the reason."""

    digest: str | None
    reason: str


@dataclass(frozen=True)
class FullBuilds:
    """Makes, or finds made, both variants of all objects."""

    kbuild: Kbuild
    store: ObjectStore
    folder: Path
    say: Callable[[str], None]

    def objects(self, config: Path, only: Globs = (), exclude: Globs = ()) -> Objects:
        """Both full builds from this .config, as far as they are not there yet.

        Only the chosen objects are built bad; others may follow in a later call.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.kbuild.files.install()
        configure(self.kbuild, config, self.say)
        good, members = self._good()
        wanted = chosen(tuple(name for name in good if outside(name) is None), only, exclude)
        if not wanted:
            raise UsageError(
                f"--only and --exclude leave none of the {len(good)} objects, from "
                f"{min(good)} to {max(good)}"
            )
        key = hashlib.sha256("\0".join(wanted).encode()).hexdigest()[:16]
        done = self.folder / f"objects-{key}.json"
        if not done.exists():
            bad = self._bad(wanted)
            self._linkable(self._compare(good, bad, wanted, members), good).write(done)
        return Objects.read(done)

    # ---- all good

    def _good(self) -> tuple[dict[str, str], frozenset[str]]:
        """Digests by object name, and the members of vmlinux's archives."""
        stamp = self.folder / GOOD
        if not stamp.exists():
            self.say("building all objects good")
            began = time.monotonic()
            self.kbuild.files.want_bad(())
            self.kbuild.must(self.kbuild.target(), "build the good kernel")
            names = {made.name for made in read_log(self.kbuild.files.log)}
            present = sorted(name for name in names if (self.kbuild.tree / name).is_file())
            if not present:
                raise UsageError(
                    f"the build compiled no object that counts ({self.kbuild.log}): expected "
                    "kbuild to compile .c files with $(CC) and -D__KERNEL__"
                )
            good = {name: self.store.put(self.kbuild.tree / name) for name in present}
            record = {"objects": good, "members": sorted(archive_members(self.kbuild.tree))}
            write_whole(stamp, json.dumps(record, indent=1))
            self.say(f"  {len(good)} objects in {time.monotonic() - began:.0f} s")
        record = json.loads(stamp.read_text())
        return record["objects"], frozenset(record["members"])

    # ---- all bad

    def _bad(self, wanted: Sequence[str]) -> Mapping[str, Bad]:
        """The bad variants of these and of whatever was wanted before."""
        stamp = self.folder / "bad.json"
        record = json.loads(stamp.read_text()) if stamp.exists() else {}
        left = [name for name in wanted if name not in record]
        if left:
            began = time.monotonic()
            self.say(f"building {len(left)} objects bad")
            record |= self._build_bad(left)
            write_whole(stamp, json.dumps(record, indent=1))
            self._started.unlink(missing_ok=True)
            built = sum(record[name]["digest"] is not None for name in left)
            self.say(f"  {built} objects in {time.monotonic() - began:.0f} s")
        return {name: Bad(**found) for name, found in record.items()}

    def _build_bad(self, names: Sequence[str]) -> dict[str, dict[str, str | None]]:
        self._forget(names)
        for name in self._hindered():  # in an earlier run
            self._have_made(name)
        made = self.kbuild.make(self.kbuild.target(), keep_going=True)  # links: see _linkable
        self._refuse_hindered()
        missing = [name for name in names if not (self.kbuild.tree / name).is_file()]
        if len(missing) == len(names):
            purpose = f"build anything with {self.kbuild.bad}"
            raise failures.explain(made.output, purpose, str(self.kbuild.log))
        blamed = failures.blamed_objects(made.output, missing)
        reasons = {name: blamed.get(name, "make could not make it bad") for name in missing}
        reasons |= self._refused()
        return {
            name: {"digest": None, "reason": reasons[name]}
            if name in reasons
            else {"digest": self.store.put(self.kbuild.tree / name), "reason": ""}
            for name in names
        }

    @property
    def _started(self) -> Path:
        return self.folder / "bad-started"

    def _forget(self, names: Sequence[str]) -> None:
        """Has make compile these, bad.

        After a kill, what was done is not made again. What was half done is: it has no .cmd file,
        which is written last.
        """
        text = "\n".join(names)
        if self._started.exists() and self._started.read_text() == text:
            return
        self.kbuild.files.want_bad(names)
        for name in names:
            self._have_made(name)
        self._started.write_text(text)

    def _have_made(self, name: str) -> None:
        """Has the next make compile it."""
        target = self.kbuild.tree / name
        target.unlink(missing_ok=True)
        target.with_name(f".{target.name}.cmd").unlink(missing_ok=True)

    def _hindered(self) -> list[str]:
        """What the compiler did not make bad for the machine's sake.

        The wrapper made these good, so make is content with them.
        """
        return [name for name in self._refused() if obstacle_in(self._errors(name)) is not None]

    def _refuse_hindered(self) -> None:
        for name in self._hindered():
            what, log = f"compiling {name} bad", self.kbuild.files.errors / name
            end = BuildEnd(1, self._errors(name))
            end.refuse_obstacles(what, self.kbuild.tree, log, ANOTHER_DISK)

    def _refused(self) -> dict[str, str]:
        """What the bad compiler (or compiler with bad flags) did not compile, and why."""
        last = {made.name: made for made in read_log(self.kbuild.files.log)}
        return {
            made.name: self._compiler_said(made.name)
            for made in last.values()
            if made.wanted == "bad" and made.got == "good"
        }

    def _compiler_said(self, name: str) -> str:
        said = self._errors(name)
        why = first_error(said).rpartition("error: ")[2] if said else ""
        return f"does not compile: {why or 'see the log'}"

    def _errors(self, name: str) -> str:
        path = self.kbuild.files.errors / name
        return path.read_text(errors="replace") if path.exists() else ""

    # ---- comparing them

    def _compare(
        self,
        good: Mapping[str, str],
        bad: Mapping[str, Bad],
        wanted: Sequence[str],
        members: frozenset[str],
    ) -> Objects:
        excluded = {n: why for n in good if (why := outside(n)) is not None}
        pairs, same = [], []
        for name in wanted:
            digest = bad[name].digest
            if digest is None:
                excluded[name] = bad[name].reason
            elif self.store.same_code(good[name], digest):
                same.append(name)
            else:
                pairs.append(Pair(name, good[name], digest))
        return Objects(tuple(pairs), tuple(same), excluded, members)

    def _linkable(self, found: Objects, good: Mapping[str, str]) -> Objects:
        """Leaves out, one failed link after another, what cannot be linked bad."""
        if found.pairs:
            self.say(f"linking a kernel with {len(found.pairs)} bad objects")
        for _ in range(_MOST_ROUNDS):
            self._put({**good, **{pair.name: pair.bad for pair in found.pairs}})
            made = self.kbuild.make(self.kbuild.target(), keep_going=True)
            if made.status == 0:
                return found
            blamed = failures.blamed_objects(made.output, {pair.name for pair in found.pairs})
            if not blamed:
                break
            found = found.without(blamed)
        raise failures.explain(made.output, "link a kernel of bad objects", str(self.kbuild.log))

    def _put(self, objects: Mapping[str, str]) -> None:
        """Has these in the tree; what is not there, because it failed bad, make compiles good."""
        self.kbuild.files.want_bad(())
        for name, digest in objects.items():
            target = self.kbuild.tree / name
            if target.exists() and digest_of(target) != digest:
                self.store.place(digest, target)


def outside(name: str) -> str | None:
    """Why an object is never a candidate, or None."""
    return next((why for glob, why in OUTSIDE.items() if fnmatchcase(name, glob)), None)


def archive_members(tree: Path) -> frozenset[str]:
    """The objects that vmlinux is linked from: kbuild's archives are thin, lists of paths."""
    lists = [tree / "vmlinux.a", *_libraries(tree)]
    found: set[str] = set()
    for archive in lists:
        if not archive.exists():
            continue
        done = subprocess.run(
            [shutil.which("ar") or "ar", "t", str(archive.relative_to(tree))],
            cwd=tree,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            found |= set(done.stdout.split())
    return frozenset(found)


def _libraries(tree: Path) -> list[Path]:
    command = tree / ".vmlinux.o.cmd"
    text = command.read_text() if command.exists() else ""
    group = re.search(r"--start-group (?P<libraries>.*?)--end-group", text)
    return [tree / name for name in group["libraries"].split()] if group else []
