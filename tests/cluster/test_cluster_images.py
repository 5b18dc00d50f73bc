"""A worker holds each image once, and makes room without taking what is in use."""

from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_flaky_repro.machine.cluster.images import ImageStore, MissingImages


def test_an_image_is_known_by_the_hash_of_its_content() -> None:
    store = ImageStore()
    digest = hashlib.sha256(b"kernel").hexdigest()
    assert store.missing([digest, "other"]) == (digest, "other")
    assert store.put(b"kernel") == digest
    assert store.missing([digest, "other"]) == ("other",)
    assert store.content(digest) == b"kernel"


def test_a_lent_image_can_be_opened_by_its_path() -> None:
    store = ImageStore()
    with store.lend(store.put(b"kernel"), store.put(b"initramfs")) as (kernel, initramfs):
        assert kernel.path.read_bytes() == b"kernel"
        assert initramfs.path.read_bytes() == b"initramfs"


def test_an_image_that_is_not_there_is_said_to_be_missing() -> None:
    with pytest.raises(MissingImages), ImageStore().lend("0" * 64):
        pass


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=30))
def test_what_is_held_stays_within_its_room_and_the_last_is_there(images: list[bytes]) -> None:
    store = ImageStore(room=20)
    for content in images:
        digest = store.put(content)
        assert store.content(digest) == content
        held = {image for image in images if not store.missing([hashlib.sha256(image).hexdigest()])}
        assert sum(map(len, held)) <= 20


def test_what_is_lent_makes_no_room() -> None:
    store = ImageStore(room=10)
    first = store.put(b"a" * 8)
    with store.lend(first) as (file,):
        second = store.put(b"b" * 8)
        assert os.pread(file.descriptor, 8, 0) == b"a" * 8
        assert store.missing([first, second]) == ()
    third = store.put(b"c" * 8)
    assert store.missing([first, second, third]) == (first, second)
