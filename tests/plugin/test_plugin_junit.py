"""The JUnit file that CI reads."""

from __future__ import annotations

import hashlib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

# What xunit2 (the Jenkins schema that pytest follows) allows a test case to hold.
CHILDREN = {"properties", "skipped", "error", "failure", "system-out", "system-err"}


def properties(suite: ET.Element) -> dict[str, str]:
    return {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}


def test_a_test_case_has_the_campaign_s_properties(project: Project) -> None:
    told = properties(project.junit())
    evidence = told.pop("repro.evidence")
    assert Path(evidence).is_file()
    assert 1 - 0.1 ** (1 / 4) < float(told.pop("repro.rate_upper")) < 0.5
    assert told == {
        "repro.verdict": "safe",
        "repro.trials": "4",
        "repro.unit": "trials",
        "repro.crashes": "0",
        "repro.infrastructure": "0",
        "repro.confidence": "0.9",
        "repro.rate_lower": "0",
        "repro.kernel_sha256": hashlib.sha256(project.kernel.read_bytes()).hexdigest(),
    }


def test_where_trials_share_boots_the_unit_is_named(project: Project) -> None:
    told = properties(project.junit("--repro-boot=batch", "--repro-batch=2"))
    assert (told["repro.unit"], told["repro.boots"]) == ("boots", "4")
    assert "repro.correlation" not in told  # no boot has crashed: there is nothing to tell
    assert told["repro.correlation_upper"] == "1"


@pytest.mark.parametrize(
    ("behaviour", "arguments", "child", "counted"),
    [
        ("", (), None, {}),
        ("crash=1.0", (), "failure", {"failures": "1"}),
        ("", ("--repro-max-trials=3",), "failure", {"failures": "1"}),
        ("", ("--repro-max-trials=3", "--repro-inconclusive=skip"), "skipped", {"skipped": "1"}),
        ("setup_fault='no console'", (), "error", {"errors": "1"}),
    ],
    ids=["safe", "crashes", "inconclusive", "skipped", "infrastructure"],
)
def test_each_verdict_has_its_element(
    project: Project,
    behaviour: str,
    arguments: tuple[str, ...],
    child: str | None,
    counted: dict[str, str],
) -> None:
    project.machine(behaviour)
    suite = project.junit(*arguments)
    cases = suite.findall("testcase")
    assert len(cases) == 1
    found = {element.tag for element in cases[0]} - {"properties"}
    assert found == ({child} if child else set())
    counts = {name: suite.attrib[name] for name in ("errors", "failures", "skipped")}
    assert counts == {"errors": "0", "failures": "0", "skipped": "0", **counted}
    assert suite.attrib["tests"] == "1"


@pytest.mark.parametrize("behaviour", ["", "crash=1.0", "setup_fault='x'"])
def test_the_file_has_the_shape_of_xunit2(project: Project, behaviour: str) -> None:
    project.machine(behaviour)
    suite = project.junit("-o", "junit_family=xunit2")
    assert set(suite.attrib) == {
        *("name", "errors", "failures", "skipped", "tests", "time", "timestamp", "hostname")
    }
    for case in suite.findall("testcase"):
        assert set(case.attrib) == {"classname", "name", "time"}
        assert {element.tag for element in case} <= CHILDREN
        assert [element.tag for element in case].count("properties") == 1
        for element in case.iter("property"):
            assert set(element.attrib) == {"name", "value"}


def test_infrastructure_says_its_cause_in_the_file(project: Project) -> None:
    project.machine("setup_fault='there is no serial console'")
    suite = project.junit()
    error = suite.find("testcase/error")
    assert error is not None
    assert "there is no serial console" in (error.text or "")
    assert properties(suite)["repro.verdict"] == "infrastructure"


def test_what_a_guest_printed_does_not_break_the_file(project: Project) -> None:
    project.machine(r"crash=1.0, console='Kernel panic - not syncing: ]]>\x01\x1b</testcase>'")
    assert properties(project.junit())["repro.verdict"] == "crashes"


def test_progress_does_not_count_as_a_test(project: Project) -> None:
    suite = project.junit("--repro-min-rate=0.1")
    assert suite.attrib["tests"] == "1"
    assert len(suite.findall("testcase")) == 1


def test_under_xdist_the_file_says_the_same(project: Project) -> None:
    project.add_kernel("other")
    project.spawn("--junitxml=out.xml", "-n1", "--kernel=other", "-o", "junit_family=xunit2")
    suite = ET.parse(project.path / "out.xml").getroot().find("testsuite")
    assert suite is not None
    names = {case.attrib["name"] for case in suite.findall("testcase")}
    assert names == {"test_it[bzImage]", "test_it[other]"}
    assert {p.attrib["value"] for p in suite.iter("property")} >= {"safe", "4"}
