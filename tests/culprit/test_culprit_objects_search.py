"""From two builds to the confirmed object, trials included, on the toy tree."""

from __future__ import annotations

import hashlib
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from pytest_flaky_repro.crash import Signature
from pytest_flaky_repro.culprit.building import Image
from pytest_flaky_repro.culprit.objects.builder import ObjectsBuilder
from pytest_flaky_repro.culprit.result import Kind
from pytest_flaky_repro.culprit.search import SearchOptions, find_culprit
from pytest_flaky_repro.culprit.testing import TrialOutcome, TrialReport, Untestable


class Toy(Protocol):
    """The fixture's class: test modules cannot import it."""

    def write(self, **more: str) -> None: ...
    def builder(self) -> ObjectsBuilder: ...
    def says(self, image: Path) -> dict[str, str]: ...


class Coin:
    """Runs the image; when it says so, three trials in ten crash."""

    identity = hashlib.sha256(b"coin").hexdigest()

    def __init__(self, is_bad: Callable[[dict[str, str]], bool]) -> None:
        self._is_bad = is_bad

    def run(
        self,
        image: Image,
        survivals: int,
        target: Signature | None,
        on_trial: Callable[[TrialReport], None],
        already: int = 0,
    ) -> Untestable | None:
        del target
        assert image.kernel is not None
        image.kernel.chmod(0o755)
        done = subprocess.run([image.kernel], capture_output=True, text=True, check=True)
        bad = self._is_bad(dict(word.split("=") for word in done.stdout.split()))
        for number in range(survivals):
            crashes = bad and random.Random(f"{image.id}{already + number}").random() < 0.3
            outcome = TrialOutcome.CRASHED if crashes else TrialOutcome.SURVIVED
            on_trial(TrialReport(outcome, 0.001, title="boom" if crashes else ""))
            if crashes:
                break
        return None


@pytest.fixture
def larger(toy: Toy) -> Toy:
    code = "#ifdef BAD\nint f{0}(void) {{ return 1; }}\n#endif\n"
    toy.write(**{f"fs_f{number}": code.format(number) for number in range(6)})
    return toy


def test_the_object_is_found_and_confirmed(larger: Toy, tmp_path: Path) -> None:
    tester = Coin(lambda said: said["b"] == "4")
    result = find_culprit(larger.builder(), tester, SearchOptions(), folder=tmp_path / "evidence")
    assert result.kind is Kind.SINGLE
    assert result.names == ("core/b.o",)


def test_a_search_goes_on_with_the_kernels_and_trials_there_are(
    larger: Toy, tmp_path: Path
) -> None:
    tester = Coin(lambda said: said["b"] == "4")
    folder = tmp_path / "evidence"
    first = find_culprit(larger.builder(), tester, SearchOptions(max_trials=9), folder=folder)
    assert first.kind is Kind.UNRESOLVED
    again = find_culprit(larger.builder(), tester, SearchOptions(resume=True), folder=folder)
    assert again.names == ("core/b.o",)
    assert again.spent.trials > first.spent.trials
    told = find_culprit(larger.builder(), tester, SearchOptions(resume=True), folder=folder)
    images = [each.image for each in told.sets[0].confirmations]
    assert all(image is not None and image.kernel is not None for image in images)
    assert told.spent == again.spent


def test_a_good_kernel_that_crashes_too_is_no_object_s_fault(larger: Toy, tmp_path: Path) -> None:
    tester = Coin(bool)
    result = find_culprit(larger.builder(), tester, SearchOptions(), folder=tmp_path / "evidence")
    assert result.kind is Kind.NOT_HERE
