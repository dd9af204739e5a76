"""The shards of one annotation: which are left, which this index does, and the documents in them."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.frame import Step
from ixt_workloads.steps.annotate.rows import Document, Row, Tally, tally_of, to_parquet
from ixt_workloads.store import Artifact

PER_PERCENT = 10_000
"""Places in the sample, of 1,000,000, to one percent."""


class Shards:
    """The shards of one artifact of feedback, shared by the indexes of an attempt.

    An index takes a shard before it starts on it, so that no document is paid for twice.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._config: AnnotateConfig = step.config
        self._writer = step.writer()
        self.inventory: Artifact = step.input("inventory")
        names = [path for path in self.inventory.paths if path.startswith("docs-")]
        self._sources = ["holdout.parquet"] if self._config.holdout else names
        self.files = [f"feedback-{name.removeprefix('docs-')}" for name in self._sources]

    @property
    def documents(self) -> int:
        """About how many documents there are to annotate."""
        summary = self.inventory.summary
        if self._config.holdout:
            return int(summary["holdout"])
        return int(summary["documents"] * (self._config.to_percent - self._config.from_percent) / 100)

    def outstanding(self) -> list[str]:
        """Files that are not written yet."""
        return [name for name in self.files if not self._writer.has(name)]

    def take(self) -> Iterator[tuple[str, list[Document]]]:
        """The shards that this index is to do, each with its documents."""
        for name, source in self._step.ring(list(zip(self.files, self._sources, strict=True))):
            if not self._writer.has(name) and self._step.take(name):
                yield name, self._read(self.inventory.file(source))

    def write(self, name: str, rows: list[Row], tally: Tally) -> None:
        """Write a shard, unless someone has."""
        self._writer.add(name, to_parquet(rows, tally))

    def tally(self) -> Tally:
        """The sum over all shards, read from their files."""
        total = Tally()
        for name in self.files:
            total.merge(tally_of(self._writer.local(name)))
        return total

    def commit(self, tally: Tally, source: str, parameters: int, fingerprint: dict[str, str]) -> None:
        """Make the artifact exist."""
        self._writer.commit(tally.summary(source, parameters), self.files, fingerprint)

    def _read(self, path: Path) -> list[Document]:
        """The shard's documents that are to be annotated, each once, in the shard's order."""
        columns = ["id", "text", "sample"]
        if self._config.judge is None:
            columns += ["score", "critique"]
        table = pq.read_table(path, columns=columns)
        if not self._config.holdout:
            low, high = self._config.from_percent * PER_PERCENT, self._config.to_percent * PER_PERCENT
            place = table["sample"]
            table = table.filter(pc.and_(pc.greater_equal(place, low), pc.less(place, high)))
        # Copies of a document share its feedback: it is asked for once.
        table = table.filter(pc.invert(pc.match_substring(table["id"], "-")))
        return [Document(**row) for row in table.drop_columns("sample").to_pylist()]
