"""The report of a pytest run: one file, whoever ran the tests."""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

HTML = "--repro-html=out/report.html"


def page(project: Project) -> str:
    return (project.path / "out" / "report.html").read_text("utf-8")


def verdicts(text: str) -> list[str]:
    """The words of the table."""
    table = text.partition("<tbody>")[2].partition("</tbody>")[0]
    found = re.findall(r'class="verdict [a-z]+">([^<]+)<', table)
    return [html.unescape(word) for word in found]


def test_the_report_says_what_the_terminal_says(project: Project) -> None:
    project.machine("crash=1.0 if 'bad' in experiment.kernel.path.name else 0.0")
    project.add_kernel("bad")
    result = project.spawn("--kernel=bad", HTML)
    text = page(project)
    assert sorted(verdicts(text)) == ["CRASHES (1/1)", "SAFE (0/4, rate <= 44% at 90%)"]
    for word in verdicts(text):
        assert word in result.stdout.str()
    result.stdout.fnmatch_lines(["flaky-repro: report: out/report.html"])


def test_under_xdist_the_controller_writes_one_report(project: Project) -> None:
    project.machine("crash=1.0 if 'bad' in experiment.kernel.path.name else 0.0")
    project.add_kernel("bad")
    project.spawn("-n2", "--kernel=bad", HTML)
    text = page(project)
    assert sorted(verdicts(text)) == ["CRASHES (1/1)", "SAFE (0/4, rate <= 44% at 90%)"]
    assert text.count("The sequential test</figcaption>") == 2
    assert [file.name for file in (project.path / "out").iterdir()] == ["report.html"]


def test_the_report_names_the_command(project: Project) -> None:
    project.spawn("--repro-smp=2", HTML)
    again = "pytest &#39;test_it.py::test_it[bzImage]&#39; --kernel=bzImage"
    assert again in page(project)
    assert "--repro-smp=2" in page(project)


@pytest.mark.parametrize(
    ("behaviour", "words", "word"),
    [
        ("", ("--repro-max-trials=3",), "INCONCLUSIVE (0/3)"),
        ("void=1.0", (), "INFRASTRUCTURE"),
    ],
)
def test_verdicts_that_are_none_are_in_it(
    project: Project, behaviour: str, words: tuple[str, ...], word: str
) -> None:
    project.machine(behaviour)
    project.spawn(HTML, *words)
    assert verdicts(page(project)) == [word]
    if word.startswith("INCONCLUSIVE"):
        assert "the budget of 3 trials is spent" in page(project)


def test_a_campaign_that_never_began_is_in_it_too(project: Project) -> None:
    project.test("def test_it(repro, kernel): repro.check('gone.c')")
    project.spawn(HTML)
    assert "No campaign of this run came to a verdict" in page(project)


def test_what_was_interrupted_is_in_it_as_far_as_it_came(project: Project) -> None:
    project.run("--repro-max-trials=2")  # of another run: not this one's
    project.test(
        """
        def test_it(repro, kernel):
            repro._session.should_stop = stop
            repro.check("ok.c")

        def stop(seen=[]):
            seen.append(1)
            if len(seen) == 3:
                raise KeyboardInterrupt
        """
    )
    project.spawn("--repro-min-rate=0.01", HTML)
    text = page(project)
    assert len(verdicts(text)) == 1
    assert verdicts(text)[0].startswith("INCONCLUSIVE (0/")
    assert "The run was interrupted: this is what its trials came to until then." in text


def test_resumed_trials_are_part_of_the_campaign(project: Project) -> None:
    project.run("--repro-max-trials=2")
    project.spawn("--repro-resume", HTML)
    assert verdicts(page(project)) == ["SAFE (0/4, rate <= 44% at 90%)"]


def test_a_comparison_has_its_words_and_both_kernels(project: Project) -> None:
    project.add_kernel("other")
    project.test(
        "def test_it(repro, kernels):\n"
        "    repro.compare('ok.c', kernels['bzImage'], kernels['other'])\n"
    )
    project.spawn("--kernel=other", "--repro-max-trials=3", HTML)
    text = page(project)
    assert verdicts(text) == ["NO DIFFERENCE SHOWN (0 and 0 of 3 each)"]
    assert "Not shown is not equal" in text


def test_a_place_that_cannot_be_is_said_before_the_first_trial(project: Project) -> None:
    (project.path / "out").write_text("a file")
    result = project.spawn(HTML)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["ERROR: --repro-html */out/report.html: *cannot be written to: Not a directory"]
    )
    assert project.records("plan") == []


def test_a_missing_library_is_said_before_the_first_trial(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_flaky_repro.report import page as pages

    monkeypatch.setattr(pages, "find_spec", lambda _: None)
    result = project.run(HTML)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *pip install pytest-flaky-repro[[]report[]]"])


def test_a_report_that_fails_to_be_written_fails_the_run(project: Project) -> None:
    project.test(
        """
        import pathlib

        def test_it(repro, kernel):
            repro.check("ok.c")
            pathlib.Path("out").write_text("in the way")
        """
    )
    result = project.spawn(HTML)
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    result.stdout.fnmatch_lines(["flaky-repro: the report could not be written: *"])


# ---- pytest-html


def rows(path: Path) -> list[dict[str, object]]:
    """The extras of every row of a pytest-html page."""
    found = re.search(r'data-jsonblob="([^"]*)"', path.read_text("utf-8"))
    assert found is not None
    tests = json.loads(html.unescape(found[1]))["tests"]
    return [extra for results in tests.values() for row in results for extra in row["extras"]]


@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["here", "xdist"])
def test_the_plots_are_in_the_rows_of_pytest_html(
    project: Project, workers: tuple[str, ...]
) -> None:
    project.machine("crash=1.0")
    project.spawn("--html=rows.html", "--self-contained-html", *workers)
    extras = rows(project.path / "rows.html")
    assert [str(extra["name"]).partition(":")[0] for extra in extras] == [
        *("The sequential test", "Time to crash", "Trials over time")
    ]
    for extra in extras:
        kind, _, content = str(extra["content"]).partition(";base64,")
        assert kind == "data:image/svg+xml"
        drawing = base64.b64decode(content).decode()
        assert drawing.startswith("<svg ")
        assert "var(--" not in drawing
