"""Two full builds and the mixtures of them, on a make tree with kbuild's habits."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

import pytest

from pytest_flaky_repro.culprit.building import Image, Skipped
from pytest_flaky_repro.culprit.candidates import Universe
from pytest_flaky_repro.culprit.objects.builder import ObjectsBuilder
from pytest_flaky_repro.culprit.objects.configuring import changed_options
from pytest_flaky_repro.culprit.objects.linking import Replay
from pytest_flaky_repro.culprit.objects.pairs import Objects
from pytest_flaky_repro.culprit.objects.store import ObjectStore, digest_of
from pytest_flaky_repro.culprit.objects.workplace import Workplace
from pytest_flaky_repro.culprit.objects.wrapper import Variant, read_log
from pytest_flaky_repro.errors import InfrastructureError, UsageError

ALL = ("core/a.o", "core/b.o", "vdso/clock.o")
A_NEEDS_B = {  # all good and all bad link, bad a alone does not
    "core_a": "#ifdef BAD\nint more(void);\nint a(void) { return more(); }\n#else\n"
    "int a(void) { return 1; }\n#endif\n",
    "core_b": "int b(void) { return 3; }\n#ifdef BAD\nint more(void) { return 2; }\n#endif\n",
}


class Toy(Protocol):
    """The fixture's class: test modules cannot import it."""

    folder: Path
    source: Path
    place: Workplace
    bad: Variant
    said: list[str]

    def write(self, **more: str) -> None: ...
    def objects(self, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> Objects: ...
    def builder(
        self, only: tuple[str, ...] = (), exclude: tuple[str, ...] = ()
    ) -> ObjectsBuilder: ...
    def says(self, image: Path) -> dict[str, str]: ...


def kernel(builder: ObjectsBuilder, *bad: str) -> Path:
    built = builder.build(Universe(builder.candidates).subset(bad))
    assert isinstance(built, Image), built
    assert built.kernel is not None
    return built.kernel


def compilations(toy: Toy) -> int:
    return sum(1 for _ in read_log(toy.place.kbuild.files.log))


def test_candidates_are_the_objects_that_differ_and_run(toy: Toy) -> None:
    found = toy.objects()
    assert tuple(pair.name for pair in found.pairs) == ALL
    assert set(found.same) == {"core/main.o", "fs/ext.o"}
    assert dict(found.excluded) == {}


@pytest.mark.parametrize("bad", [(), ("core/a.o",), ("core/b.o",), ("core/a.o", "core/b.o"), ALL])
def test_a_kernel_has_exactly_the_wanted_objects_bad(toy: Toy, bad: tuple[str, ...]) -> None:
    says = toy.says(kernel(toy.builder(), *bad))
    assert says["a"] == ("2" if "core/a.o" in bad else "1")
    assert says["b"] == ("4" if "core/b.o" in bad else "3")


def test_an_object_of_the_vdso_reaches_the_kernel_through_its_own_link(toy: Toy) -> None:
    builder = toy.builder()
    good, bad = (toy.says(kernel(builder, *names)) for names in ((), ("vdso/clock.o",)))
    assert good["vdso"] != bad["vdso"]
    assert (good["a"], good["b"]) == (bad["a"], bad["b"])


def test_the_vdso_of_the_bad_build_is_not_smuggled_in_with_another_object(toy: Toy) -> None:
    builder = toy.builder()
    good = toy.says(kernel(builder))
    assert toy.says(kernel(builder, "core/a.o", "core/b.o"))["vdso"] == good["vdso"]


def test_swapping_gives_the_kernel_that_compiling_would_have_given(toy: Toy) -> None:
    swapped = kernel(toy.builder(), "core/a.o", "vdso/clock.o")
    kbuild = toy.place.kbuild
    shutil.rmtree(kbuild.tree)
    kbuild.tree.mkdir()
    (kbuild.tree / ".config").write_text("CONFIG_TOY=y\n")
    kbuild.files.want_bad(("core/a.o", "vdso/clock.o"))
    assert kbuild.make("image").status == 0
    assert digest_of(kbuild.image()) == digest_of(swapped)


def test_nothing_is_compiled_for_a_mixture(toy: Toy) -> None:
    builder = toy.builder()
    before = compilations(toy)
    kernel(builder, "core/a.o")
    kernel(builder, "core/b.o")
    assert compilations(toy) == before


def test_a_kernel_that_was_built_is_kept(toy: Toy) -> None:
    first = kernel(toy.builder(), "core/b.o")
    log = toy.place.kbuild.log
    before = log.stat().st_size
    assert kernel(toy.builder(), "core/b.o") == first  # another process's builder
    assert b"-o boot/image" not in log.read_bytes()[before:]


def test_equal_images_have_one_id(toy: Toy) -> None:
    toy.write(core_b="int b(void) { return 3; }\n#ifdef BAD\nint unused;\n#endif\n")
    builder = toy.builder()
    universe = Universe(builder.candidates)
    one, same = (builder.build(universe.subset(names)) for names in ((), ()))
    other = builder.build(universe.subset(["core/a.o"]))
    assert isinstance(one, Image)
    assert isinstance(other, Image)
    assert one == same
    assert one.id != other.id


def test_what_does_not_compile_bad_is_left_out_with_what_the_compiler_said(toy: Toy) -> None:
    toy.write(fs_ext="#ifdef BAD\n#error not like this\n#endif\nint ext(void) { return 5; }\n")
    found = toy.objects()
    assert found.excluded == {"fs/ext.o": "does not compile: #error not like this"}
    assert toy.says(kernel(toy.place.builder(found), *ALL))["ext"] == "5"


def test_what_does_not_link_bad_is_left_out(toy: Toy) -> None:
    toy.write(fs_ext="int away(void);\n#ifdef BAD\nint ext(void) { return away(); }\n#else\n"
              "int ext(void) { return 5; }\n#endif\n")  # fmt: skip
    found = toy.objects()
    assert found.excluded == {"fs/ext.o": "does not link: undefined away"}
    assert tuple(pair.name for pair in found.pairs) == ALL
    assert toy.says(kernel(toy.place.builder(found), *ALL))["a"] == "2"


def test_members_of_a_part_that_cannot_be_linked_bad_are_left_out(toy: Toy) -> None:
    toy.write(vdso_clock="int away(void);\n#ifdef BAD\nint clock(void) { return away(); }\n#else\n"
              "int clock(void) { return 6; }\n#endif\n")  # fmt: skip
    found = toy.objects()
    assert found.excluded == {"vdso/clock.o": "vdso/vdso.so could not be made with it"}


def test_a_mixture_that_does_not_link_is_skipped_never_good(toy: Toy) -> None:
    toy.write(**A_NEEDS_B)
    builder = toy.builder()
    universe = Universe(builder.candidates)
    skipped = builder.build(universe.subset(["core/a.o"]))
    assert isinstance(skipped, Skipped)
    assert "more" in skipped.reason
    assert builder.build(universe.subset(["core/a.o"])) == skipped
    assert toy.says(kernel(builder, "core/a.o", "core/b.o"))["a"] == "2"


def test_only_and_exclude_choose_what_is_built_bad(toy: Toy) -> None:
    found = toy.objects(only=("core/*",), exclude=("*/b.o",))
    assert tuple(pair.name for pair in found.pairs) == ("core/a.o",)
    bad = [c.name for c in read_log(toy.place.kbuild.files.log) if c.wanted == "bad"]
    assert sorted(bad) == ["core/a.o", "core/main.o"]


def test_more_candidates_later_cost_only_what_is_missing(toy: Toy) -> None:
    toy.objects(only=("core/*",))
    before = compilations(toy)
    builder = toy.builder()
    assert compilations(toy) == before + 2  # fs/ext.o and vdso/clock.o
    assert toy.says(kernel(builder, "core/b.o"))["b"] == "4"


def test_globs_that_leave_nothing_are_an_error(toy: Toy) -> None:
    with pytest.raises(UsageError, match=r"--only and --exclude leave none of the 5 objects"):
        toy.objects(only=("kernel/*",))


def test_variants_without_a_difference_are_an_error(toy: Toy) -> None:
    toy.bad = Variant("gcc", "-DNOTHING")
    with pytest.raises(UsageError, match=r"no object differs: 5 are the same"):
        toy.builder()


def test_debug_information_is_no_difference(toy: Toy) -> None:
    toy.bad = Variant("gcc", "-g")  # DWARF holds the flags, and is not loaded
    assert toy.objects().pairs == ()


def test_two_compilers_are_two_variants(toy: Toy) -> None:
    other = toy.folder / "other-gcc"
    other.write_text('#!/bin/sh\nexec gcc "$@" -DBAD\n')
    other.chmod(0o755)
    toy.bad = Variant(str(other))
    assert toy.says(kernel(toy.builder(), "core/a.o"))["a"] == "2"


def test_a_bad_compiler_that_compiles_nothing_is_an_error(toy: Toy) -> None:
    toy.bad = Variant("gcc", "--no-such-flag-at-all")
    with pytest.raises(UsageError, match=r"no object differs.*5 cannot be had bad"):
        toy.builder()


def test_the_user_s_trees_stay_untouched(toy: Toy) -> None:
    kept = {
        path: path.stat().st_mtime_ns
        for root in (toy.source, toy.folder / "build")
        for path in [root, *root.rglob("*")]
    }
    kernel(toy.builder(), "core/a.o")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    now = [p for root in (toy.source, toy.folder / "build") for p in [root, *root.rglob("*")]]
    assert sorted(now) == sorted(kept)


def test_full_builds_are_not_made_twice(toy: Toy) -> None:
    first = toy.objects()
    before = compilations(toy)
    assert toy.objects() == first
    assert compilations(toy) == before


SLOW = '#!/bin/sh\ncase $* in *BAD*vdso*|*vdso*BAD*) sleep 600 ;; esac\nexec gcc "$@"\n'
IN_A_PROCESS = """
import sys
from pathlib import Path
from pytest_flaky_repro.culprit.objects.workplace import Inputs, Workplace
from pytest_flaky_repro.culprit.objects.wrapper import Variant
folder = Path(sys.argv[1])
slow = str(folder / "slow-gcc")
inputs = Inputs(folder / "source", folder / "build", Variant(slow), Variant(slow, "-DBAD"))
Workplace(folder / "work", inputs, jobs=1).objects(print)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_builds_survive_a_kill_in_the_middle(toy: Toy, how: signal.Signals) -> None:
    slow = toy.folder / "slow-gcc"
    slow.write_text(SLOW)
    slow.chmod(0o755)
    child = subprocess.Popen([sys.executable, "-c", IN_A_PROCESS, str(toy.folder)])
    log = toy.place.kbuild.files.log
    limit = time.monotonic() + 120
    while not any(c.wanted == "bad" and c.name == "fs/ext.o" for c in read_log(log)):
        assert time.monotonic() < limit, "the bad build did not come that far"
        assert child.poll() is None
        time.sleep(0.05)
    child.send_signal(how)
    child.wait()
    before = compilations(toy)
    slow.write_text('#!/bin/sh\nexec gcc "$@"\n')
    toy.bad = Variant("gcc", "-DBAD")
    builder = toy.builder()
    assert tuple(pair.name for pair in builder.pairs) == ALL
    assert compilations(toy) - before <= 2  # what was being compiled, not what was done
    assert toy.says(kernel(builder, "core/b.o"))["b"] == "4"


def test_a_source_that_changed_since_the_full_builds_is_an_error(toy: Toy) -> None:
    kernel(toy.builder(), "core/a.o")
    later = time.time() + 10
    toy.write(core_b="int b(void) { return 8; }\n")
    os.utime(toy.source / "core/b.c", (later, later))
    with pytest.raises(UsageError, match=r"core/b.o was compiled again.*--rebuild"):
        kernel(toy.builder(), "core/a.o", "core/b.o")


def test_rebuilding_forgets_everything(toy: Toy) -> None:
    kernel(toy.builder(), "core/a.o")
    toy.write(core_b="int b(void) { return 8; }\n")
    toy.place.forget()
    assert toy.says(kernel(toy.builder(), "core/a.o"))["b"] == "8"


def test_the_same_builds_made_again_are_the_same_search(toy: Toy) -> None:
    before = toy.builder(only=("core/a.o",)).identity
    toy.place.forget()
    assert toy.builder(only=("core/a.o",)).identity == before


def test_other_kernels_with_the_same_candidates_are_another_search(toy: Toy) -> None:
    """core/a.o stays as it is in both variants; what it is linked with does not."""
    known = {toy.builder(only=("core/a.o",)).identity}
    toy.write(core_b="int b(void) { return 8; }\n")
    toy.place.forget()
    known.add(toy.builder(only=("core/a.o",)).identity)
    (toy.folder / "build" / ".config").write_text("CONFIG_TOY=y\nCONFIG_ASSEMBLY=y\n")
    toy.place.forget()
    known.add(toy.builder(only=("core/a.o",)).identity)
    assert len(known) == 3


def test_options_that_did_not_survive_are_told_but_not_what_describes_the_tools() -> None:
    asked = 'CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_CC_VERSION_TEXT="old"\nCONFIG_C="x"\n'
    got = 'CONFIG_A=m\nCONFIG_CC_VERSION_TEXT="new"\nCONFIG_C="x"\nCONFIG_D=y\nCONFIG_WERROR=y\n'
    assert changed_options(asked, got) == ["A"]


def test_a_tree_whose_link_is_not_known_is_linked_by_make(toy: Toy) -> None:
    builder = toy.builder()
    assert builder.linker.replay is Replay.REFUSED
    assert "not known for this kernel" in builder.linker.reason


def test_two_searches_in_one_folder_are_an_error(toy: Toy) -> None:
    refused = pytest.raises(UsageError, match="another search is at work here")
    with toy.place.locked(), refused, toy.place.locked():
        pass


def test_a_folder_with_another_search_s_builds_is_an_error(toy: Toy) -> None:
    toy.objects()
    toy.bad = Variant("gcc", "-DOTHER")
    place = toy.place
    with (
        pytest.raises(UsageError, match=r"built from something else .*bad variant"),
        place.locked(),
    ):
        pass


def test_a_full_disk_is_said_with_its_mend(toy: Toy) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    store = ObjectStore(toy.folder / "store")
    digest = store.put(toy.source / "Makefile")
    part = toy.folder / f".x.{os.getpid()}.part"
    part.symlink_to("/dev/full")
    with pytest.raises(InfrastructureError, match=r"No space left on device.*--work"):
        store.place(digest, toy.folder / "x")


def test_a_full_disk_in_make_is_said_with_its_mend(toy: Toy) -> None:
    toy.write(core_a="int a(void) { return 1; }\n#error No space left on device\n")
    with pytest.raises(InfrastructureError, match=r"No space left on device.*--work"):
        toy.objects()


class Trouble:
    """A ``gcc`` before all others that fails as a machine in trouble does, until it is over."""

    def __init__(self, folder: Path, *, when: str, says: str) -> None:
        (folder / "bin").mkdir()
        self._sign = folder / "trouble"
        self._sign.touch()
        gcc = folder / "bin" / "gcc"
        gcc.write_text(
            f"#!/bin/sh\ncase $* in {when}) [ ! -e {self._sign} ] || "
            f'{{ echo "{says}" >&2; exit 1; }} ;; esac\nexec {shutil.which("gcc")} "$@"\n'
        )
        gcc.chmod(0o755)

    def is_over(self) -> None:
        self._sign.unlink()


@pytest.mark.parametrize(
    "says",
    [
        "ld: final link failed: No space left on device",
        "collect2: fatal error: ld terminated with signal 9 [Killed]",
    ],
)
def test_a_link_that_the_machine_hindered_is_no_skip(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    builder = toy.builder()
    kernel(builder)
    trouble = Trouble(toy.folder, when="*boot/image*", says=says)
    monkeypatch.setenv("PATH", f"{toy.folder}/bin:{os.environ['PATH']}")
    with pytest.raises(InfrastructureError, match=re.escape(says)):
        kernel(builder, "core/a.o")
    trouble.is_over()
    assert toy.says(kernel(builder, "core/a.o"))["a"] == "2"


def test_an_object_whose_compiler_was_killed_is_not_left_out(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "gcc: fatal error: Killed signal terminated program cc1"
    trouble = Trouble(toy.folder, when="*core/b.c*-DBAD*", says=says)
    monkeypatch.setenv("PATH", f"{toy.folder}/bin:{os.environ['PATH']}")
    for _ in range(2):
        with pytest.raises(InfrastructureError, match=r"core/b\.o bad .*Killed signal"):
            toy.objects()
    trouble.is_over()
    assert tuple(pair.name for pair in toy.objects().pairs) == ALL


def test_a_link_that_failed_can_be_forgotten(toy: Toy) -> None:
    toy.write(**A_NEEDS_B)
    builder = toy.builder()
    universe = Universe(builder.candidates)
    assert isinstance(builder.build(universe.subset(["core/a.o"])), Skipped)
    record = next(toy.place.folder.glob("kernels/*.json"))
    builder.forget_failures()
    assert not record.exists()


def test_what_the_builds_found_can_be_read_by_others(toy: Toy) -> None:
    toy.objects()
    (path,) = toy.place.folder.glob("objects-*.json")
    record = json.loads(path.read_text())
    assert [pair["name"] for pair in record["pairs"]] == list(ALL)
