"""``flaky-repro report DIR...``: one HTML page that shows the evidence of any number of runs."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_flaky_repro.report import page
from pytest_flaky_repro.report.consoles import visible
from pytest_flaky_repro.report.findings import Finding, findings_of
from pytest_flaky_repro.report.runs import runs_below
from pytest_flaky_repro.report.searches import searches_below
from pytest_flaky_repro.report.sentences import counted


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="evidence of runs")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="PATH",
        help="the page (default: report.html)",
    )
    parser.add_argument("--json", action="store_true", help="print the verdicts, for machines")
    parser.epilog = "exit status: 0 the report was written, whatever it says; 2 bad input"


def run(options: argparse.Namespace) -> int:
    page.check_installed("flaky-repro report")
    page.check_place(options.output, "--output")
    searches = searches_below(options.folders)
    theirs = {file.resolve() for search in searches for file in search.campaigns}
    runs = runs_below(options.folders, but=theirs, may_be_none=bool(searches))
    findings = findings_of(runs)
    words = ["flaky-repro", "report", *map(str, options.folders)]
    text = page.render(findings, command=shlex.join(words), searches=searches)
    page.write(options.output, text)
    if options.json:
        said: dict[str, Any] = {"output": str(options.output), "verdicts": _records(findings)}
        said["searches"] = [{"title": s.title, "word": s.word} for s in searches]
        print(json.dumps(said, indent=1))
        return 0
    for finding in findings:
        print(f"{finding.told.word}  {visible(finding.verdict.subject.item)}{finding.mode}")
    for search in searches:
        print(f"{visible(search.title)}: {visible(search.word)}")
    print(f"{_counted(len(findings), len(searches))}: {options.output}")
    return 0


def _counted(campaigns: int, searches: int) -> str:
    parts = [counted(campaigns, "campaigns")] if campaigns or not searches else []
    if searches:
        parts.append(f"{searches} culprit {'search' if searches == 1 else 'searches'}")
    return ", ".join(parts)


def _records(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    return [
        {
            "item": finding.verdict.subject.item,
            "kernel": finding.verdict.subject.kernel,
            "verdict": finding.told.conclusion,
            "word": finding.told.word,
            "why": finding.told.why,
            "unit": finding.unit,
            "trials": finding.verdict.intact,
            "crashes": finding.verdict.crashes,
            "lost": finding.verdict.lost,
            "void": finding.verdict.void,
            "rate_lower": finding.verdict.rate_lower,
            "rate_upper": finding.verdict.rate_upper,
            "runs": len(finding.runs),
            "plan_hash": finding.plan_hash,
        }
        for finding in findings
    ]
