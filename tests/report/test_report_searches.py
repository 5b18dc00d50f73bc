"""Culprit searches in a report, from the evidence that a search leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.candidates import Candidate, Subset, Universe
from pytest_flaky_repro.culprit.ledger import Ledger, Question
from pytest_flaky_repro.culprit.result import Claim, Confirmation, CulpritSet, Kind
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport
from pytest_flaky_repro.report import page
from pytest_flaky_repro.report.culprit import probability
from pytest_flaky_repro.report.searches import Search, searches_below

INFO = {"title": "set passes.txt", "confidence": 0.99}
CANDIDATES = ["a.o", "b.o", "<script>.o", "d.o", "e.o", "f.o", "g.o", "h.o"]


def search(
    folder: Path,
    culprit: int,
    *,
    record: str = "",
    answer: Kind | None = None,
    heavy: str = "",
    boot_size: int = 1,
    describe: Callable[[Subset], str] | None = None,
) -> None:
    """Halving by hand: prefixes that hold the culprit crash half of the time."""
    each = [Candidate(name, 1000.0 if name == heavy else 1.0) for name in CANDIDATES]
    universe = Universe(each, describe)
    question = Question(universe.digest, "builder", "tester", None)
    info = {**INFO, "boot_size": boot_size}
    ledger = Ledger(folder, question, universe, resume=False, info=info)
    for length in (8, 4, 2, 3, 0):
        mask = (1 << length) - 1
        ledger.build(Subset(universe, mask), Image(f"image {length}", Path("bzImage")), 1.0)
        for trial in range(12):
            crashes = length > culprit and trial % 2 == 0
            outcome = TrialOutcome.CRASHED if crashes else TrialOutcome.SURVIVED
            report = TrialReport(outcome, 1.0, seed=f"{folder} {trial}", title="", record=record)
            ledger.trial(f"image {length}", report)
    ledger.skip(Subset(universe, 0b1010), "ld: undefined <symbol>", 0.5)
    if answer is not None:
        only, rest = universe.subset([CANDIDATES[culprit]]), Subset(universe, 0b11111011)
        confirmations = (
            Confirmation(Claim.SUFFICIENT, only, None, 1, 3, 0.00012, 0.05, 1.0),
            Confirmation(Claim.COMPLETE, rest, None, 40, 0, 0.004, 0.0, 0.1),
        )
        found = CulpritSet((universe[culprit],), 0.995, confirmations)
        ledger.answer(answer, [found] if answer is Kind.SINGLE else [], 0.995, "for a reason")
    ledger.close()


def test_the_first_candidate_that_matters_is_the_most_suspect(tmp_path: Path) -> None:
    search(tmp_path, culprit=2)
    (found,) = searches_below([tmp_path])
    assert found.word.startswith("Most suspect: <script>.o (9")
    assert [plot.title for plot in found.plots] == ["Tested prefixes", "Suspects"]


def test_a_search_that_ended_is_headed_by_its_answer(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, answer=Kind.SINGLE)
    (found,) = searches_below([tmp_path])
    assert found.word == "culprit: <script>.o (P = 99.5%)"


def test_a_search_that_was_gone_on_with_has_no_answer_yet(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, answer=Kind.UNRESOLVED)
    search(tmp_path, culprit=2)
    (found,) = searches_below([tmp_path])
    assert found.word.startswith("Most suspect")


def test_a_search_that_was_cut_short_says_why(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, answer=Kind.UNRESOLVED)
    (found,) = searches_below([tmp_path])
    assert found.word == "unresolved: for a reason"


def test_suspects_have_the_weight_that_the_search_gave_them(tmp_path: Path) -> None:
    """Prefixes of 2 and 4 leave two candidates; a heavy one is believed before its trials."""
    search(tmp_path / "even", culprit=2)
    search(tmp_path / "uneven", culprit=2, heavy="b.o")
    even, uneven = (searches_below([tmp_path / name])[0] for name in ("even", "uneven"))
    assert share_of("b.o", even) != share_of("b.o", uneven)


def share_of(name: str, found: Search) -> str:
    return next(row[1] for row in found.plots[1].table.rows if row[0] == name)


def test_a_backends_own_words_for_a_subset_are_kept(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, describe=lambda subset: f"{len(subset)} patched")
    (found,) = searches_below([tmp_path])
    assert [row[0] for row in found.rows][:2] == ["8 patched", "4 patched"]


def test_every_subset_has_a_row_and_a_build_failure_its_reason(tmp_path: Path) -> None:
    search(tmp_path, culprit=2)
    (found,) = searches_below([tmp_path])
    assert found.rows[0] == ("all bad", "6", "6", "")
    assert found.rows[-1] == ("all good", "0", "12", "")
    assert ("only b.o, d.o", "0", "0", "ld: undefined <symbol>") in found.rows


def test_runs_of_one_search_are_put_together(tmp_path: Path) -> None:
    search(tmp_path / "one", culprit=2)
    search(tmp_path / "two", culprit=2)
    (found,) = searches_below([tmp_path])
    assert found.rows[0] == ("all bad", "12", "12", "")


def test_its_trials_are_no_campaigns_of_their_own(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, record=f"{tmp_path}/trials-1.jsonl:7")
    (found,) = searches_below([tmp_path])
    assert found.campaigns == {tmp_path / "trials-1.jsonl"}


def test_subsets_of_one_image_say_that_they_share_trials(tmp_path: Path) -> None:
    """Else the rows would add up to more trials than were run."""
    universe = Universe([Candidate(name) for name in CANDIDATES])
    question = Question(universe.digest, "builder", "tester", None)
    ledger = Ledger(tmp_path, question, universe, resume=False, info={})
    for mask in (0b11, 0b1):
        ledger.build(Subset(universe, mask), Image("one image", Path("bzImage")), 1.0)
    ledger.trial("one image", TrialReport(TrialOutcome.SURVIVED, 1.0))
    ledger.close()
    (found,) = searches_below([tmp_path])
    shared = "the same build as only a.o, b.o: the same trials"
    assert [row[1:] for row in found.rows] == [("0", "1", ""), ("0", "1", shared)]


def test_what_the_answer_rests_on_is_told_with_both_errors(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, answer=Kind.SINGLE)
    (found,) = searches_below([tmp_path])
    assert (
        "only <script>.o: 3 of 4 trials crashed (rate 5.0% to 100% at 99% each); that this was "
        "noise: 0.012%"
    ) in found.lines
    assert (
        "all but <script>.o: 0 of 40 trials crashed; another culprit as frequent would have been "
        "missed with probability 0.4%"
    ) in found.lines


def test_trials_that_shared_boots_are_called_boots(tmp_path: Path) -> None:
    search(tmp_path, culprit=2, answer=Kind.SINGLE, boot_size=16)
    (found,) = searches_below([tmp_path])
    assert "60 boots, 18 of them crashed." in found.lines[0]
    assert any("all but <script>.o: 0 of 40 boots crashed" in line for line in found.lines)
    assert found.plots[0].description.startswith("Share of boots that crashed")


def test_a_search_is_headed_by_its_title(tmp_path: Path) -> None:
    search(tmp_path / "culprit-set-1a2b", culprit=2)
    (found,) = searches_below([tmp_path])
    assert found.title == "Culprit search: set passes.txt"


def test_a_page_of_searches_only_has_no_empty_verdicts(tmp_path: Path) -> None:
    search(tmp_path, culprit=2)
    text = page.render([], command="", searches=searches_below([tmp_path]))
    assert "<title>Flaky repro report: 1 culprit search</title>" in text
    assert "Verdicts" not in text
    assert 'href="#s0-h"' in text
    assert 'id="s0-h"' in text


def test_without_a_crash_nobody_is_suspect(tmp_path: Path) -> None:
    search(tmp_path, culprit=99)
    (found,) = searches_below([tmp_path])
    assert "No candidate stands out" in found.word
    assert [plot.title for plot in found.plots] == ["Tested prefixes"]


def test_names_of_candidates_are_text_in_the_page(tmp_path: Path) -> None:
    search(tmp_path, culprit=2)
    text = page.render([], command="", searches=searches_below([tmp_path]))
    assert "&lt;script&gt;.o" in text
    assert "<script" not in text


@pytest.mark.parametrize(
    ("value", "asked", "shown"),
    [
        (0.99, 0.99, "99%"),
        (0.99987, 0.99, "99.98%"),
        (0.9999999, 0.999, "99.99%"),
        (0.9999921, 0.99999, "99.999%"),
        (0.99999, 0.99999, "99.999%"),
        (1.0, 0.99, "100%"),
    ],
)
def test_a_probability_is_never_shown_below_what_was_asked_for(
    value: float, asked: float, shown: str
) -> None:
    assert probability(value, asked) == shown
