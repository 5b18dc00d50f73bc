"""The JUnit file against the schema behind xunit2, and read by another tool.

``junit-10.xsd`` is the Jenkins xunit plugin's (jenkinsci/xunit-plugin, MIT), to which pytest's
``junit_family=xunit2`` refers. It knows properties of a suite only; those of a test case, which
Jenkins' JUnit plugin and GitLab read, are pytest's addition to it, and the only one allowed here.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from junitparser import Error, Failure, xunit2
from lxml import etree

if TYPE_CHECKING:
    from tests.plugin.conftest import Project

SCHEMA = Path(__file__).with_name("junit-10.xsd")
XS = "{http://www.w3.org/2001/XMLSchema}"
FAMILY = ("-o", "junit_family=xunit2", "--junitxml=out.xml")
CASES = """
    import pytest

    @pytest.mark.parametrize("i", range(2))
    def test_it(repro, kernel, i):
        repro.check("ok.c")
"""
VERDICTS = {
    "safe": ("", ()),
    "crashes": ("crash=1.0", ()),
    "inconclusive": ("", ("--repro-max-trials=3",)),
    "infrastructure": ("void=1.0", ()),
}


def schema(*, with_case_properties: bool) -> etree.XMLSchema:
    tree = etree.parse(SCHEMA)
    if with_case_properties:
        (choice,) = tree.iterfind(f"{XS}element[@name='testcase']//{XS}choice")
        choice.append(etree.Element(f"{XS}element", ref="properties"))
    return etree.XMLSchema(tree)


@pytest.fixture(params=VERDICTS)
def written(project: Project, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A verdict, and the JUnit file of a run that came to it twice."""
    behaviour, words = VERDICTS[request.param]
    project.machine(behaviour)
    project.test(CASES)
    project.run(*FAMILY, *words)
    return request.param, project.path / "out.xml"


def test_the_file_is_valid_with_its_properties(written: tuple[str, Path]) -> None:
    schema(with_case_properties=True).assertValid(etree.parse(written[1]))


def test_the_properties_of_cases_are_the_only_addition(written: tuple[str, Path]) -> None:
    tree = etree.parse(written[1])
    strict = schema(with_case_properties=False)
    assert not strict.validate(tree)
    assert {error.type_name for error in strict.error_log} == {"SCHEMAV_ELEMENT_CONTENT"}
    for case in tree.iter("testcase"):
        for properties in case.findall("properties"):
            case.remove(properties)
    strict.assertValid(tree)


def test_the_schema_knows_a_wrong_file(written: tuple[str, Path]) -> None:
    tree = etree.parse(written[1])
    next(tree.iter("testcase")).attrib["verdict"] = "safe"
    assert not schema(with_case_properties=True).validate(tree)


def test_another_parser_sees_the_same_verdicts(written: tuple[str, Path]) -> None:
    verdict, path = written
    elements = {
        "safe": [],
        "crashes": [Failure],
        "inconclusive": [Failure],
        "infrastructure": [Error],
    }
    (suite,) = xunit2.JUnitXml.fromfile(str(path))
    cases = list(suite)
    assert len(cases) == 2
    for case in cases:
        assert isinstance(case, xunit2.TestCase)
        told = {p.name: p.value for p in case.properties()}  # type: ignore[no-untyped-call]
        assert told["repro.verdict"] == verdict
        assert [type(result) for result in case.result] == elements[verdict]
    counted = Counter(verdict for _ in cases)
    assert suite.failures == counted["crashes"] + counted["inconclusive"]
    assert suite.errors == counted["infrastructure"]


def test_under_xdist_the_file_is_valid_too(project: Project) -> None:
    project.test(CASES)
    project.spawn(*FAMILY, "-n2")
    tree = etree.parse(project.path / "out.xml")
    schema(with_case_properties=True).assertValid(tree)
    assert len(list(tree.iter("testcase"))) == 2
