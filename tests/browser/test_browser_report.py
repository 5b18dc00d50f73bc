"""The report of a real campaign, as a colleague opens it: in a browser, with nobody to ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from pytest_flaky_repro.campaign.rules import Rules
from pytest_flaky_repro.evidence import EvidenceWriter, PlanRecord, Trial
from pytest_flaky_repro.outcomes import Outcome
from pytest_flaky_repro.question import question_parameters
from pytest_flaky_repro.report import page as pages
from pytest_flaky_repro.report.findings import findings_of
from pytest_flaky_repro.report.runs import runs_below
from pytest_flaky_repro.stats import Design, plan_for

if TYPE_CHECKING:
    from tests.browser.conftest import Opened, Reader

pytestmark = [
    # playwright's event loop is closed by its own garbage collection, after the tests
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

HOSTILE = (
    b"</div></details></section><script>document.title='pwned'</script>"
    b"<img src=http://127.0.0.1:9/x onerror=alert(1)><style>*{display:none}</style>"
    b"\x1b[2J\x1b[31mred\x1b]0;title\x07\0\0 \xe2\x80\xae gnp.exe \xe2\x81\xa6 "
    + b"\xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d " * 20
    + b"e" + b"\xcc\x81" * 200 + b" \xff\xfe\n"
)  # fmt: skip
PANIC = b"Kernel panic - not syncing: sysrq triggered crash\n"
IS_WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(params=["light", "dark", "phone"])
def opened(reader: Reader, campaign: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The real campaigns' report, in each look."""
    made = reader.open(campaign, request.param)
    yield made
    made.page.context.close()


