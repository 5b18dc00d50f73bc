"""Options mixed and settled by the kernel's own Kconfig program, on a source tree in miniature."""

from __future__ import annotations

import random
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image, Skipped
from pytest_flaky_repro.culprit.candidates import Subset, Universe
from pytest_flaky_repro.culprit.config import dotconfig
from pytest_flaky_repro.culprit.config.builder import ConfigBuilder, make_builder, read_ends
from pytest_flaky_repro.culprit.config.kernels import KernelStore, fingerprint
from pytest_flaky_repro.culprit.config.settling import SourceTree
from pytest_flaky_repro.culprit.holding import held
from pytest_flaky_repro.culprit.result import Kind, Result
from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable
from pytest_flaky_repro.errors import InfrastructureError, UsageError

HERE = Path(__file__).parent
KERNELS = HERE.parent / "kernels" / "build.py"
DRIVERS = 40


def kconfig() -> str:
    """Buses, and drivers that need them; a choice; what is selected, hidden, asked of experts."""
    lines = ['mainmenu "Linux/$(ARCH) 1 Kernel Configuration"', "config EXPERT", '\tbool "Expert"']
    for bus in ("PCI", "USB", "I2C", "SPI"):
        lines += [f"config {bus}", f'\tbool "{bus}"']
    for number in range(DRIVERS):
        bus = ("PCI", "USB", "I2C", "SPI")[number % 4]
        lines += [f"config DRIVER{number}", f'\tbool "driver {number}"', f"\tdepends on {bus}"]
    lines += [
        *("config CRC", '\tbool "CRC"'),
        *("config NET", '\tbool "net"', "\tselect CRC"),
        *("config HAVE_X", "\tbool"),
        *("config PROVIDER", '\tbool "provider"', "\tselect HAVE_X"),
        *("config X", '\tbool "x"', "\tdepends on HAVE_X && PCI"),
        *("config TUNED", '\tbool "tuned" if EXPERT', "\tdefault y"),
        *("config NR", '\tint "number"', "\trange 1 64", "\tdefault 8"),
        *("choice", '\tprompt "Allocator"', "config SLAB", '\tbool "slab"'),
        *("config SLUB", '\tbool "slub"', "endchoice"),
        *("config BROKEN", '\tbool "broken"', "config HUGE", '\tbool "huge"'),
        *("config RESTLESS", '\tbool "restless"', "config TICK", '\tbool "tick"'),
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def conf() -> Path:
    """The kernel's own scripts/kconfig/conf, compiled from its source once and kept."""
    build = runpy.run_path(str(KERNELS))
    objects: Path = build["cache_folder"]() / "objects-kconfig"
    program = objects / "scripts" / "kconfig" / "conf"
    with build["_locked"]():
        if not program.exists():
            objects.mkdir(exist_ok=True)
            source = build["_source_tree"](build["ensure_source_package"]())
            command = ["make", "-C", str(source), f"O={objects}", "ARCH=x86_64", "tinyconfig"]
            subprocess.run(command, check=True, capture_output=True)
    return program


@dataclass
class World:
    """A source tree, two configurations, and what lies between them."""

    folder: Path
    conf: Path
    good: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "source").mkdir()
        shutil.copy(HERE / "toy_kconfig.mk", self.folder / "source" / "Makefile")
        (self.folder / "source" / "Kconfig").write_text(kconfig())

    @property
    def tree(self) -> SourceTree:
        return SourceTree(self.folder / "source", "x86_64", (f"CONF={self.conf}",))

    @property
    def store(self) -> KernelStore:
        image = "arch/x86/boot/bzImage"
        source = fingerprint(self.folder / "source")
        return KernelStore(self.tree, self.folder / "built", image, "bzImage", 1, source)

    def builder(self) -> ConfigBuilder:
        for name, values in (("good", self.good), ("bad", self.bad)):
            values.setdefault("RESTLESS", "n")
            (self.folder / name).write_text(dotconfig.render(values))
        scratch = self.folder / "scratch"
        ends = read_ends(self.tree, self.folder / "good", self.folder / "bad", scratch)
        return make_builder(self.tree, ends, self.store)

    def times_built(self) -> int:
        return len((self.folder / "built" / "objects" / "times").read_text().splitlines())


