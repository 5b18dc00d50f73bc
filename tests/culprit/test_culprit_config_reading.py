""".config files, Kconfig files, and the order of options that follows from them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.culprit.config import dotconfig
from pytest_flaky_repro.culprit.config.changes import find_changes, wanted_everywhere
from pytest_flaky_repro.culprit.config.kconfig import Symbol, Symbols, read_kconfig
from pytest_flaky_repro.culprit.config.order import ordered, prerequisites
from pytest_flaky_repro.errors import UsageError

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
VALUES = st.sampled_from(["y", "m", "n", "17", "0x1f", '"a string"', '""'])


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_written_is_what_is_read(values: dict[str, str]) -> None:
    assert dotconfig.parse(dotconfig.render(values)) == values


def test_the_last_line_about_an_option_counts() -> None:
    text = "CONFIG_A=y\n# CONFIG_A is not set\n# CONFIG_B is not set\n# a comment\nCONFIG_B=m\n"
    assert dotconfig.parse(text) == {"A": "n", "B": "m"}


def test_the_title_names_the_architecture() -> None:
    assert dotconfig.architecture("#\n# Linux/arm64 6.1.0 Kernel Configuration\n#\n") == "arm64"
    assert dotconfig.architecture("CONFIG_A=y\n") is None


def test_a_file_that_is_no_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bzImage").write_bytes(b"\xff\xfeMZ")
    with pytest.raises(UsageError, match=r"--bad .*expected a kernel's .config"):
        dotconfig.read(tmp_path / "bzImage", "--bad")
    with pytest.raises(UsageError, match=r"--good .*No such file"):
        dotconfig.read(tmp_path / "none", "--good")


def symbols(tmp_path: Path, text: str, **files: str) -> Symbols:
    (tmp_path / "Kconfig").write_text(text)
    for name, content in files.items():
        path = tmp_path / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return read_kconfig(tmp_path, "x86_64")


def test_a_symbol_has_what_its_lines_and_its_surroundings_say(tmp_path: Path) -> None:
    found = symbols(
        tmp_path,
        """
menu "Buses"
    depends on HAS_BUS
if EXPERT
config PCI
\ttristate "PCI" if !S390
\tdepends on (MMU || FOO=m) && \\
\t\t!BROKEN  # a comment, "quoted"
\tselect CRC if NET
\timply HINT
\tdefault y if X86
endif
endmenu
config AFTER
\tbool
\tdef_bool $(success,test "$(CC)" = X) && DEEP
""",
    )
    assert found["PCI"] == Symbol(
        "PCI",
        place=0,
        kind="tristate",
        prompt=True,
        needs={"HAS_BUS", "EXPERT", "MMU", "FOO", "BROKEN"},
        shown_if={"!S390"},
        selects={"CRC", "HINT"},
        defaults={"X86"},
    )
    assert found["AFTER"] == Symbol("AFTER", place=1, kind="bool", defaults={"DEEP"})


def test_a_help_text_says_nothing_however_it_looks(tmp_path: Path) -> None:
    found = symbols(
        tmp_path,
        """
config A
\tbool "A"
\thelp
\t  If unsure, say
\t  config NOT_ME

\t    bool "nor this"
\tdepends on B
config C
\tbool "C"
""",
    )
    assert set(found) == {"A", "C"}
    assert found["A"].needs == {"B"}


def test_members_of_a_choice_know_that_they_belong_together(tmp_path: Path) -> None:
    found = symbols(
        tmp_path,
        """