def violations(opened: Opened) -> list[str]:
    """What axe finds against WCAG 2.1 A and AA, and its own best practices."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
    options: dict[str, Any] = {"runOnly": {"type": "tag", "values": tags}}
    found = Axe().run(opened.page, options=options).response["violations"]
    return [f"{each['id']}: {node['html'][:200]}" for each in found for node in each["nodes"]]


def test_it_opens_without_errors_and_without_asking_for_anything(opened: Opened) -> None:
    assert opened.said == []
    assert opened.asked == []


def test_the_verdicts_and_the_plots_are_there(opened: Opened) -> None:
    words = opened.page.locator("table.verdicts .verdict").all_inner_texts()
    assert words[0].startswith("CRASHES (")
    assert words[1].startswith("SAFE (0/")
    plots = opened.page.locator("figure svg")
    assert plots.count() == 6  # rates; path, time to crash, time line; path, time line
    for index in range(plots.count()):
        box = plots.nth(index).bounding_box()
        assert box is not None
        assert box["width"] > 250
        assert box["height"] > 70
        assert plots.nth(index).locator("path").count() > 10


def test_axe_has_nothing_against_it(opened: Opened) -> None:
    assert violations(opened) == []


def test_axe_has_nothing_against_it_with_all_details_open(opened: Opened) -> None:
    opened.page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert violations(opened) == []


def test_axe_would_see_too_little_contrast(opened: Opened) -> None:
    opened.page.add_style_tag(content="p { color: #888 !important; background: #999 !important }")
    assert any(found.startswith("color-contrast") for found in violations(opened))


def test_nothing_is_wider_than_the_screen(opened: Opened) -> None:
    opened.page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert not opened.page.evaluate(IS_WIDER)


def test_the_keyboard_reaches_and_opens_everything(opened: Opened) -> None:
    """Tab goes to the skip link first, then to each link, table and details; Enter opens them."""
    page = opened.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdicts"
    closed = page.locator("details:not([open])").count()
    assert closed > 5
    reached = 0
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", page.evaluate("document.activeElement.outerHTML.slice(0, 99)")
        if page.evaluate("document.activeElement.matches('details:not([open]) > summary')"):
            page.keyboard.press("Enter")
            reached += 1
    assert page.locator("details:not([open])").count() == 0
    assert reached == closed


IS_CUT = "all => all.map(each => each.scrollWidth - each.clientWidth)"


def test_tables_of_numbers_fit_into_their_plots(reader: Reader, campaign: Path) -> None:
    opened = reader.open(campaign, "light")
    opened.page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert max(opened.page.locator("figure .scroll").evaluate_all(IS_CUT)) <= 0
    opened.page.context.close()


def test_a_phone_shows_verdicts_whole(reader: Reader, campaign: Path) -> None:
    opened = reader.open(campaign, "phone")
    words = opened.page.locator("table.verdicts .verdict")
    for index in range(words.count()):
        box = words.nth(index).bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 390
    wrapped = "each => { const r = document.createRange(); r.selectNodeContents(each); "
    wrapped += "return r.getClientRects().length }"
    assert opened.page.locator("td.kernel").first.evaluate(wrapped) == 1  # not bzIma/ge
    opened.page.context.close()


def test_a_console_without_a_report_opens_at_its_end(opened: Opened) -> None:
    console = opened.page.locator(".console.end").first
    last = console.locator(".line").last
    outer, inner = console.bounding_box(), last.bounding_box()
    assert outer is not None
    assert inner is not None
    assert inner["y"] + inner["height"] <= outer["y"] + outer["height"]


def test_plots_follow_the_colour_scheme(reader: Reader, campaign: Path) -> None:
    inks = {}
    for look in ("light", "dark"):
        opened = reader.open(campaign, look)
        text = opened.page.locator("figure svg text").first
        inks[look] = text.evaluate("each => getComputedStyle(each).fill")
        opened.page.context.close()
    assert inks["light"] != inks["dark"]


def test_the_crash_is_highlighted_by_more_than_colour(opened: Opened) -> None:
    """A fault of the reproducer alone leaves no kernel report; its console is still shown."""
    assert opened.page.locator(".console").first.is_visible()
    assert opened.page.locator(".console .line").count() > 3


# ---- hostile text


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of evidence that a malicious guest has had its say in, 50 MB of it."""
    folder = tmp_path_factory.mktemp("hostile")
    plan = plan_for(Design(0.2, 0.02, 0.9, 0.9))
    asked = question_parameters(plan) | Rules().parameters() | {"trial_time": 10.0}
    name = "test_<script>document.title='pwned'</script>.py::test[\u202ek\x1b[31m]" + "w" * 500
    writer = EvidenceWriter(folder / "run", PlanRecord("e", asked, name, "<b>k</b>" * 30))
    for ticket in range(6):
        writer.launch(ticket, "5eed", "test")
        noise = HOSTILE * (50_000_000 // len(HOSTILE) if ticket == 0 else 3)
        console = writer.keep_console(ticket, noise + PANIC + HOSTILE)
        started, title = "2026-01-02T03:04:05+00:00", "<script>alert(1)</script>\u202e" + "t" * 5000
        writer.trial(
            Trial(
                *("e", ticket, "5eed", "<i>h</i>", "tcg", "b", started, 1.0, 0.5, Outcome.CRASHED),
                title=f"{ticket} {title}",
                console=console,
                detail="\x9b\0",
            )
        )
    writer.close()
    report = folder / "report.html"
    pages.write(report, pages.render(findings_of(runs_below([folder / "run"])), command="<x>"))
    return report


def test_the_file_stays_small(hostile: Path) -> None:
    assert hostile.stat().st_size < 5_000_000


@pytest.mark.parametrize("look", ["light", "phone"])
def test_hostile_text_neither_runs_nor_breaks_the_page(
    reader: Reader, hostile: Path, look: str
) -> None:
    opened = reader.open(hostile, look)
    page = opened.page
    page.locator("details").evaluate_all("all => all.forEach(each => each.open = true)")
    assert opened.said == []
    assert opened.asked == []
    assert "pwned" not in page.title()
    assert page.locator("script, img, iframe").count() == 0
    assert page.locator("body > footer").count() == 1  # the sections were closed by us alone
    assert not page.evaluate(IS_WIDER)
    assert violations(opened) == []
    assert page.locator(".line.hit").count() >= 1
    heights = page.locator(".line").evaluate_all("all => all.map(each => each.scrollHeight)")
    assert max(heights) < 2000  # no stack of marks reaches out of its line
    page.context.close()


def test_a_script_in_the_page_would_be_refused(reader: Reader, hostile: Path) -> None:
    """The second line of defence: were something not escaped, the policy still forbids it."""
    copy = hostile.with_name("copy.html")
    text = hostile.read_text("utf-8")
    evil = "<script>document.title='pwned'</script><img src='http://127.0.0.1:9/x'></main>"
    copy.write_text(text.replace("</main>", evil), "utf-8")
    opened = reader.open(copy, "light")
    assert "pwned" not in opened.page.title()
    assert sum("Content Security Policy" in said for said in opened.said) == 2
    opened.page.context.close()
