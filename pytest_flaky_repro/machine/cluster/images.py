"""A worker's images: held once each, in memory, by the hash of their content."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from pytest_flaky_repro.machine.spec import MemoryFile

ROOM_BYTES = 1 << 30


class MissingImages(Exception):
    """A worker was asked to use images that it does not hold (any more)."""


@dataclass
class _Image:
    file: MemoryFile
    size: int
    lent: int = 0


class ImageStore:
    """Images by sha256. Those used longest ago make room for new ones, unless they are in use."""

    def __init__(self, room: int = ROOM_BYTES) -> None:
        self._room = room
        self._images: dict[str, _Image] = {}  # those used last come last
        self._lock = threading.Lock()
        self.received: Counter[str] = Counter()

    def missing(self, wanted: Iterable[str]) -> tuple[str, ...]:
        """Those of ``wanted`` that have to be sent."""
        with self._lock:
            return tuple(digest for digest in wanted if digest not in self._images)

    def put(self, content: bytes) -> str:
        """Keeps ``content``; its sha256."""
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            self.received[digest] += 1
            if digest not in self._images:
                self._make_room(len(content))
                self._images[digest] = _Image(MemoryFile(digest[:16], content), len(content))
        return digest

    @contextmanager
    def lend(self, *digests: str) -> Iterator[list[MemoryFile]]:
        """The files of ``digests``, which stay for as long as they are lent.

        Raises MissingImages.
        """
        with ExitStack() as lent:
            yield [lent.enter_context(self._lend(digest)) for digest in digests]

    def content(self, digest: str) -> bytes:
        """One image's bytes. Raises MissingImages."""
        with self._lend(digest) as file:
            return os.pread(file.descriptor, os.fstat(file.descriptor).st_size, 0)

    @contextmanager
    def _lend(self, digest: str) -> Iterator[MemoryFile]:
        with self._lock:
            image = self._images.pop(digest, None)
            if image is None:
                raise MissingImages(digest)
            self._images[digest] = image
            image.lent += 1
        try:
            yield image.file
        finally:
            with self._lock:
                image.lent -= 1

    def _make_room(self, size: int) -> None:
        held = sum(image.size for image in self._images.values())
        for digest, image in list(self._images.items()):
            if held + size <= self._room:
                break
            if image.lent == 0:
                del self._images[digest]
                image.file.close()
                held -= image.size
