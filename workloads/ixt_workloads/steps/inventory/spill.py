"""Documents in one seeded order, cut into shards, within a bounded memory.

A document's order comes from a hash of its content, so that it does not depend on files or formats. Documents
are written by ranges of that order to a folder of this machine; then each range is sorted, freed of
duplicates (which fall into one range) and appended to the shards. The result depends on the documents alone.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from ixt_workloads.data.hashed import place_of
from ixt_workloads.data.parquet import parquet
from ixt_workloads.steps.inventory.sources import Raw

MAX_SHARD_DOCUMENTS = 8192
MAX_SHARD_BYTES = 64 * 2**20
FEW_DOCUMENTS = 512
"""Small corpora are cut into shards of about this many, up to 8 shards."""
RANGE_BYTES = 32 * 2**20
"""Most bytes of documents in one spilled range, about."""
MAX_RANGES = 8192
PENDING_BYTES = 64 * 2**20
"""Bytes of rows that wait to be spilled, about."""
PLACES = 1_000_000
"""Places in the sample."""

COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("text", pa.large_string()),
        ("messages", pa.large_string()),
        ("sample", pa.int32()),
        ("score", pa.float64()),
        ("critique", pa.large_string()),
    ]
)
PROMPT_COLUMNS = pa.schema([*COLUMNS, ("answer", pa.large_string()), ("extra", pa.large_string())])
_SPILLED = pa.schema(
    [
        *PROMPT_COLUMNS,
        ("order", pa.uint64()),
        ("held", pa.uint64()),
        ("copies", pa.int64()),
        ("bytes", pa.int64()),
    ]
)
_ROW_BYTES = 1000
"""Memory of a waiting row beside its texts, about."""


class Hashes(NamedTuple):
    """What a document's content decides about it."""

    id: str
    order: int
    """Place in the seeded order, of 2**64."""
    held: int
    """The smallest of these are held out, of 2**64."""
    sample: int
    """Place in the sample, of PLACES."""
    weight: int
    """Place in [0, 100): below a weight's last two digits the document gets one copy more."""


def hashes_of(content: str) -> Hashes:
    """The hashes of a content. Independent of each other, so that no choice skews another."""
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    order, held, sample, weight = (
        place_of(f"{purpose}/{name}") for purpose in ("order", "held", "sample", "weight")
    )
    return Hashes(name, order, held, sample % PLACES, weight % 100)


def copies_of(weight: int, place: int) -> int:
    """How often a document stands in one pass: weight percent, the fraction decided by its hash."""
    return weight // 100 + (place < weight % 100)