choice
\tprompt "Timer" if EXPERT
\tdepends on TIMERS
\tdefault ONE
config ONE
\tbool "one"
config TWO
\tbool "two"
endchoice
choice
\tprompt "Other"
config THREE
\tbool "three"
endchoice
config FREE
\tbool "free"
""",
    )
    assert found["ONE"].choice == found["TWO"].choice != found["THREE"].choice
    assert found["FREE"].choice is None
    assert (found["TWO"].needs, found["TWO"].shown_if) == ({"TIMERS"}, {"EXPERT"})


def test_further_files_are_read_where_they_are_named(tmp_path: Path) -> None:
    found = symbols(
        tmp_path,
        'if A\nsource "arch/$(SRCARCH)/Kconfig"\nendif\nsource "gone/Kconfig"\n',
        arch__x86__Kconfig='config DEEP\n\tbool "deep"\n',
    )
    assert found["DEEP"].needs == {"A"}


def test_a_symbol_of_several_places_has_what_all_of_them_say(tmp_path: Path) -> None:
    found = symbols(
        tmp_path, 'config A\n\tdef_bool y\n\tdepends on B\nconfig A\n\tbool "A"\n\tselect C\n'
    )
    assert (found["A"].prompt, found["A"].needs, found["A"].selects) == (True, {"B"}, {"C"})


def test_a_folder_without_kconfig_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a kernel's source tree"):
        read_kconfig(tmp_path, "x86_64")


# ---- what differs


def switch(name: str, place: int = 0, **more: object) -> Symbol:
    return Symbol(name, place, kind="bool", prompt=True, **more)  # type: ignore[arg-type]


def test_off_and_out_of_sight_are_the_same() -> None:
    known = {name: switch(name) for name in "ABC"}
    found = find_changes(known, {"A": "n", "B": "y"}, {"B": "n", "C": "y"})
    assert [str(change) for change in found.values()] == ["B: y -> n", "C: n -> y"]


def test_symbols_without_a_prompt_follow_and_are_no_candidates() -> None:
    known = {"A": switch("A"), "HIDDEN": Symbol("HIDDEN", 1, kind="bool")}
    assert set(find_changes(known, {}, {"A": "y", "HIDDEN": "y"})) == {"A"}


def test_symbols_that_no_file_names_are_candidates() -> None:
    assert set(find_changes({}, {"NEW": "1"}, {"NEW": "2"})) == {"NEW"}


def test_a_number_that_only_one_of_the_two_shows_hangs_on_another_option() -> None:
    known = {"NR": Symbol("NR", 0, kind="int", prompt=True)}
    assert not find_changes(known, {}, {"NR": "4"})
    assert wanted_everywhere(known, {}, {"NR": "4"}) == {"NR": "4"}


def test_members_of_a_choice_change_together() -> None:
    known = {name: switch(name, choice=1) for name in ("SLAB", "SLUB", "SLOB")}
    good, bad = {"SLAB": "y", "SLUB": "n", "SLOB": "n"}, {"SLAB": "n", "SLUB": "y", "SLOB": "n"}
    [change] = find_changes(known, good, bad).values()
    assert (change.name, str(change)) == ("SLUB", "SLUB instead of SLAB")


# ---- their order


def order(known: Symbols, good: dict[str, str], bad: dict[str, str]) -> list[str]:
    return [change.name for change in ordered(known, find_changes(known, good, bad))]


def test_on_comes_after_what_it_depends_on() -> None:
    known = {"DEVICE": switch("DEVICE", 0, needs={"BUS"}), "BUS": switch("BUS", 1)}
    assert order(known, {}, {"BUS": "y", "DEVICE": "y"}) == ["BUS", "DEVICE"]


def test_off_comes_before_what_it_depends_on() -> None:
    known = {"BUS": switch("BUS", 0), "DEVICE": switch("DEVICE", 1, needs={"BUS"})}
    assert order(known, {"BUS": "y", "DEVICE": "y"}, {}) == ["DEVICE", "BUS"]


def test_dependencies_are_followed_through_hidden_symbols() -> None:
    known = {
        "USER": switch("USER", 0, needs={"HAVE"}),
        "HAVE": Symbol("HAVE", 1, kind="bool", needs={"BASE"}),
        "SELECTOR": switch("SELECTOR", 2, selects={"HAVE"}),
        "BASE": switch("BASE", 3),
    }
    found = prerequisites(known, find_changes(known, {}, dict.fromkeys(known, "y")))
    assert found["USER"] == {"SELECTOR", "BASE"}


def test_what_is_selected_comes_before_what_selects_it_and_goes_after_it() -> None:
    known = {"A": switch("A", 0, selects={"CRC"}), "CRC": switch("CRC", 1)}
    both = {"A": "y", "CRC": "y"}
    assert order(known, {}, both) == ["CRC", "A"]
    assert order(known, both, {}) == ["A", "CRC"]


@pytest.mark.parametrize("expert", [("n", "y"), ("y", "n")])
@pytest.mark.parametrize("tuned", [("n", "y"), ("y", "n")])
def test_a_value_changes_while_its_prompt_is_shown(
    expert: tuple[str, str], tuned: tuple[str, str]
) -> None:
    known = {"TUNED": switch("TUNED", 0, shown_if={"EXPERT"}), "EXPERT": switch("EXPERT", 1)}
    good, bad = ({"EXPERT": expert[i], "TUNED": tuned[i]} for i in (0, 1))
    shown_later = expert == ("n", "y")
    assert order(known, good, bad) == (["EXPERT", "TUNED"] if shown_later else ["TUNED", "EXPERT"])


def test_a_circle_is_cut_and_nothing_is_lost() -> None:
    known = {
        "A": switch("A", 0, needs={"B"}),
        "B": switch("B", 1, needs={"A"}),
        "C": switch("C", 2, needs={"A"}),
    }
    assert order(known, {}, dict.fromkeys("ABC", "y")) == ["A", "B", "C"]


@given(st.data())
def test_no_prefix_has_an_option_on_without_what_it_depends_on(data: st.DataObject) -> None:
    """On random graphs without circles: of lower numbers on higher ones, so against file order."""
    size = data.draw(st.integers(2, 12))
    needs = [
        data.draw(st.sets(st.integers(i + 1, size)), label=f"needs of {i}") for i in range(size)
    ]
    known = {
        f"O{i}": switch(f"O{i}", i, needs={f"O{j}" for j in needs[i] if j < size})
        for i in range(size)
    }
    found = order(known, {}, dict.fromkeys(known, "y"))
    assert sorted(found) == sorted(known)
    for place, name in enumerate(found):
        assert known[name].needs <= set(found[:place])
    for place, name in enumerate(gone := order(known, dict.fromkeys(known, "y"), {})):
        assert not known[name].needs & set(gone[:place])
