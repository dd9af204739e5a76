"""The interface of a store, and what all stores share: paths and the start-up check."""

import math
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ixt_workloads.store.errors import FileTooLarge, InvalidPath, StoreNotWritable

MAX_SINGLE_PUT = 256 * 2**20
"""Bytes above which an object store creates a file in parts, under another name first."""

MAX_COPY = 5 * 2**30
"""Bytes in the largest file of an artifact in an object store: S3 copies no more at once."""

MAX_DOCUMENT = 64 * 2**20
"""Bytes of the largest file that is read whole, unless its reader says otherwise; a manifest of 256,000 files
has as many."""

TEMPORARY = "work/.tmp"
"""Where files are written that are created under their name once they are whole: all on POSIX, large ones in
object stores. `gc` deletes what is left there."""

_SEGMENT = re.compile(r"[A-Za-z0-9._=+@,-]{1,200}")
_MAX_PATH = 700


@dataclass(frozen=True)
class ObjectInfo:
    """One file of a store."""

    path: str
    size: int
    """Bytes."""
    modified: datetime
    """By the clock of the store, with a time zone."""
    etag: str
    """Changes when the content does."""


def is_segment(name: str) -> bool:
    """Whether a file of that name can be in a store."""
    return _SEGMENT.fullmatch(name) is not None


def check_path(path: str) -> str:
    """`path` itself: relative, '/'-separated, of characters that every kind of store keeps as they are.

    Raises InvalidPath.
    """
    segments = path.split("/")
    fits = len(path) <= _MAX_PATH and all(_SEGMENT.fullmatch(segment) for segment in segments)
    if not fits or "." in segments or ".." in segments:
        raise InvalidPath(
            f"path {path[:100]!r} cannot be used in a store",
            "use relative segments of letters, digits and '._=+@,-', at most 200 characters each, 700 in all",
        )
    return path


def within(content: bytes, most: int, place: str) -> bytes:
    """The content itself. Raises FileTooLarge for more than `most` bytes."""
    if len(content) > most:
        raise FileTooLarge(f"{place} has more than {most:,} bytes", "no version of ixt wrote it: delete it")
    return content


class Store(ABC):
    """Files under one URI. Every method raises subclasses of StoreError; paths are relative (`check_path`).

    Safe for several threads, but not across a fork: open it in each process.
    """

    uri: str
    """Without credentials and trailing slash."""
    largest: float = math.inf
    """Bytes in the largest file that `put_new` takes."""
    signs: bool = False
    """Whether its documents are signed (`signed.py`)."""

    @abstractmethod
    def get(self, path: str, most: int = MAX_DOCUMENT) -> bytes:
        """Content of a file. Raises NotFound, and FileTooLarge for one of more than `most` bytes, of which
        hardly more is read."""

    @abstractmethod
    def open_local(self, path: str) -> Path:
        """A local file with the content of `path`, to be memory-mapped, never to be written. Raises NotFound.

        Object stores download once a machine, into $IXT_CACHE.
        """

    @abstractmethod
    def put_new(self, path: str, data: bytes | Path) -> bool:
        """Create a file atomically and durably; False, and nothing changed, when there is one already."""

    @abstractmethod
    def put(self, path: str, data: bytes | Path) -> None:
        """Write a file atomically, over an old one: for work/, claims/ and runs/, of one process each."""

    @abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """All files in the folder `prefix` ("" for the whole store) and below, sorted by path."""

    @abstractmethod
    def sha256(self, path: str) -> str:
        """Hexadecimal sha256 of a file, of the bytes that are there now."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""

    @abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Delete a folder with all that it holds, or a file, if it is there."""

    @abstractmethod
    def local_dir(self, path: str) -> Path:
        """A real, writable folder for unfinished work: the one itself on POSIX, else one on this machine."""

    @abstractmethod
    def upload_dir(self, path: str) -> None:
        """Move what `local_dir(path)` holds to the store; on POSIX it is there.

        Not atomic: put a marker afterwards.
        """

    @abstractmethod
    def download_dir(self, path: str) -> None:
        """Make `local_dir(path)` hold just what the store holds, which on POSIX it does.

        One process of a machine at a time: what was there and was never uploaded is lost.
        """

    def probe(self) -> None:
        """Check that the store can be reached, written, and creates files only if absent."""
        path = f"work/.probe/{uuid.uuid4().hex}"
        created = self.put_new(path, b"first")
        again = self.put_new(path, b"second")
        kept = self.get(path) == b"first"
        self.delete(path)
        if not created or again or not kept:
            raise StoreNotWritable(
                f"{self.uri} overwrites files that it should only create if absent",
                "use a server with conditional puts (If-None-Match: *), or a file system with hard links",
            )