def ranges_for(size: int) -> int:
    """Ranges for at most so many bytes of documents."""
    return min(MAX_RANGES, 1 + size // RANGE_BYTES)


def shard_count(documents: int, size: int) -> int:
    """Shards of a corpus; `size` in bytes."""
    return max(
        1,
        -(-documents // MAX_SHARD_DOCUMENTS),
        -(-size // MAX_SHARD_BYTES),
        min(8, -(-documents // FEW_DOCUMENTS)),
    )


def files_of_artifact(shards: int) -> list[str]:
    """Names of an Inventory's files."""
    return [*(_name(number) for number in range(shards)), "holdout.parquet"]


@dataclass
class Spill:
    """Documents on their way to the shards."""

    folder: Path
    """Empty, on this machine."""
    ranges: int
    holdout: int
    """How many documents to hold out; at most a tenth of the different ones is held out."""
    columns: pa.Schema = COLUMNS
    """Of the files."""
    found: int = 0
    """Documents read, whatever their weight."""
    scores: int = 0
    """How many of them have a score of their own."""
    critiques: int = 0
    """How many of them have a critique of their own."""
    _rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    _pending: int = 0

    def add(self, raw: Raw, weight: int) -> None:
        """Take a document of a dataset with this weight."""
        # The same prompt with another answer is another.
        hashes = hashes_of((raw.messages or raw.text) + (raw.answer or ""))
        self.found += 1
        self.scores += raw.score is not None
        self.critiques += bool(raw.critique)
        copies = copies_of(weight, hashes.weight)
        if not copies:
            return
        row = {**raw._asdict(), "id": hashes.id, "sample": hashes.sample, "order": hashes.order}
        row |= {"held": hashes.held, "copies": copies, "bytes": len(raw.text.encode())}
        self._rows.setdefault(hashes.order * self.ranges >> 64, []).append(row)
        texts = (raw.text, raw.messages, raw.critique, raw.answer, raw.extra)
        self._pending += sum(len(text or "") for text in texts) + _ROW_BYTES
        if self._pending > PENDING_BYTES:
            self._flush()

    def write(self, add: Callable[[str, bytes], object]) -> dict[str, Any]:
        """Hand every file to `add` and return the artifact's summary without what was dropped."""
        self._flush()
        shards, bound = self._survey()
        sources: Counter[str] = Counter()
        held: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        written = duplicates = size = 0
        for row in self._ordered():
            if row is None:
                duplicates += 1
                continue
            if row["held"] <= bound:
                held.append(row)
                continue
            while row["order"] * shards >> 64 > written:
                add(_name(written), _parquet(rows, self.columns))
                rows, written = [], written + 1
            sources[row["source"]] += row["copies"]
            size += row["bytes"] * row["copies"]
            rows += _copies(row)
        while written < shards:
            add(_name(written), _parquet(rows, self.columns))
            rows, written = [], written + 1
        held.sort(key=lambda row: int(row["held"]))
        add("holdout.parquet", _parquet(held, self.columns))
        return {
            "documents": sources.total(),
            "holdout": len(held),
            "bytes": size,
            "duplicates": duplicates,
            "sources": dict(sorted(sources.items())),
            "shards": shards,
        }

    def _flush(self) -> None:
        for place, rows in self._rows.items():
            with self._file(place).open("ab") as file, pa.ipc.new_stream(file, _SPILLED) as stream:
                stream.write_table(pa.Table.from_pylist(rows, schema=_SPILLED))
        self._rows, self._pending = {}, 0

    def _survey(self) -> tuple[int, int]:
        """How many shards there are to be, and the largest hash that is held out (-1 for none)."""
        documents = copies = size = 0
        smallest = np.zeros(0, np.uint64)
        for place in range(self.ranges):
            table = self._table(place)
            # As in `_ordered`, the first of several that are the same counts.
            first = np.unique(table["order"].to_numpy(), return_index=True)[1]
            times = table["copies"].to_numpy()[first]
            documents += len(first)
            copies += int(times.sum())
            size += int((table["bytes"].to_numpy()[first] * times).sum())
            smallest = np.unique(np.concatenate([smallest, table["held"].to_numpy()[first]]))[: self.holdout]
        allowed = min(len(smallest), documents // 10)
        return shard_count(copies, size), int(smallest[allowed - 1]) if allowed else -1

    def _ordered(self) -> Iterator[dict[str, Any] | None]:
        """All rows in order, None for a duplicate of an earlier one."""
        for place in range(self.ranges):
            rows = self._table(place).to_pylist()
            self._file(place).unlink(missing_ok=True)
            seen: set[str] = set()
            for row in sorted(rows, key=lambda row: (row["order"], row["id"])):
                yield None if row["id"] in seen else row
                seen.add(row["id"])

    def _table(self, place: int) -> pa.Table:
        """The rows of a range as they came, mapped: what is not looked at is not read."""
        found = [_SPILLED.empty_table()]
        if self._file(place).exists():
            with pa.memory_map(str(self._file(place))) as file:
                while file.tell() < file.size():
                    found.append(pa.ipc.open_stream(file).read_all())
        return pa.concat_tables(found)

    def _file(self, place: int) -> Path:
        return self.folder / f"{place}.arrow"


def _copies(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number in range(row["copies"]):
        yield row if not number else {**row, "id": f"{row['id']}-{number}"}


def _name(number: int) -> str:
    return f"docs-{number:05d}.parquet"


def _parquet(rows: list[dict[str, Any]], columns: pa.Schema) -> bytes:
    table = pa.Table.from_pylist([{name: row[name] for name in columns.names} for row in rows], columns)
    return parquet(table, row_group_size=1024)
