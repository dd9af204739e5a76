"""The files of one artifact that the processes of a step share: which are left, which this index does, and
what all of them count together."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

from ixt_workloads.data.counts import Counts
from ixt_workloads.data.parquet import counts_in
from ixt_workloads.frame import Step

Item = TypeVar("Item")
Row = TypeVar("Row")
Sums = TypeVar("Sums", bound=Counts)


class SharedFiles(ABC, Generic[Item, Row, Sums]):
    """The files of an artifact, each made of items that are asked about and of the rows that come of them.

    An index takes a file before it starts on it, so that nothing is paid for twice.
    """

    def __init__(self, step: Step, files: list[str]) -> None:
        self._step = step
        self.writer = step.writer()
        self.files = files

    @property
    @abstractmethod
    def items(self) -> int:
        """About how many items there are in all files."""

    @abstractmethod
    def read(self, name: str) -> list[Item]:
        """The items of a file."""

    @abstractmethod
    def packed(self, rows: list[Row], sums: Sums) -> bytes:
        """A file with its rows and what they count."""

    @abstractmethod
    def nothing(self) -> Sums:
        """Counts of no rows."""

    def outstanding(self) -> list[str]:
        """Files that are not written yet."""
        return [name for name in self.files if not self.writer.has(name)]

    def written(self) -> bool:
        """Whether any file is."""
        return any(self.writer.has(name) for name in self.files)

    def take(self) -> Iterator[tuple[str, list[Item]]]:
        """The files that this index is to make, each with its items."""
        for name in self._step.ring(self.files):
            if not self.writer.has(name) and self._step.take(name):
                yield name, self.read(name)

    def adopted(self) -> Iterator[Sums]:
        """Counts of the files that an earlier attempt wrote, each told to one index."""
        for name in self._step.ring(self.files):
            if self.writer.has(name) and self._step.take(name):
                yield self._counted(name)

    def write(self, name: str, rows: list[Row], sums: Sums) -> None:
        """Write a file, unless someone has."""
        self.writer.add(name, self.packed(rows, sums))

    def first_tally(self) -> Sums | None:
        """Counts of one of the files that are written; None before any is."""
        name = next((name for name in self.files if self.writer.has(name)), None)
        return self._counted(name) if name else None

    def tally(self) -> Sums:
        """The sum over all files, read from them."""
        total = self.nothing()
        for name in self.files:
            total.merge(self._counted(name))
        return total

    def _counted(self, name: str) -> Sums:
        """The counts that `packed` put into a file's footer."""
        return counts_in(self.writer.local(name), type(self.nothing()))