@pytest.fixture
def world(tmp_path: Path, conf: Path) -> World:
    return World(tmp_path, conf)


def switched(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "y")


EVERYTHING = switched("PCI", "USB", "I2C", "SPI", *(f"DRIVER{i}" for i in range(DRIVERS)))


def subset(builder: ConfigBuilder, names: Iterable[str]) -> Subset:
    return Universe(builder.candidates).subset(names)


def values_of(image: Image | Skipped) -> dict[str, str]:
    assert isinstance(image, Image), image
    assert image.kernel is not None
    return dotconfig.parse(image.kernel.read_text())


def test_nothing_and_everything_are_the_two_configurations(world: World) -> None:
    world.good = switched("USB", "DRIVER1", "EXPERT", "SLAB", "NET", "CRC") | {"TUNED": "n"}
    world.bad = switched("PCI", "DRIVER4", "SLUB", "CRC") | {"NR": "12"}
    builder = world.builder()
    for names, end in (((), "good"), ([c.name for c in builder.candidates], "bad")):
        composition = builder.composition(subset(builder, names))
        settled = world.tree.settle(dotconfig.parse((world.folder / end).read_text()), world.folder)
        assert composition.settled.values == settled.values
        assert not composition.missed


def test_every_prefix_takes_whole(world: World) -> None:
    """Drivers of two buses go, drivers of the two others come, with all they need."""
    world.good = {name: "y" for name in EVERYTHING if name in ("USB", "I2C") or is_on(name, (1, 2))}
    world.bad = {name: "y" for name in EVERYTHING if name in ("PCI", "SPI") or is_on(name, (0, 3))}
    world.good |= switched("NET", "CRC", "PROVIDER")
    world.bad |= switched("PROVIDER", "X")
    builder = world.builder()
    names = [candidate.name for candidate in builder.candidates]
    for count in range(0, len(names) + 1, 4):
        assert builder.composition(subset(builder, names[:count])).missed == ()


def is_on(name: str, remainders: Collection[int]) -> bool:
    return name.startswith("DRIVER") and int(name[6:]) % 4 in remainders


def test_an_option_alone_brings_the_fewest_that_it_needs(world: World) -> None:
    world.bad = {**EVERYTHING, **switched("PROVIDER", "X", "NET", "CRC")}
    builder = world.builder()
    composition = builder.composition(subset(builder, ["X"]))
    assert set(composition.companions) == {"PCI", "PROVIDER"}
    assert composition.missed == ()
    assert builder.composition(subset(builder, ["DRIVER5"])).companions == ("USB",)
    assert builder.composition(subset(builder, ["NET"])).companions == ()


def test_an_option_alone_brings_what_it_needs_where_few_options_differ(world: World) -> None:
    world.bad = switched("PCI", "DRIVER0", "TICK", "USB", "SLUB")
    builder = world.builder()
    assert len(builder.candidates) == 5
    composition = builder.composition(subset(builder, ["DRIVER0"]))
    assert composition.companions == ("PCI",)
    assert composition.missed == ()
    names = [candidate.name for candidate in builder.candidates if candidate.name != "PCI"]
    assert builder.composition(subset(builder, names)).companions == ()


def test_all_but_an_option_is_without_what_depends_on_it(world: World) -> None:
    world.bad = EVERYTHING
    builder = world.builder()
    names = [candidate.name for candidate in builder.candidates if candidate.name != "PCI"]
    composition = builder.composition(subset(builder, names))
    assert composition.companions == ()
    assert {miss.option for miss in composition.missed} == {
        f"DRIVER{number}" for number in range(0, DRIVERS, 4)
    }
    assert str(composition.missed[0]) == "DRIVER0=y (is n)"


