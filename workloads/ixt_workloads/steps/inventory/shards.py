"""Documents in one seeded order, cut into shards, within a bounded memory.

A document's order comes from a hash of its content, so that it does not depend on files or formats. They
are spilled by ranges of that order to a folder of this machine; a range is then sorted, freed of duplicates
(which fall into one range) and appended to the shards.
"""

import hashlib
import heapq
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.steps.inventory.sources import Raw

MAX_DOCUMENTS = 8192
MAX_BYTES = 64 * 2**20
FEW_DOCUMENTS = 512
"""Small corpora are cut into shards of about this many, up to 8 shards."""
RANGE_BYTES = 32 * 2**20
"""Input bytes to one spilled range, about."""
FLUSH_BYTES = 2**20
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
_SPILLED = pa.schema([*COLUMNS, ("order", pa.uint64()), ("held", pa.uint64()), ("copies", pa.int32())])


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
    """Which side of a fractional weight it falls on, of 100."""


def hashes_of(content: str) -> Hashes:
    """The hashes of a content. Independent of each other, so that no choice skews another."""
    name = hashlib.sha256(content.encode()).hexdigest()[:32]
    return Hashes(name, _number(name, "order"), _number(name, "held"),
                  _number(name, "sample") % PLACES, _number(name, "weight") % 100)  # fmt: skip


def _number(name: str, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{purpose}/{name}".encode(), digest_size=8).digest(), "big")


def copies_of(weight: int, place: int) -> int:
    """How often a document stands in one pass: weight percent, the fraction decided by its hash."""
    return weight // 100 + (place < weight % 100)


@dataclass
class Spill:
    """Documents on their way to the shards."""

    folder: Path
    ranges: int
    holdout: int
    """How many are wanted."""
    documents: int = 0
    size: int = 0
    """Characters of their texts."""
    found: int = 0
    """Documents read, whatever their weight."""
    sources: Counter[str] = field(default_factory=Counter)
    _rows: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    _sizes: Counter[int] = field(default_factory=Counter)
    _files: dict[int, Any] = field(default_factory=dict)
    _held: list[int] = field(default_factory=list)
    _held_set: set[int] = field(default_factory=set)

    def add(self, raw: Raw, weight: int) -> None:
        """Take a document of a dataset with this weight."""
        hashes = hashes_of(raw.messages or raw.text)
        self.found += 1
        copies = copies_of(weight, hashes.weight)
        if not copies:
            return
        self._offer(hashes.held)
        size = len(raw.text)
        self.documents += copies
        self.size += size * copies
        place = hashes.order * self.ranges >> 64
        row = {**raw._asdict(), "id": hashes.id, "sample": hashes.sample}
        row |= {"order": hashes.order, "held": hashes.held, "copies": copies}
        self._rows.setdefault(place, []).append(row)
        self._sizes[place] += size + 200
        if self._sizes[place] > FLUSH_BYTES:
            self._flush(place)

    def _offer(self, held: int) -> None:
        """Keep the smallest hashes, each once: a duplicate must not take two places."""
        if not self.holdout or held in self._held_set:
            return
        if len(self._held) < self.holdout:
            heapq.heappush(self._held, -held)
            self._held_set.add(held)
        elif held < -self._held[0]:
            self._held_set.discard(-heapq.heappushpop(self._held, -held))
            self._held_set.add(held)

    def _flush(self, place: int) -> None:
        if place not in self._files:
            self._files[place] = pa.ipc.new_stream(str(self.folder / f"{place}.arrow"), _SPILLED)
        self._files[place].write_table(pa.Table.from_pylist(self._rows.pop(place), schema=_SPILLED))
        self._sizes[place] = 0

    def write(self, add: Callable[[str, bytes], object]) -> dict[str, Any]:
        """Hand every file to `add` and answer the artifact's summary without what was dropped."""
        for place in list(self._rows):
            self._flush(place)
        for file in self._files.values():
            file.close()
        shards = shard_count(self.documents, self.size)
        bound = self._bound()
        held: list[dict[str, Any]] = []
        rows: list[dict[str, Any]] = []
        written = documents = duplicates = 0
        for row in self._ordered():
            if row is None:
                duplicates += 1
                continue
            if row["held"] <= bound:
                held.append(row)
                continue
            for copy in _copies(row):
                self.sources[copy["source"]] += 1
                documents += 1
                while copy["order"] * shards >> 64 > written:
                    add(_name(written), _parquet(rows))
                    rows, written = [], written + 1
                rows.append(copy)
        while written < shards:
            add(_name(written), _parquet(rows))
            rows, written = [], written + 1
        held.sort(key=lambda row: int(row["held"]))
        add("holdout.parquet", _parquet(held))
        return {
            "documents": documents,
            "holdout": len(held),
            "bytes": self.size,
            "duplicates": duplicates,
            "sources": dict(sorted(self.sources.items())),
            "shards": shards,
        }

    def _bound(self) -> int:
        """The largest hash that is held out; at most a tenth of the documents is."""
        allowed = min(self.holdout, self.found // 10)
        smallest = sorted(-held for held in self._held)[:allowed]
        return smallest[-1] if smallest else -1

    def _ordered(self) -> Iterator[dict[str, Any] | None]:
        """All rows in order, None for a duplicate of an earlier one."""
        for place in range(self.ranges):
            path = self.folder / f"{place}.arrow"
            if not path.exists():
                continue
            with pa.ipc.open_stream(str(path)) as stream:
                rows = stream.read_all().to_pylist()
            path.unlink()
            seen: set[str] = set()
            for row in sorted(rows, key=lambda row: (row["order"], row["id"])):
                yield None if row["id"] in seen else row
                seen.add(row["id"])


def shard_count(documents: int, size: int) -> int:
    """Shards of a corpus."""
    return max(
        1,
        -(-documents // MAX_DOCUMENTS),
        -(-size // MAX_BYTES),
        min(8, -(-documents // FEW_DOCUMENTS)),
    )


def files_of_artifact(shards: int) -> list[str]:
    """Names of an Inventory's files."""
    return [*(_name(number) for number in range(shards)), "holdout.parquet"]


def _copies(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for number in range(row["copies"]):
        yield row if not number else {**row, "id": f"{row['id']}-{number}"}


def _name(number: int) -> str:
    return f"docs-{number:05d}.parquet"


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    table = pa.Table.from_pylist([{name: row[name] for name in COLUMNS.names} for row in rows], COLUMNS)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=1024)
    return sink.getvalue()
