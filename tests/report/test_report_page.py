"""The page: whole by itself, small, and deaf to whatever a guest has printed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import UNFINISHED
from pytest_flaky_repro.report import page
from pytest_flaky_repro.report.consoles import Excerpt, excerpt, visible
from pytest_flaky_repro.stats import Design

if TYPE_CHECKING:
    from tests.report.conftest import Evidence

PANIC = b"Kernel panic - not syncing: sysrq triggered crash\n"
HOSTILE = (
    b"</div></details><script>alert(1)</script><img src=x onerror=alert(2)>\x1b[2J\x1b]0;t\x07\0"
    b"\xe2\x80\xaetxt.exe \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d e\xcc\x81\xcc\x81\xcc\x81 \xff\xfe\n"
)


class Reader(HTMLParser):
    """The tags of a page, and where it would fetch something or run something."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.reaches_out: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            inside = (value or "").startswith(("#", "data:,"))
            if name.startswith("on") or (name in {"src", "href", "action"} and not inside):
                self.reaches_out.append(f"{tag} {name}={value}")


def render(evidence: Evidence) -> str:
    return page.render(evidence.findings(), command="flaky-repro report x")


def test_the_page_needs_nothing_else(evidence: Evidence) -> None:
    evidence.add("sscss", console=PANIC)
    text = render(evidence)
    reader = Reader(text)
    assert reader.reaches_out == []
    assert not {"script", "iframe", "object", "embed", "form", "base"} & set(reader.tags)
    assert "default-src 'none'" in text
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_no_name_is_given_twice(evidence: Evidence) -> None:
    evidence.add("sscss", console=PANIC)
    evidence.add("s" * 11, kernel="other", item="test_it.py::test_it[other]")
    ids = Reader(render(evidence)).ids
    assert sorted(ids) == sorted(set(ids))


def test_each_plot_has_a_name_a_description_and_its_numbers(evidence: Evidence) -> None:
    evidence.add("sscss", console=PANIC)
    text = render(evidence)
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    titles = [re.findall(r"<title[^>]*>([^<]+)</title>", drawing) for drawing in drawings]
    assert [*titles] == [
        ["Crash rates"],
        ["The sequential test"],
        ["Time to crash"],
        ["Trials over time"],
    ]
    assert all(re.search(r"<desc[^>]*>[^<]{20,}</desc>", drawing) for drawing in drawings)
    assert all(f"{title[0]} in numbers" in text for title in titles)


def test_a_plot_s_note_is_told_once(evidence: Evidence) -> None:
    evidence.add("sscss", console=PANIC)
    assert render(evidence).count("Each bound holds at the campaign") == 1


def test_what_we_stopped_ourselves_is_no_trial_of_the_harness(evidence: Evidence) -> None:
    evidence.add("ssv", detail=UNFINISHED)
    evidence.add("ssv", kernel="other")
    cells = re.findall(r'<td class="num">([^<]*)</td>\n</tr>', render(evidence))
    assert cells[:2] == ["", "1"]


def test_plots_take_their_colours_from_the_page(evidence: Evidence) -> None:
    evidence.add("sscss", console=PANIC)
    (first, *_) = re.findall(r"<svg.*?</svg>", render(evidence), re.DOTALL)
    assert "var(--ink)" in first
    assert re.findall(r"#[0-9a-f]{6}\b", first) == []


def test_hostile_text_becomes_text(evidence: Evidence) -> None:
    evidence.add(
        "scc",
        item="test_<script>alert(3)</script>.py::test[\u202ek]",
        title="panic: </summary><script>alert(4)</script>\x1b[31m",
        console=HOSTILE + PANIC,
        host=lambda _: "<b>host</b>",
        detail="\x9b\u2028<i>",
    )
    text = render(evidence)
    reader = Reader(text)
    assert "script" not in reader.tags
    assert not {"img", "i"} & set(reader.tags)
    assert reader.reaches_out == []
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert r"\x1b[2J" in text
    assert not {"\x1b", "\0", "\x9b", "\u202e", "\u2028", "\u0301"} & set(text)


@given(st.text())
def test_visible_text_changes_nothing_beside_it(text: str) -> None:
    shown = visible(text)
    assert not re.search("[\u0300-\u036f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]", shown)
    assert all(c in "\t\n" or ord(c) >= 0x20 for c in shown)


def test_a_text_without_end_is_cut_and_says_so(evidence: Evidence) -> None:
    evidence.add("sc", title="x" * 1_000_000, console=PANIC)
    text = render(evidence)
    assert len(text) < 1_000_000
    assert "(1,000,000 characters)" in text


