"""Packed sequences, memory-mapped: what Prepare wrote and Train reads (layout: docs/artifacts.md)."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from ixt_workloads.data.memory import reading
from ixt_workloads.store import Artifact


@dataclass(frozen=True)
class Packed:
    """One sequence, as views of the mapped file."""

    input_ids: np.ndarray
    """[sequence length], uint16 or uint32."""
    loss_mask: np.ndarray
    """[sequence length]: 1 where the token is a target."""
    starts: np.ndarray
    """First position of each segment."""
    levels: np.ndarray
    """Level of each segment, 0 for none."""
    documents: np.ndarray
    """Row of each segment in its block's shard of documents."""
    length: int
    """Tokens before padding."""


class PackedData:
    """The sequences of one split, counted over its blocks in order."""

    def __init__(self, blocks: Sequence[pa.Table]) -> None:
        self._blocks = [block.combine_chunks() for block in blocks]
        self.block_sizes = tuple(block.num_rows for block in self._blocks)
        self._firsts = (0, *accumulate(self.block_sizes))
        self.sequence_length = int(self._blocks[0].schema.field("input_ids").type.list_size)
        self._tokens = [
            {name: _matrix(block, name, self.sequence_length) for name in ("input_ids", "loss_mask")}
            for block in self._blocks
        ]

    @classmethod
    def open(cls, artifact: Artifact, split: str) -> Self:
        """Map the files of a split of a Prepare artifact: `main` or `anneal`."""
        paths = sorted(path for path in artifact.paths if path.startswith(f"{split}-"))
        return cls([_table(artifact.file(path)) for path in paths])

    def __len__(self) -> int:
        return int(self._firsts[-1])

    def __getitem__(self, index: int) -> Packed:
        """The sequence of an index, counted over all blocks."""
        which = bisect_right(self._firsts, index) - 1
        block, row = self._blocks[which], index - self._firsts[which]
        lists = {name: _list(block, name, row) for name in ("starts", "levels", "documents")}
        return Packed(
            input_ids=self._tokens[which]["input_ids"][row],
            loss_mask=self._tokens[which]["loss_mask"][row],
            length=block.column("length")[row].as_py(),
            **lists,
        )


def _table(file: Path) -> pa.Table:
    """The sequences of a file, mapped: what would have to be unpacked takes memory, and is bounded."""
    with reading(file):
        return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _matrix(block: pa.Table, name: str, width: int) -> np.ndarray:
    """A fixed-size list column as [rows, width], without a copy for a block of one batch."""
    column = block.column(name)
    if not column.num_chunks or not block.num_rows:
        return np.zeros((0, width), dtype=np.uint8)
    return np.asarray(column.chunk(0).flatten()).reshape(-1, width)


def _list(block: pa.Table, name: str, row: int) -> np.ndarray:
    return np.asarray(block.column(name)[row].values)
