"""Commands that build: what is reused of an earlier run, and whose builds share their trials."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_flaky_repro.culprit.building import Image, Shape
from pytest_flaky_repro.culprit.candidates import Candidate, Subset, Universe
from pytest_flaky_repro.culprit.command_files import changed_files, files_of, mentions, scripts_of
from pytest_flaky_repro.culprit.commanded import CommandBuilder, TrialsIn
from pytest_flaky_repro.errors import InfrastructureError

NAMES = [Candidate("a"), Candidate("b")]
COPY = 'cat s*e > "$CULPRIT_OUTPUT"'


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").write_text("one")
    return tmp_path


def builder(
    command: str = COPY, *, reuse: bool = False, trials: TrialsIn = TrialsIn.GUESTS
) -> CommandBuilder:
    where = Path("builds").absolute()
    return CommandBuilder(NAMES, command, where, Shape.SET, reuse=reuse, trials=trials)


def subset(*names: str) -> Subset:
    return Universe(NAMES).subset(names)


def image(made: CommandBuilder, *names: str) -> Image:
    found = made.build(subset(*names))
    assert isinstance(found, Image), found
    return found


def content(found: Image) -> str:
    return Path(found.artefact).read_text()


def test_a_run_builds_anew_unless_it_resumes() -> None:
    assert content(image(builder(), "a")) == "one"
    Path("source").write_text("two")  # the command does not name it: only a new run can see it
    assert content(image(builder(reuse=True), "a")) == "one"
    assert content(image(builder(), "a")) == "two"
    assert content(image(builder(reuse=True), "a")) == "two"


def test_what_another_command_built_is_never_reused() -> None:
    image(builder(), "a")
    assert content(image(builder('echo other > "$CULPRIT_OUTPUT"', reuse=True), "a")) == "other\n"


def test_an_edited_script_is_another_builder() -> None:
    script = Path("build.sh")
    script.write_text(COPY)
    before = builder("sh ./build.sh")
    script.write_text(f"{COPY} # edited")
    after = builder("sh ./build.sh")
    assert before.identity != after.identity
    assert changed_files(before.files, after.files) == ["./build.sh"]


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("./try.sh", ["./try.sh"]),
        ("sh -x './try.sh' && ./other.sh", ["./try.sh", "./other.sh"]),
        ("./try.sh > log 2>&1", ["./try.sh"]),
        ("./try.sh>>log", ["./try.sh"]),
        ("./try.sh --log log", ["./try.sh"]),
        ("./try.sh log", ["./try.sh", "log"]),
        ("make -s nothing", []),
        ("cat < log", ["log"]),
        ("echo 'not closed ./try.sh", []),
        ("x" * 5000, []),
    ],
)
def test_files_that_a_command_names(command: str, files: list[str]) -> None:
    for name in ("try.sh", "other.sh", "log"):
        Path(name).write_text("")
    assert list(files_of(command, Path.cwd())) == files


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ('./try.sh && cp log "$CULPRIT_OUTPUT"', ["./try.sh"]),
        ("sh -x other.sh; cat log", ["other.sh"]),
        ("A=1 python3.11 other.sh log", ["other.sh", "log"]),
        ("nice ./script", ["./script"]),
        ("make log && ./other.sh", ["./other.sh"]),
    ],
)
def test_what_a_build_command_makes_is_no_part_of_it(command: str, files: list[str]) -> None:
    """It is another file after each build, and no --resume would ever be allowed."""
    for name in ("try.sh", "other.sh", "log"):
        Path(name).write_text("")
    Path("script").write_text("#!/bin/sh")
    assert list(scripts_of(command, Path.cwd())) == files


def test_without_a_folder_only_absolute_paths_are_files() -> None:
    script = Path("try.sh").absolute()
    script.write_text("")
    assert list(files_of(f"./try.sh {script}", None)) == [str(script)]


def test_a_script_is_searched_for_variables() -> None:
    Path("try.sh").write_text('grep -q x "$CULPRIT_BAD"')
    files = files_of("./try.sh", Path.cwd())
    assert mentions("./try.sh", files, Path.cwd(), "CULPRIT_BAD")
    assert not mentions("./try.sh", files, Path.cwd(), "CULPRIT_GOOD")
    assert mentions('test -s "$CULPRIT_GOOD"', {}, Path.cwd(), "CULPRIT_GOOD")


def test_trials_as_commands_find_the_names() -> None:
    words = dict(w.split("=", 1) for w in image(builder(trials=TrialsIn.COMMANDS), "b").environment)
    assert Path(words["CULPRIT_BAD"]).read_text() == "b\n"
    assert Path(words["CULPRIT_GOOD"]).read_text() == "a\n"
    assert image(builder(), "b").environment == ()  # a guest has no use for our paths


@pytest.mark.parametrize(
    ("trials", "is_one"),
    [(TrialsIn.GUESTS, True), (TrialsIn.COMMANDS, True), (TrialsIn.KNOWING, False)],
)
def test_equal_builds_are_one_image_unless_trials_look_at_the_names(
    trials: TrialsIn, is_one: bool
) -> None:
    made = builder(trials=trials)
    assert (image(made, "a").id == image(made, "b").id) is is_one


def test_a_disk_that_cannot_be_written_to_is_named_with_the_mend() -> None:
    Path("builds").write_text("in the way")
    with pytest.raises(InfrastructureError, match=r"builds/subsets.*go on with --resume"):
        builder().build(subset("a"))


def test_half_of_an_output_on_a_full_disk_is_no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script without set -e ends well, whatever cat could not write."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(InfrastructureError, match="the disk is full"):
        builder().build(subset("a"))
