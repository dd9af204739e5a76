"""A file of a curve that grows in the run's storage. In a folder or on a volume it grows as it is written. In
an object store it is written again as a whole now and then, so another part begins once it is large."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ixt_workloads.store import Store

PART_BYTES = 2**20
"""A part that is larger is not written to again."""

UPLOAD_SECONDS = 30.0
"""How often a part is written to an object store."""


class Parts:
    """The parts of one attempt's file, at <folder>/<name>.0000<ending> and so on."""

    file: BinaryIO
    """The part that is written to."""

    def __init__(
        self,
        store: Store,
        folder: str,
        name: str,
        ending: str = "",
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._folder, self._name, self._ending = store, folder, name, ending
        self._clock = clock
        self._number = 0
        self._open()

    def keep(self) -> bool:
        """What was written is kept, in a bucket within UPLOAD_SECONDS; whether another part has begun."""
        self.file.flush()
        large = self.file.tell() >= PART_BYTES
        if large or self._clock() - self._uploaded >= UPLOAD_SECONDS:
            self._upload()
        if large:
            self.file.close()
            self._number += 1
            self._open()
        return large

    def close(self) -> None:
        """Keep all."""
        self.file.close()
        self._upload()

    def _open(self) -> None:
        self._path = f"{self._folder}/{self._name}.{self._number:04}{self._ending}"
        self._local = Path(self._store.local_dir(self._folder), Path(self._path).name)
        self.file = self._local.open("wb")
        self._remote = not self._store.exists(self._path)
        self._uploaded = self._clock()

    def _upload(self) -> None:
        """Put the part into an object store; elsewhere it is the store's own."""
        if self._remote:
            self._store.put(self._path, self._local)
        self._uploaded = self._clock()
