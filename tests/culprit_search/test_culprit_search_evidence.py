"""Kill it anywhere, go on: the answer comes from the records alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image, Skipped
from pytest_flaky_repro.culprit.candidates import Subset
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
from pytest_flaky_repro.culprit.testing import TrialReport
from pytest_flaky_repro.culprit.watching import Activity, View
from pytest_flaky_repro.errors import InfrastructureError, UsageError
from pytest_flaky_repro.journal import EvidenceWarning
from pytest_flaky_repro.report.searches import searches_below

RESUME = SearchOptions(resume=True)


class Killed(BaseException):
    """No Exception: as a signal's would, it passes through."""


def killed_after(tester: Any, trials: int) -> Any:
    """The tester, ended from outside after so many trials."""
    run = tester.run

    def counted(image: Any, survivals: int, target: Any, tell: Any, already: int = 0) -> Any:
        def on_trial(report: TrialReport) -> None:
            if tester.trials > trials:
                raise Killed
            tell(report)

        return run(image, survivals, target, on_trial, already)

    tester.run = counted
    return tester


def records(folder: Path) -> list[dict[str, Any]]:
    lines = [x for f in sorted(folder.glob("search-*.jsonl")) for x in f.read_text().splitlines()]
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("after", [1, 3, 9, 20, 40])
def test_a_killed_search_goes_on(masks: Any, coin: Any, tmp_path: Path, after: int) -> None:
    with pytest.raises(Killed):
        find_culprit(masks(60), killed_after(coin([[17]], 0.3, 1), after), folder=tmp_path)
    before = [r for r in records(tmp_path) if r["type"] == "trial"]
    assert len(before) == after
    result = find_culprit(masks(60), coin([[17]], 0.3, 2), RESUME, folder=tmp_path)
    assert result.names == ("c17",)
    trials = [r for r in records(tmp_path) if r["type"] == "trial"]
    assert result.spent.trials == len(trials)
    assert trials[: len(before)] == before


