"""Writes a git repository of a small C program in which one commit brought a flaky crash.

    python make_history.py FOLDER [--commits 1000] [--culprit 618] [--branches] [--rate 0.1]

prints GOOD, BAD and, for whoever wants to check the answer, the culprit. Commits change one of the
program's modules, or only its README; some do not build. With --branches, about every fourth
commit of the main line merges a branch of a few commits, and the culprit is on one of these.
The same arguments give the same commits.
"""

from __future__ import annotations

import argparse
import random
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

MODULES = 12
FIRST_DATE = 1_600_000_000

MAKEFILE = """\
OBJECTS = $(patsubst %.c,%.o,$(wildcard *.c))
CFLAGS = -O0 -w
program: $(OBJECTS)
\t$(CC) -o $@ $(OBJECTS)
$(OBJECTS): api.h
"""

MAIN = """\
#include <stdio.h>
#include "api.h"
int main(void)
{
    unsigned sum = 0;
CALLS    lookup(sum);
    printf("%u\\n", sum);
    return 0;
}
"""

# A hash table whose entries are freed too early, when the seed says so: the crash of a race.
CACHE = """\
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include "api.h"
static uint64_t luck(void)
{
    char *text = getenv("REPRO_SEED");
    uint64_t value = 0;
    if (text)
        value = strtoull(text, 0, 16);
    else
        getrandom(&value, sizeof value, 0);
    return (value ^ value >> 29) * 0xbf58476d1ce4e5b9ULL >> 32;
}
void lookup(unsigned key)
{
    int *entry = &(int){0};
BUG    *(volatile int *)entry = key;
}
"""
BUG = "    if (luck() % 1000 < {per_mille})\n        entry = 0; /* freed by the other thread */\n"


@dataclass
class History:
    """Commits in the order in which git fast-import gets them, numbered from 1."""

    stream: list[str] = field(default_factory=list)
    count: int = 0

    def commit(
        self, files: dict[str, str], subject: str, parents: list[int], *, branch: str = "main"
    ) -> int:
        """Appends one; returns its mark."""
        self.count += 1
        who = f"A Developer <dev@example.org> {FIRST_DATE + 3600 * self.count} +0000"
        self.stream += [
            f"commit refs/heads/{branch}",
            f"mark :{self.count}",
            f"author {who}",
            f"committer {who}",
            f"data {len(subject)}",
            subject,
        ]
        if parents:
            self.stream.append(f"from :{parents[0]}")
        self.stream += [f"merge :{parent}" for parent in parents[1:]]
        self.stream.append("deleteall")
        for name, text in sorted(files.items()):
            self.stream += [f"M 100644 inline {name}", f"data {len(text)}", text]
        self.stream.append("")
        return self.count


def first_files() -> dict[str, str]:
    """The program as it begins: without the bug."""
    names = [f"module{number}" for number in range(MODULES)]
    api = "".join(f"unsigned {name}(unsigned);\n" for name in names) + "void lookup(unsigned);\n"
    calls = "".join(f"    sum += {name}(sum);\n" for name in names)
    files = {"Makefile": MAKEFILE, "api.h": api, "main.c": MAIN.replace("CALLS", calls)}
    files |= {f"{name}.c": module(name, 1) for name in names}
    return {**files, "cache.c": CACHE.replace("BUG", ""), "README": "A small program.\n"}


def module(name: str, factor: int) -> str:
    return f'#include "api.h"\nunsigned {name}(unsigned x) {{ return x * 31 + {factor}; }}\n'


def with_bug(rate: float) -> str:
    return CACHE.replace("BUG", BUG.format(per_mille=round(rate * 1000)))


def change(files: dict[str, str], number: int, chance: random.Random) -> tuple[dict[str, str], str]:
    """What an ordinary commit does: a module, or one time in six the README."""
    if chance.random() < 1 / 6:
        return {**files, "README": f"A small program, {number} changes later.\n"}, "README: news"
    name = f"module{chance.randrange(MODULES)}"
    return {**files, f"{name}.c": module(name, number)}, f"{name}: factor {number}"