def test_equal_configurations_are_one_kernel(world: World) -> None:
    world.bad = switched("NET", "CRC", "PCI")
    builder = world.builder()
    one = builder.build(subset(builder, ["NET"]))  # selects CRC
    two = builder.build(subset(builder, ["NET", "CRC"]))
    assert one == two
    assert values_of(one)["CRC"] == "y"
    assert world.times_built() == 1
    again = world.builder()
    assert again.build(subset(again, ["NET"])) == one
    assert world.times_built() == 1


def test_a_kernel_that_does_not_build_is_skipped_once_and_for_all(world: World) -> None:
    world.bad = switched("BROKEN", "PCI")
    for _ in range(2):
        builder = world.builder()
        skipped = builder.build(subset(builder, ["BROKEN"]))
        assert isinstance(skipped, Skipped)
        assert "does not build: exit 2: broken.c:1: error: no" in skipped.reason
    assert world.times_built() == 1


def test_a_failure_can_be_forgotten_and_another_make_is_another_kernel(world: World) -> None:
    world.bad = switched("BROKEN", "PCI")
    builder = world.builder()
    assert isinstance(builder.build(subset(builder, ["BROKEN"])), Skipped)
    (world.folder / "source" / "Makefile").write_text(
        (HERE / "toy_kconfig.mk").read_text().replace("CONFIG_BROKEN=y", "CONFIG_MENDED=y")
    )
    mended = world.builder()  # of another source
    assert isinstance(mended.build(subset(mended, ["BROKEN"])), Image)
    world.store.forget_failures()
    builder.build(subset(builder, ["BROKEN"]))
    assert world.times_built() == 3


def test_a_full_disk_is_no_skip(world: World) -> None:
    world.bad = switched("HUGE", "PCI")
    builder = world.builder()
    with pytest.raises(InfrastructureError, match=r"the disk is full.*go on with --resume"):
        builder.build(subset(builder, ["HUGE"]))


# ---- wrong use


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (switched("PCI"), switched("PCI"), "the two configurations are the same"),
        ({}, {"NR": "99"}, "(?s)the same once make olddefconfig .*does not take in this tree"),
        ({}, {"NR": "many"}, "refuses NR=many: such a value does not exist"),
        ({}, switched("RESTLESS"), "does not settle: each make olddefconfig changes TICK again"),
    ],
)
def test_configurations_that_cannot_be_searched_are_refused(
    world: World, good: dict[str, str], bad: dict[str, str], said: str
) -> None:
    world.good, world.bad = good, bad
    with pytest.raises(UsageError, match=said):
        world.builder()


def test_what_a_configuration_asks_for_in_vain_is_told(world: World) -> None:
    (world.folder / "good").write_text("CONFIG_PCI=y\n")
    (world.folder / "bad").write_text("CONFIG_DRIVER1=y\nCONFIG_NO_SUCH=y\n")
    scratch = world.folder / "scratch"
    ends = read_ends(world.tree, world.folder / "good", world.folder / "bad", scratch)
    [sentence] = ends.refused
    assert sentence.endswith("not taken by this tree: DRIVER1=y (is n), NO_SUCH=y (is n)")


def test_a_source_that_changed_is_another_search(world: World) -> None:
    world.bad = switched("PCI")
    before = world.builder().identity
    assert world.builder().identity == before
    (world.folder / "source" / "fix.c").write_text("")
    assert world.builder().identity != before


def test_git_s_own_files_do_not_change_a_source(tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "index").write_text("x")
    assert fingerprint(tmp_path) == before


# ---- the whole search


@dataclass(frozen=True)
class Dice:
    """Trials on images that say what they are: those with all of ``guilty`` crash at ``rate``."""

    guilty: frozenset[str]
    rate: float
    identity: str = "dice"

    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None:
        del target
        values = values_of(image)
        crashes = self.rate if all(values.get(name) == "y" for name in self.guilty) else 0.0
        for ticket in range(already, already + survivals):
            crashed = random.Random(f"{image.id} {ticket}").random() < crashes
            outcome = TrialOutcome.CRASHED if crashed else TrialOutcome.SURVIVED
            on_trial(TrialReport(outcome, 1.0, title="panic" if crashed else ""))
            if crashed:
                break
        return None