def test_a_finished_search_is_told_again_without_a_trial(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    first = find_culprit(masks(60), coin([[17]], 0.3), folder=tmp_path)
    idle = coin([[17]], 0.3)
    again = find_culprit(masks(60), idle, RESUME, folder=tmp_path)
    assert idle.trials == 0
    assert (again.kind, again.names, again.spent) == (first.kind, first.names, first.spent)
    assert again.probability == pytest.approx(first.probability)


def test_records_of_two_machines_add_up_in_any_order(masks: Any, coin: Any, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    files: list[Path] = []
    for seed in (1, 2):
        folder, options = tmp_path / f"{seed}", SearchOptions(max_trials=25)
        find_culprit(masks(60), coin([[17]], 0.3, seed), options, folder=folder)
        files += folder.glob("*.jsonl")
    for folder, order in ((one, files), (two, files[::-1])):
        folder.mkdir()
        for number, file in enumerate(order):
            (folder / f"search-{number}.jsonl").write_bytes(file.read_bytes())
    idle = SearchOptions(resume=True, max_trials=1)
    results = [find_culprit(masks(60), coin([], 0), idle, folder=folder) for folder in (one, two)]
    assert results[0].spent.trials == results[1].spent.trials == 50
    assert [e.candidate for e in results[0].credible] == [e.candidate for e in results[1].credible]


def test_without_resume_a_search_starts_anew(masks: Any, coin: Any, tmp_path: Path) -> None:
    find_culprit(masks(60), coin([[17]], 0.3), folder=tmp_path)
    tester = coin([[17]], 0.3, 5)
    find_culprit(masks(60), tester, folder=tmp_path)
    assert tester.trials > 20


def test_what_a_run_without_resume_left_behind_does_not_come_back(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """All bad did not link; that was mended, and the search begun anew: it is gone on with."""
    broken = masks(60, broken=lambda subset: len(subset) == 60)
    with pytest.raises(UsageError, match="once it is mended, run without --resume"):
        find_culprit(broken, coin([[17]], 0.3), folder=tmp_path)
    mended = SearchOptions(max_trials=10)
    find_culprit(masks(60), coin([[17]], 0.3, 1), mended, folder=tmp_path)
    result = find_culprit(masks(60), coin([[17]], 0.3, 2), RESUME, folder=tmp_path)
    assert (result.names, result.skipped) == (("c17",), ())
    (page,) = searches_below([tmp_path])
    assert "0 that could not be" in page.lines[0]
    assert f"{result.spent.trials} trials" in page.lines[0]


def test_a_run_that_forgot_resume_leaves_nothing_behind_before_its_first_trial(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    find_culprit(masks(60), coin([[17]], 0.3), SearchOptions(max_trials=25), folder=tmp_path)
    with pytest.raises(Killed):
        find_culprit(masks(60), killed_after(coin([[17]], 0.3, 5), 0), folder=tmp_path)
    more = SearchOptions(resume=True, max_trials=26)
    assert find_culprit(masks(60), coin([[17]], 0.3, 2), more, folder=tmp_path).spent.trials == 26


def test_evidence_that_is_deleted_meanwhile_ends_the_search(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """Records of a file that has no name any more are kept by nobody."""
    tester = coin([[17]], 0.3)
    run = tester.run

    def deleting(*args: Any, **named: Any) -> Any:
        if tester.trials > 5:
            for file in tmp_path.glob("search-*.jsonl"):
                file.unlink()
        return run(*args, **named)

    tester.run = deleting
    with pytest.raises(InfrastructureError, match=r"deleted meanwhile\. .*--resume"):
        find_culprit(masks(60), tester, folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda b, _: setattr(b, "identity", "x"), "what they are built from"),
        (lambda _, t: setattr(t, "identity", "x"), "the reproducer or how it is run"),
        (lambda b, _: setattr(b, "number", 61), "the candidates or their order"),
    ],
)
def test_evidence_of_another_search_is_refused(
    masks: Any, coin: Any, tmp_path: Path, change: Callable[[Any, Any], None], named: str
) -> None:
    find_culprit(masks(60), coin([[17]], 0.3), SearchOptions(max_trials=5), folder=tmp_path)
    builder, tester = masks(60), coin([[17]], 0.3)
    change(builder, tester)
    with pytest.raises(UsageError, match=f"{named} changed"):
        find_culprit(builder, tester, RESUME, folder=tmp_path)


def test_another_crash_that_counts_is_another_search(masks: Any, coin: Any, tmp_path: Path) -> None:
    find_culprit(masks(60), coin([[17]], 0.3), SearchOptions(max_trials=5), folder=tmp_path)
    options = SearchOptions(resume=True, target=Signature.parse("KASAN"))
    with pytest.raises(UsageError, match="the crash that counts changed"):
        find_culprit(masks(60), coin([[17]], 0.3), options, folder=tmp_path)


def test_trials_of_a_build_whose_record_is_damaged_are_left_out(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    find_culprit(masks(60), coin([[17]], 0.3), SearchOptions(max_trials=20), folder=tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    build = next(i for i, line in enumerate(lines) if '"type": "build"' in line)
    lines[build] = lines[build][:40] + "\n"
    file.write_text("".join(lines))
    with pytest.warns(EvidenceWarning) as warned:
        result = find_culprit(masks(60), coin([[17]], 0.3, 2), RESUME, folder=tmp_path)
    assert result.names == ("c17",)
    assert any("the record of what was built for them is damaged" in str(w.message) for w in warned)


def test_a_torn_last_line_is_left_out_with_a_warning(masks: Any, coin: Any, tmp_path: Path) -> None:
    find_culprit(masks(60), coin([[17]], 0.3), SearchOptions(max_trials=9), folder=tmp_path)
    (file,) = tmp_path.glob("*.jsonl")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.warns(EvidenceWarning, match="not a whole record"):
        result = find_culprit(masks(60), coin([[17]], 0.3, 3), RESUME, folder=tmp_path)
    assert result.names == ("c17",)


def test_the_crash_that_counts_is_what_all_bad_showed(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    result = find_culprit(masks(60), coin([[17]], 0.3), folder=tmp_path)
    assert result.signature == "the crash"


def test_a_watcher_sees_every_build_and_every_trial(masks: Any, coin: Any, tmp_path: Path) -> None:
    views: list[View] = []

    class Eyes:
        def see(self, view: View) -> None:
            views.append(view)

    builder, tester = masks(60), coin([[17]], 0.3)
    result = find_culprit(builder, tester, folder=tmp_path, watcher=Eyes())
    assert result.kind is Kind.SINGLE
    assert sum(view.activity is Activity.BUILT for view in views) == len(builder.built)
    trials = [view.spent.trials for view in views if view.activity is Activity.TESTING]
    assert sorted(set(trials)) == list(range(tester.trials + 1))
    assert views[-1].activity is Activity.DONE
    assert views[-1].found == (("c17",),)
    searching = [view for view in views if view.leaders]
    assert all(view.candidates_left <= 60 for view in searching)
    assert any(view.expected_s > 0 for view in searching)


def test_somebody_may_ask_to_stop(masks: Any, coin: Any, tmp_path: Path) -> None:
    tester = coin([[17]], 0.3)
    result = find_culprit(
        masks(60),
        tester,
        folder=tmp_path,
        should_stop=lambda: "the machine is wanted" if tester.trials >= 7 else None,
    )
    assert (result.kind, result.why) == (Kind.UNRESOLVED, "the machine is wanted")
    assert result.spent.trials == 7


def test_what_the_search_answered_is_its_last_record(masks: Any, coin: Any, tmp_path: Path) -> None:
    find_culprit(masks(60), coin([[17]], 0.3, 1), folder=tmp_path)
    last = records(tmp_path)[-1]
    assert (last["type"], last["kind"]) == ("answer", "single")
    assert [found["names"] for found in last["sets"]] == [["c17"]]
    (found,) = searches_below([tmp_path])
    assert found.word.startswith("culprit: c17 (P = ")


def test_trials_of_one_seed_count_once(masks: Any, coin: Any, tmp_path: Path) -> None:
    """Two machines with one --seed repeat each other's trials: that is no more evidence."""
    few, one, two = SearchOptions(max_trials=25), tmp_path / "one", tmp_path / "two"
    find_culprit(masks(60), coin([[17]], 0.3, 1), few, folder=one)
    find_culprit(masks(60), coin([[17]], 0.3, 1), few, folder=two)
    for file in two.glob("*.jsonl"):
        (one / f"search-other-{file.name}").write_bytes(file.read_bytes())
    idle = SearchOptions(resume=True, max_trials=1)
    assert find_culprit(masks(60), coin([], 0), idle, folder=one).spent.trials == 25


def test_the_seed_is_noted(masks: Any, coin: Any, tmp_path: Path) -> None:
    find_culprit(masks(60), coin([[17]], 0.3, 7), folder=tmp_path, title="by hand")
    info = records(tmp_path)[0]["info"]
    assert (info["seed"], info["title"]) == (7, "by hand")


class Files:
    """Images with files of their own."""

    def __init__(self, masks: Any, folder: Path) -> None:
        self._masks, self._folder = masks, folder
        self.candidates, self.shape, self.identity = masks.candidates, masks.shape, "files"

    def build(self, subset: Subset) -> Image | Skipped:
        image = self._masks.build(subset)
        path = self._folder / f"bzImage-{image.id}"
        path.write_text(image.id)
        return Image(image.id, kernel=path)


def test_what_was_built_is_still_known_after_a_resume(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    first = find_culprit(Files(masks(20), tmp_path), coin([[17]], 0.5), folder=tmp_path)
    again = find_culprit(Files(masks(20), tmp_path), coin([], 0), RESUME, folder=tmp_path)
    kernels = [each.image and each.image.kernel for each in again.sets[0].confirmations]
    assert kernels == [each.image and each.image.kernel for each in first.sets[0].confirmations]
    assert None not in kernels
    for kernel in tmp_path.glob("bzImage-*"):
        kernel.unlink()
    gone = find_culprit(Files(masks(20), tmp_path), coin([], 0), RESUME, folder=tmp_path)
    assert {each.image for each in gone.sets[0].confirmations} == {None}


def test_evidence_without_a_trial_stands_in_nobody_s_way(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    """A command that was missing is another one when it is there: nothing was tried before."""
    tester = coin([[17]], 0.3)
    tester.run = lambda *_, **__: (_ for _ in ()).throw(InfrastructureError("no command"))
    with pytest.raises(InfrastructureError):
        find_culprit(masks(60), tester, folder=tmp_path)
    there = coin([[17]], 0.3)
    there.identity = "it is there"
    assert find_culprit(masks(60), there, RESUME, folder=tmp_path).names == ("c17",)


def test_what_cannot_be_tested_at_all_is_remembered_and_says_so(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    for options in (SearchOptions(), RESUME):
        tester = coin([[17]], 0.3, untestable=lambda _: True)
        with pytest.raises(UsageError, match=r"--resume remembers this: .* run without --resume"):
            find_culprit(masks(60), tester, options, folder=tmp_path)


def test_where_all_bad_fails_it_is_said_whether_all_good_can_be_tested(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    find_culprit(masks(4), coin([[]], 0.5), folder=tmp_path)  # all good crashes, too: it was tried
    broken = masks(4, broken=lambda subset: len(subset) == 4)
    for file in tmp_path.glob("*.jsonl"):
        lines = file.read_text().splitlines(keepends=True)
        kept = [line for line in lines if '"image": "f"' not in line and '"answer"' not in line]
        file.write_text("".join(kept))
    with pytest.raises(UsageError, match="All good can be tested"):
        find_culprit(broken, coin([[]], 0.5), RESUME, folder=tmp_path)


def test_where_all_bad_cannot_be_tested_one_trial_of_all_good_tells_whose_fault_it_is(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    bad_only = coin([[17]], 0.3, untestable=lambda mask: mask != 0)
    with pytest.raises(UsageError, match=r"it does not boot\. .*All good can be tested\. "):
        find_culprit(masks(60), bad_only, folder=tmp_path / "bad")
    assert bad_only.trials == 1
    both = coin([[17]], 0.3, untestable=lambda _: True)
    with pytest.raises(UsageError, match="All good fails, too, in the same way"):
        find_culprit(masks(60), both, folder=tmp_path / "both")


def test_where_all_bad_does_not_build_nothing_else_is_built_to_say_so(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    broken = masks(60, broken=lambda subset: len(subset) == 60)
    with pytest.raises(UsageError, match="all bad cannot be built"):
        find_culprit(broken, coin([[17]], 0.3), folder=tmp_path)
    assert broken.built == [(1 << 60) - 1]


def test_no_budget_turns_an_all_bad_that_cannot_be_tested_into_an_answer(
    masks: Any, coin: Any, tmp_path: Path
) -> None:
    tester = coin([[17]], 0.3, untestable=lambda mask: mask != 0)
    with pytest.raises(UsageError, match="all bad cannot be built or tested"):
        find_culprit(masks(60), tester, SearchOptions(max_builds=1), folder=tmp_path)
