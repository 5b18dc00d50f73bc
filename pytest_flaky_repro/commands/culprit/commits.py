"""``flaky-repro culprit commits``: the commit that brought a crash which comes and goes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pytest_flaky_repro.commands.culprit.backend import Backend, Section, say
from pytest_flaky_repro.commands.culprit.folders import build_folder
from pytest_flaky_repro.commands.culprit.running import HELP, command_tester
from pytest_flaky_repro.commands.culprit.shared import check_guests
from pytest_flaky_repro.culprit.command_files import scripts_of
from pytest_flaky_repro.culprit.commits.builder import CommitBuilder, merged_chains
from pytest_flaky_repro.culprit.commits.builds import CommitBuilds, Recipe
from pytest_flaky_repro.culprit.commits.history import Chain, Commit, Repository
from pytest_flaky_repro.culprit.commits.worktree import WorkTree
from pytest_flaky_repro.culprit.holding import held
from pytest_flaky_repro.culprit.processes import ProcessTester
from pytest_flaky_repro.culprit.result import Kind, Result
from pytest_flaky_repro.culprit.testing import unit_of
from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.evidence import folder_name
from pytest_flaky_repro.report.sentences import printable

_STAT_LINES = 12


def add(parser: argparse.ArgumentParser) -> None:
    argument = parser.add_argument
    argument("good", metavar="GOOD", help="a commit that does not crash, in BAD's history")
    argument("bad", metavar="BAD", help="a commit that crashes")
    argument("--repository", type=Path, default=Path(), metavar="DIR", help="default: here")
    argument(
        "--build-command", required=True, metavar="CMD",
        help="builds a commit, in its tree; what it built is reused, by any later search",
    )  # fmt: skip
    argument("--kernel", metavar="PATH", help="the kernel it builds, in the tree: trials boot it")
    argument(
        "--run-command", metavar="CMD",
        help=f"instead of guests: {HELP}, 125 could not be run; no limit of time without "
        "--trial-time; side by side with others (--jobs 1: alone)",
    )  # fmt: skip
    argument(
        "--keep", action="append", default=[], metavar="PATH",
        help="what of a build --run-command needs (default: the whole tree); repeatable",
    )  # fmt: skip
    argument("--clean", action="store_true", help="start each build from a clean tree")
    argument("--build-folder", type=Path, metavar="DIR", help="where builds are kept")


def backend(options: argparse.Namespace, stack: ExitStack) -> Backend:
    """The search of the first-parent chain; merges are looked into afterwards."""
    recipe, tester = _recipe(options), _tester(options)
    repository = Repository(options.repository)
    chain = repository.range(options.good, options.bad)
    if repository.is_dirty():
        say("the work tree has changes that are not committed: they play no part in this")
    folder = (options.build_folder or _default_folder(options, repository)).resolve()
    stack.enter_context(held(folder, "--build-folder"))
    tree = WorkTree(repository, folder / "tree")
    stack.push(_removal(tree))
    builds = CommitBuilds(tree, recipe, folder / "builds")
    if not options.resume:
        builds.forget_failures()
    search = _Search(
        repository,
        builds,
        (recipe.digest,),
        options.kernel,
        tester,
    )
    return search.backend(chain, "commits", iter(()))


def _recipe(options: argparse.Namespace) -> Recipe:
    if (options.kernel is None) == (options.run_command is None):
        raise UsageError(
            "expected either --kernel PATH (what the build command builds, to be booted with "
            "--reproducer) or --run-command CMD (a trial on this machine)"
        )
    keep = tuple([options.kernel] if options.kernel else options.keep)
    files = scripts_of(options.build_command, None)
    return Recipe(options.build_command, keep, options.clean, files)


def _default_folder(options: argparse.Namespace, repository: Repository) -> Path:
    name = folder_name(f"commits of {repository.folder}")
    return build_folder(options.evidence, name)


def _tester(options: argparse.Namespace) -> ProcessTester | None:
    if options.run_command is None:
        check_guests(options)
        return None
    return command_tester(options, options.run_command, None)


_Exit = Callable[
    [type[BaseException] | None, BaseException | None, TracebackType | None], bool | None
]


def _removal(tree: WorkTree) -> _Exit:
    """Takes the work tree away at the end, unless there is something to go on with."""

    def remove(
        kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is None:
            tree.remove()

    return remove


@dataclass(frozen=True)
class _Search:
    """What the searches of all chains of one range have in common."""

    repository: Repository
    builds: CommitBuilds
    facts: Sequence[str]
    kernel: str | None
    tester: ProcessTester | None

    def backend(self, chain: Chain, what: str, next_chains: Iterator[Chain]) -> Backend:
        """One chain; ``next_chains`` are tried when its culprit is the merge that it ends with."""
        last = chain.commits[-1]
        say(f"{what}: {_number(len(chain.commits))} from {chain.base[:12]} to {last.name}")

        is_side = what != "commits"

        def deeper(result: Result) -> Backend | None:
            commit = _culprit(chain, result)
            if commit is None or not commit.is_merge:
                return None
            is_end = is_side and commit == last
            chains = next_chains if is_end else merged_chains(self.repository, commit)
            side = next(chains, None)
            if side is None:
                return None
            return self.backend(side, f"what {commit.name} merged", chains)

        def afterwards(result: Result) -> list[Section]:
            commit = _culprit(chain, result)
            if commit is None:
                return []
            note = _merge_words(commit, is_side and commit == last)
            return [self._about(commit, note), _evidence(builder, result)]

        builder = CommitBuilder(chain, self.builds, self.facts, self.kernel)
        title = f"{what} {chain.base[:12]}..{last.name}"
        return Backend(builder, title, self.tester, afterwards=afterwards, deeper=deeper)

    def _about(self, commit: Commit, note: str) -> Section:
        words = ("--no-patch", "--format=%H%n%an <%ae>%n%as%n%B")
        sha, author, date, *message = self.repository.git("show", *words, commit.sha).splitlines()
        stat = self.repository.git("show", "--stat=88", "--format=", "-m", "--first-parent", sha)
        files = [line.rstrip() for line in stat.splitlines() if line.strip()]
        lines = [
            f"commit {sha}",
            f"{author}, {date}",
            *(f"    {line}" for line in message),
            *files[:_STAT_LINES],
        ]
        if len(files) > _STAT_LINES:
            lines.append(f" ... {files[-1].strip()}")
        if note:
            lines.append(note)
        data = {"commit": sha, "author": author, "date": date, "subject": commit.subject}
        return Section(
            "the commit", [printable(line) for line in lines], {**data, "parents": commit.parents}
        )


def _evidence(builder: CommitBuilder, result: Result) -> Section:
    """The commit and its parent: what trials said of each, and where its build is kept."""
    lines, data = [], []
    unit = unit_of(result.spent.boot_size)
    for confirmation in result.sets[0].confirmations:
        image = confirmation.image
        where = image and (str(image.kernel) if image.kernel is not None else image.artefact)
        trials = confirmation.crashed + confirmation.survived
        what = builder.describe(confirmation.subset)
        lines.append(f"{what}: {confirmation.crashed} of {trials} {unit} crashed; kept: {where}")
        data.append({"commit": what.split()[1].rstrip(","), "kept": where})
    return Section("the commit and its parent", lines, {"kept": data})


def _culprit(chain: Chain, result: Result) -> Commit | None:
    return chain.find(result.names[0]) if result.kind is Kind.SINGLE else None


def _merge_words(commit: Commit, is_end: bool) -> str:
    if not commit.is_merge:
        return ""
    if is_end:
        return "the merge itself: the branch it merged does not crash before it"
    return "a merge: the search goes on in what it merged"


def _number(commits: int) -> str:
    return f"{commits} commits" if commits != 1 else "1 commit"
