"""The list format: the same archive as the kernel's own tool, and errors that name the line."""

from __future__ import annotations

import os
import runpy
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_flaky_repro.guest.cpio import Directory, File, Node, NodeKind, Symlink, write_archive
from pytest_flaky_repro.guest.listing import ListingError, parse_listing, read_listing

KERNELS = Path(__file__).parents[1] / "kernels" / "build.py"
STAMP = 1_700_000_000

EVERYTHING = b"""\
# a list with all there is
dir /dev 0755 0 0
nod /dev/console 0600 0 0 c 5 1
nod /dev/ram0 660 0 6 b 1 0

dir\t/root   0700 1000 1000
slink /bin/sh busybox 0777 0 0   # gen_init_cpio ignores what follows
pipe /run.fifo 0644 0 0
sock /run.sock 0644 3 4
   \t
file /init ${DIR}/init 0755 0 0
file /bin/a ${DIR}/${NAME} 0100755 0 0 /bin/b /bin/c bin/dd
file relative tests/../empty 644 0 0\r
file /twice ${NESTED} 0644 0 0"""


@pytest.fixture(scope="session")
def gen_init_cpio() -> Path:
    tool = runpy.run_path(str(KERNELS))["gen_init_cpio"]()
    assert isinstance(tool, Path)
    return tool


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, str]:
    """Files that lists name, and the variables they name them with."""
    for name, content in {"init": b"#!/bin/sh\n", "tool": bytes(range(256)), "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (1, 1_234_567_890))
    (tmp_path / "tests").mkdir()
    folder = str(tmp_path)
    return {"DIR": folder, "NAME": "tool", "NESTED": "${DIR}/${NAME}"}


def by_kernel(tool: Path, text: bytes, environment: dict[str, str]) -> bytes:
    folder = Path(environment["DIR"])
    (folder / "list").write_bytes(text)
    done = subprocess.run(
        [tool, "-t", str(STAMP), "list"],
        cwd=folder,
        env=environment,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    return done.stdout


def ours(text: bytes, environment: dict[str, str]) -> bytes:
    folder = Path(environment["DIR"])
    return write_archive(parse_listing(text, "list", environment, directory=folder, mtime=STAMP))


def test_every_kind_of_line_gives_the_bytes_of_the_kernels_tool(
    gen_init_cpio: Path, sources: dict[str, str]
) -> None:
    assert ours(EVERYTHING, sources) == by_kernel(gen_init_cpio, EVERYTHING, sources)


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
names = words.map(lambda word: "/" + word).filter(lambda name: name not in ("//", "/TRAILER!!!"))
owners = st.tuples(
    st.integers(0, 0o7777).map(lambda mode: f"{mode:o}"),
    st.integers(0, 2**31 - 1).map(str),
    st.integers(0, 2**31 - 1).map(str),
).map(" ".join)
plain = st.sampled_from(["init", "tool", "empty", "${DIR}/tool", "${NAME}"])
numbers = st.integers(0, 2**32 - 1).map(str)
lines = st.one_of(
    st.tuples(st.sampled_from(["dir", "pipe", "sock"]), names, owners),
    st.tuples(st.just("nod"), names, owners, st.sampled_from("bc"), numbers, numbers),
    st.tuples(st.just("slink"), names, words, owners),
    st.tuples(st.just("file"), names, plain, owners, st.lists(names).map(" ".join)),
    st.tuples(st.just("#"), words),
).map(" ".join)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(listed=st.lists(lines, max_size=8))
def test_any_list_gives_the_bytes_of_the_kernels_tool(
    gen_init_cpio: Path, sources: dict[str, str], listed: list[str]
) -> None:
    text = "".join(line + "\n" for line in listed).encode()
    assert ours(text, sources) == by_kernel(gen_init_cpio, text, sources)


def test_a_list_file_becomes_records(tmp_path: Path) -> None:
    (tmp_path / "init").write_bytes(b"text")
    os.utime(tmp_path / "init", (7, 7))
    (tmp_path / "list").write_text(
        "dir /dev 755 0 0\nnod /dev/console 600 0 0 c 5 1\nslink /sh init 777 0 0\n"
        "file /init ${WHAT} 755 1 2 /linuxrc\n"
    )
    found = read_listing(tmp_path / "list", {"WHAT": "init"}, directory=tmp_path, mtime=9)
    assert found == (
        Directory("/dev", mtime=9),
        Node("/dev/console", NodeKind.CHARACTER, 5, 1, mode=0o600, mtime=9),
        Symlink("/sh", "init", mtime=9),
        File("/init", b"text", links=("/linuxrc",), mode=0o755, uid=1, gid=2, mtime=7),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dri /dev 0755 0 0", "unknown entry type 'dri'; expected one of: file, dir,"),
        ("dir", "expected 4 words after 'dir', saw 0: dir <name> <mode> <uid> <gid>"),
        ("dir /dev 0755 0 0 more", "expected 4 words after 'dir', saw 5"),
        (" dir /dev 0755 0 0", "must start in the first column"),
        ("dir /dev 0o755 0 0", "<mode> must be octal digits, for example 0755; it is '0o755'"),
        ("dir /dev 0100755 0 0", "<mode> 0100755 holds the type of another kind"),
        ("dir /dev 0755 root 0", "<uid> must be a decimal number; it is 'root'"),
        ("dir / 0755 0 0", "must be 1 to 4095 bytes"),
        ("nod /dev/a 600 0 0 x 1 2", "<dev_type> must be b (block) or c (character); it is 'x'"),
        ("nod /dev/a 600 0 0 c 1 -2", "<min> must be a decimal number"),
        ("nod /dev/a 600 0 0 c 4294967296 1", "major number must be 0 to 4294967295"),
        ("file /a /no/such/file 644 0 0", "cannot read /no/such/file (for /a): No such file"),
        ("file /a /dev/zero 644 0 0", "/dev/zero (for /a) is not a regular file"),
        ("file /a ${NOT_SET}/a 644 0 0", "the variable ${NOT_SET} in '${NOT_SET}/a' is not set"),
        ("file /a ${LOOP} 644 0 0", "expand without end"),
        ("file /a b 644 0", "expected 5 words after 'file', saw 4"),
    ],
)
def test_an_error_names_the_list_the_line_and_the_trouble(line: str, said: str) -> None:
    text = f"# first line\n{line}\n".encode()
    with pytest.raises(ListingError) as caught:
        parse_listing(text, "my.list", {"LOOP": "${LOOP}"})
    assert str(caught.value).startswith("my.list:2: ")
    assert said in str(caught.value)


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ListingError, match=r"gone: cannot read .* No such file"):
        read_listing(tmp_path / "gone")


@given(st.binary(max_size=80))
def test_noise_is_read_or_refused_with_the_name_of_the_list(noise: bytes) -> None:
    with pytest.raises(ListingError, match=r"^noise:[0-9]+: "):
        parse_listing(noise + b"\nfile /a " + noise + b"\nno such type", "noise", {})
