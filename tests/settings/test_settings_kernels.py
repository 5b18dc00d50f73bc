"""``[NAME=]PATH`` and the names of those that have none."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.errors import UsageError
from pytest_flaky_repro.kernels import parse_kernels

ROOT = Path("/project")
folders = st.lists(st.sampled_from(["a", "b", "build"]), min_size=1, max_size=4)


def named(*texts: str) -> dict[str, str]:
    return {name: str(kernel.path) for name, kernel in parse_kernels(texts, ROOT).items()}


def test_a_kernel_without_a_name_is_called_after_its_file() -> None:
    assert named("k/bzImage") == {"bzImage": "/project/k/bzImage"}


def test_an_absolute_path_stays() -> None:
    assert named("new=/boot/vmlinuz") == {"new": "/boot/vmlinuz"}


def test_an_equals_sign_in_a_folder_is_no_name() -> None:
    assert named("build/O=x/bzImage") == {"bzImage": "/project/build/O=x/bzImage"}


def test_an_equals_sign_in_the_path_of_a_named_kernel_is_kept() -> None:
    assert named("x=build/O=x/bzImage") == {"x": "/project/build/O=x/bzImage"}


def test_files_of_one_name_get_as_many_folders_as_it_takes() -> None:
    assert list(named("a/x/bzImage", "b/x/bzImage", "c/Image")) == [
        *("a/x/bzImage", "b/x/bzImage", "Image")
    ]


def test_the_order_is_that_of_the_command_line() -> None:
    assert list(named("z=1", "a=2", "m=3")) == ["z", "a", "m"]


@pytest.mark.parametrize("texts", [("x=a", "x=b"), ("a", "a"), ("a=b", "k/a")])
def test_two_of_one_name_are_an_error(texts: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"2 kernels are called .* give each a name"):
        parse_kernels(texts, ROOT)


@pytest.mark.parametrize("text", ["", "=", "x=", "=x"])
def test_half_a_kernel_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="expected PATH or NAME=PATH"):
        parse_kernels([text], ROOT)


def test_an_unknown_name_is_an_error_that_lists_the_known() -> None:
    kernels = parse_kernels(["good=a", "bad=b"], ROOT)
    with pytest.raises(UsageError, match=r"--kernel worse=PATH\. There are: good, bad"):
        kernels["worse"]


@given(st.lists(folders.map(lambda parts: "/".join([*parts, "bzImage"])), unique=True))
def test_different_files_have_different_names_that_end_their_paths(paths: list[str]) -> None:
    kernels = parse_kernels(paths, ROOT)
    assert [str(kernel.path) for kernel in kernels.values()] == [f"/project/{p}" for p in paths]
    assert all(str(kernel.path).endswith(f"/{name}") for name, kernel in kernels.items())