# ---- size


def test_ten_thousand_trials_make_a_small_page(evidence: Evidence) -> None:
    evidence.design = Design(0.001, 0.0, 0.95, 0.95)
    evidence.add("s" * 9_999 + "l")
    text = render(evidence)
    assert len(text) < 300_000
    assert "10000 trials counted in 60 stretches of time" in text


def test_a_thousand_crashes_make_a_small_page(evidence: Evidence) -> None:
    evidence.design = Design(0.9, 0.5, 0.9999, 0.9999)
    evidence.parameters = {"crash": None}
    evidence.add("c" * 500 + "s" * 500)
    assert len(render(evidence)) < 600_000


def test_a_page_that_would_be_too_large_says_what_it_leaves_out(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "SIZE_MOST", 150_000)
    for kernel in "abcdefgh":
        evidence.add("s" * 11, kernel=kernel)
    evidence.add("cc", kernel="bad")
    text = render(evidence)
    assert len(text) < 250_000
    assert re.search(r"To keep this file below 5 MB, [1-8] of these campaigns", text)
    assert text.count("<tr>") >= 9  # each is in the table
    assert "on kernel <b>bad</b>" in text  # what crashed comes first


def test_a_table_that_would_be_too_large_takes_the_room_of_sections(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "PAGE_MOST", 120_000)
    for kernel in "abcdef":
        evidence.add("s" * 11, kernel=kernel, item="<" * 3_000)
    text = render(evidence)
    assert len(text) < 120_000
    assert "have no section of their own" in text


def test_fifty_megabytes_of_console_become_an_excerpt(tmp_path: Path) -> None:
    path = tmp_path / "console"
    line = b"[   12.345678] <script>alert(1)</script> " + b"A" * 10_000 + b"\n"
    stamped = b"[   13.000000] " + PANIC
    path.write_bytes(line * (50_000_000 // len(line)) + stamped)
    shown = excerpt(path, "kernel panic: sysrq triggered crash")
    assert isinstance(shown, Excerpt)
    assert shown.found
    assert [line.text for line in shown.lines if line.marked] == [stamped.decode().strip()]
    assert sum(len(line.text) for line in shown.lines) < 50_000
    assert re.search(r"of (49|50),\d{3},\d{3} bytes", shown.cut)
    assert "lines are cut after 300 characters" in shown.cut


# ---- consoles


def test_the_crash_is_marked_and_what_led_to_it_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_bytes(b"".join(b"before %d\n" % i for i in range(40)) + PANIC)
    shown = excerpt(path, "kernel panic: sysrq triggered crash")
    assert isinstance(shown, Excerpt)
    texts = [(line.text, line.marked) for line in shown.lines]
    assert texts == [
        *((f"before {i}", False) for i in range(34, 40)),
        ("Kernel panic - not syncing: sysrq triggered crash", True),
    ]


def test_without_a_report_the_end_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "console"
    path.write_bytes(b"".join(b"line %d\n" % i for i in range(100)))
    shown = excerpt(path, "exit status 3")
    assert isinstance(shown, Excerpt)
    assert not shown.found
    assert shown.lines[-1].text == "line 99"
    assert len(shown.lines) <= 46


@given(st.binary(max_size=3000))
def test_any_bytes_are_some_lines(tmp_path_factory: pytest.TempPathFactory, console: bytes) -> None:
    path = tmp_path_factory.mktemp("consoles") / "console"
    path.write_bytes(console)
    shown = excerpt(path, "x")
    assert isinstance(shown, Excerpt)
    assert len(shown.lines) <= 47
    assert all("\n" not in line.text and len(line.text) <= 6 * 300 for line in shown.lines)


def test_a_console_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    assert excerpt(tmp_path / "gone", "x") == (
        "the console gone cannot be read here: No such file or directory"
    )


# ---- what is missing


def test_missing_libraries_are_named_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_spec", lambda _: None)
    mend = r"--repro-html needs jinja2 and matplotlib: pip install pytest-flaky-repro\[report\]"
    with pytest.raises(UsageError, match=mend):
        page.check_installed("--repro-html")


def test_a_place_that_cannot_be_written_to_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="expected a file, this is a folder"):
        page.check_place(tmp_path, "--repro-html")
    with pytest.raises(UsageError, match="cannot be written to"):
        page.check_place(tmp_path / "file" / "report.html", "--repro-html")
    page.check_place(tmp_path / "new" / "report.html", "--repro-html")
    with pytest.raises(UsageError, match=r"--repro-html /proc/new/report.html: /proc cannot be"):
        page.check_place(Path("/proc/new/report.html"), "--repro-html")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