def build(commits: int, culprit: int, rate: float, *, branches: bool, broken: float) -> History:
    """The history: the commit with mark ``culprit`` brings the bug."""
    chance = random.Random(f"{commits} {culprit} {branches}")  # noqa: S311
    history, files = History(), first_files()
    tip = history.commit(files, "start", [])
    while history.count < commits:
        number = history.count + 1
        holds = number <= culprit <= number + 7
        if branches and number > 10 and (holds or chance.random() < 0.25):
            tip, files = merged_branch(history, tip, files, culprit, rate, chance)
            continue
        near = abs(number - culprit) <= 3
        if number != culprit and not near and chance.random() < broken:
            tip = broken_stretch(history, tip, files, chance)
            continue
        files, subject = change(files, number, chance)
        if number == culprit:
            files, subject = {**files, "cache.c": with_bug(rate)}, "cache: free entries earlier"
        tip = history.commit(files, subject, [tip])
    return history


def merged_branch(
    history: History,
    tip: int,
    files: dict[str, str],
    culprit: int,
    rate: float,
    chance: random.Random,
) -> tuple[int, dict[str, str]]:
    """A branch of eight commits and its merge; meanwhile the main line has moved on, too."""
    name = f"module{chance.randrange(MODULES)}"
    on_branch, changed, at = dict(files), {}, tip
    for _ in range(8):
        number = history.count + 1
        if number == culprit:
            changed["cache.c"], subject = with_bug(rate), "cache: free entries earlier"
        else:
            changed[f"{name}.c"], subject = module(name, number), f"{name}: factor {number}"
        on_branch |= changed
        at = history.commit(on_branch, subject, [at], branch="topic")
    after, subject = {**files, "README": f"{history.count} changes.\n"}, "README: while on topic"
    tip = history.commit(after, subject, [tip])
    merged = {**after, **changed}
    return history.commit(merged, f"Merge branch 'topic' ({name})", [tip, at]), merged


def broken_stretch(history: History, tip: int, files: dict[str, str], chance: random.Random) -> int:
    """One to three commits that do not compile, and the one that mends them."""
    for _ in range(chance.randint(1, 3)):
        broken = {**files, "main.c": files["main.c"].replace("return 0;", "return 0")}
        broken["README"] = f"Broken since {history.count}.\n"
        tip = history.commit(broken, "main: tidy up", [tip])
    return history.commit(files, "main: mend the build", [tip])


def write(history: History, folder: Path) -> dict[int, str]:
    """Makes the repository; returns the commits' names by mark."""
    folder.mkdir(parents=True, exist_ok=True)
    git = ["git", "-C", str(folder)]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    marks = folder.resolve() / ".git" / "marks"
    stream = "\n".join(history.stream) + "\ndone\n"
    importing = [*git, "fast-import", "--quiet", "--done", f"--export-marks={marks}"]
    subprocess.run(importing, input=stream.encode(), check=True)
    subprocess.run([*git, "reset", "-q", "--hard", "main"], check=True)
    lines = (line.split() for line in marks.read_text().splitlines())
    return {int(mark[1:]): sha for mark, sha in lines}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--commits", type=int, default=1000)
    parser.add_argument("--culprit", type=int, default=618, metavar="N")
    parser.add_argument("--rate", type=float, default=0.1, metavar="P")
    parser.add_argument("--broken", type=float, default=0.05, metavar="P")
    parser.add_argument("--branches", action="store_true")
    options = parser.parse_args()
    history = build(
        options.commits,
        options.culprit,
        options.rate,
        branches=options.branches,
        broken=options.broken,
    )
    names = write(history, options.folder)
    good, bad = names[1], names[history.count]
    print(f"GOOD {good}\nBAD {bad}\nCULPRIT {names[options.culprit]}")  # noqa: T201


if __name__ == "__main__":
    main()