def search(world: World, guilty: Collection[str], rate: float = 0.3) -> Result:
    dice = Dice(frozenset(guilty), rate)
    return find_culprit(world.builder(), dice, SearchOptions(), folder=world.folder / "evidence")


@pytest.mark.parametrize("guilty", [["DRIVER17"], ["X"], ["DRIVER6", "DRIVER33"]])
def test_the_options_are_found(world: World, guilty: list[str]) -> None:
    world.good = switched("TICK")
    world.bad = {**EVERYTHING, **switched("PROVIDER", "X", "NET", "CRC")}
    found = search(world, guilty)
    assert found.kind is (Kind.SINGLE if len(guilty) == 1 else Kind.ALL_OF)
    assert set(found.names) == set(guilty)


@pytest.mark.parametrize("guilty", ["PCI", "DRIVER0", "TICK"])
def test_of_a_handful_of_options_none_is_blamed_for_what_it_needs(
    world: World, guilty: str
) -> None:
    """Without PCI there is no DRIVER0: all but PCI has neither."""
    world.bad = switched("PCI", "DRIVER0", "TICK")
    assert search(world, [guilty]).names == (guilty,)


def test_a_good_configuration_that_crashes_too_clears_them(world: World) -> None:
    world.good = switched("TICK")
    world.bad = {**EVERYTHING, **switched("TICK")}
    assert search(world, ["TICK"]).kind is Kind.NOT_HERE


def test_the_command_says_what_is_wrong_with_its_files(world: World) -> None:
    (world.folder / "config").write_text("CONFIG_PCI=y\n")
    command = [sys.executable, "-m", "pytest_flaky_repro", "culprit", "config"]
    good = ["--good", str(world.folder / "config")]
    source = ["--source", str(world.folder / "source")]
    (world.folder / "race.c").write_text("int main(void) { return 0; }\n")
    trials = ["--reproducer", str(world.folder / "race.c")]
    make_words = ["--make", f"CONF={world.conf}", "--evidence", str(world.folder / "evidence")]
    for words, said in (
        ([*source, *good, "--bad", "/dev/null"], "--bad /dev/null: expected a kernel's .config"),
        (["--source", "/usr", *good, "--bad", good[1]], "--source /usr: expected a kernel's"),
        ([*source, *good, "--bad", good[1]], "--reproducer PATH is needed"),  # nothing settled
        ([*source, *good, "--bad", good[1], *trials], "the two configurations are the same"),
    ):
        done = subprocess.run(
            [*command, *words, *make_words], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr


def test_two_searches_of_one_pair_of_files_keep_out_of_each_other_s_way(world: World) -> None:
    """Both write their .config into one object tree before they build."""
    for name, text in (("good", "CONFIG_USB=y\n"), ("bad", "CONFIG_PCI=y\n")):
        (world.folder / name).write_text(text)
    (world.folder / "race.c").write_text("int main(void) { return 0; }\n")
    command = [sys.executable, "-m", "pytest_flaky_repro", "culprit", "config"]
    ends = ["--good", str(world.folder / "good"), "--bad", str(world.folder / "bad")]
    where = ["--source", str(world.folder / "source"), "--build-folder", str(world.folder / "kept")]
    trials = ["--reproducer", str(world.folder / "race.c"), "--make", f"CONF={world.conf}"]
    with held(world.folder / "kept", "--build-folder"):
        done = subprocess.run(
            [*command, *ends, *where, *trials], capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert "another search is at work here" in done.stderr
    assert "name another folder with --build-folder" in done.stderr
    assert [path.name for path in (world.folder / "kept").iterdir()] == ["lock"]
