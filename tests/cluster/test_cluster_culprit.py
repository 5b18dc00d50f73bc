"""A culprit search whose trials run on the workers of a cluster, in real guests."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.conftest import DaskCluster

WORD = """
    #include <stdio.h>
    #include <string.h>
    #include <sys/mount.h>
    #include <sys/stat.h>
    int main(void) {
        char line[4096] = "";
        mkdir("/proc", 0555);
        mount("proc", "/proc", "proc", 0, 0);
        FILE *file = fopen("/proc/cmdline", "r");
        if (file && fgets(line, sizeof line, file) && strstr(line, "bad_word"))
            *(volatile int *)0 = 1;
        return 0;
    }
"""


def test_a_culprit_is_found_by_trials_on_the_workers(
    pair: DaskCluster, smp_kernel: Path, tmp_path: Path
) -> None:
    (tmp_path / "word.c").write_text(WORD)
    (tmp_path / "words.txt").write_text("one\ntwo\nbad_word\nfour\n")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_flaky_repro", "culprit", "set", "--json"),
            *("--candidates", "words.txt", "--vary", "append", "--kernel", smp_kernel),
            *("--reproducer", "word.c", "--dask", pair.address),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert [each["names"] for each in found["culprits"]] == [["bad_word"]]
