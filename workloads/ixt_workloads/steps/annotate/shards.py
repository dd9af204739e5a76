"""The shards of one annotation, and the documents in them."""

from collections.abc import Iterator

import pyarrow.compute as pc
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.data.parquet import table_of
from ixt_workloads.frame import Step
from ixt_workloads.steps.annotate.rows import (
    ANSWERS_SCHEMA,
    SCHEMA,
    Document,
    Row,
    Tally,
    to_parquet,
)
from ixt_workloads.steps.annotate.sharing import SharedFiles
from ixt_workloads.steps.annotate.verifying import COLUMNS, document_of, verified
from ixt_workloads.store import Artifact

PER_PERCENT = 10_000
"""Places in the sample, of 1,000,000, to one percent."""


class Shards(SharedFiles[Document, Row, Tally]):
    """The shards of one artifact of feedback, shared by the indexes of an attempt."""

    def __init__(self, step: Step) -> None:
        self._config: AnnotateConfig = step.config
        self.inventory: Artifact = step.input("inventory")
        names = [path for path in self.inventory.paths if path.startswith("docs-")]
        sources = ["holdout.parquet"] if self._config.holdout else names
        self._sources = {f"feedback-{name.removeprefix('docs-')}": name for name in sources}
        super().__init__(step, list(self._sources))

    @property
    def items(self) -> int:
        """About how many documents there are to annotate."""
        summary = self.inventory.summary
        if self._config.holdout:
            return int(summary["holdout"])
        return int(summary["documents"] * (self._config.to_percent - self._config.from_percent) / 100)

    def first(self, number: int) -> list[Document]:
        """The first documents that are to be annotated, whoever does them."""
        found: list[Document] = []
        for name in self.files:
            found += self.read(name)
            if len(found) >= number:
                break
        return found[:number]

    def take(self) -> Iterator[tuple[str, list[Document]]]:
        """As of any shared files, verified where the documents are answers."""
        return verified(self._config, super().take())

    def packed(self, rows: list[Row], sums: Tally) -> bytes:
        """The file of a shard."""
        return to_parquet(rows, sums, ANSWERS_SCHEMA if self._config.verifier else SCHEMA)

    def nothing(self) -> Tally:
        """A tally of no documents."""
        return Tally()

    def read(self, name: str) -> list[Document]:
        """The shard's documents that are to be annotated, each once, in the shard's order."""
        path = self.inventory.file(self._sources[name])
        answers = set(COLUMNS) <= set(pq.read_schema(path).names)
        more = COLUMNS if answers else ("score", "critique")
        table = table_of(path, ["id", "text", "sample", *more])
        if not self._config.holdout:
            low, high = self._config.from_percent * PER_PERCENT, self._config.to_percent * PER_PERCENT
            place = table["sample"]
            table = table.filter(pc.and_(pc.greater_equal(place, low), pc.less(place, high)))
        # Copies of a document share its feedback: it is asked for once.
        table = table.filter(pc.invert(pc.match_substring(table["id"], "-")))
        rows = table.drop_columns("sample").to_pylist()
        if answers:
            return [document_of(row, self._config.judge_sees) for row in rows]
        return [Document(**row) for row in rows]
