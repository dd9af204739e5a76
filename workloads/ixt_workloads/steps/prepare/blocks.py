"""Packed rows as Arrow files, with the counts of a block in the file's metadata."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa
from pydantic.alias_generators import to_camel

from ixt_workloads.contract.metrics import CONVERSATIONS_CUT, PREPARED_DOCUMENTS, PREPARED_TOKENS
from ixt_workloads.contract.results import Figures
from ixt_workloads.data.counts import Counts
from ixt_workloads.steps.prepare.packing import pack
from ixt_workloads.steps.prepare.tokens import Tokenized, dtype_of

_COUNTS = b"ixt.counts"

REASONS = 5
"""Reasons that a summary tells, the most frequent ones."""


@dataclass
class BlockCounts(Counts):
    """What a block holds; the counts of all blocks give the artifact's summary."""

    tokens: int = 0
    document_tokens: int = 0
    feedback_tokens: int = 0
    """Counted for each segment that repeats them."""
    masked_tokens: int = 0
    padding: int = 0
    sequences: int = 0
    squares: int = 0
    """Sum of the segments' squared lengths: what attention costs."""
    anneal: int = 0
    """Sequences of the split `anneal`; below the same of it as of `main` above."""
    anneal_tokens: int = 0
    anneal_squares: int = 0
    documents: int = 0
    conditioned: int = 0
    cut: int = 0
    """Conversations cut at sequenceLength, or left out since nothing of the assistant is left."""
    held_out_known: int = 0
    """Held-out documents that an earlier stage has trained on: they are no longer held out."""
    levels: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    """Documents that are not trained on, by reason; one may have several."""
    refused: Counter[str] = field(default_factory=Counter)
    """Conversations that the chat template does not take, by dataset and reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """Conversations with something that the chat template does not show, by what it is."""

    @classmethod
    def read(cls, path: Any) -> Self:
        """The counts in a file's metadata."""
        with pa.memory_map(str(path)) as source:
            return cls.of(source)

    @classmethod
    def of(cls, source: pa.NativeFile) -> Self:
        """The counts in the metadata of an open file."""
        return cls.from_json(pa.ipc.open_file(source).schema.metadata[_COUNTS])

    def figures(self) -> Figures:
        """These counts for Prometheus."""
        # Filtered documents are none of the block's, and are among the levels.
        unlevelled = max(0, self.documents - self.levels.total())
        return {
            PREPARED_TOKENS.name: {
                "Document": self.tokens - self.feedback_tokens,
                "Prefix": self.feedback_tokens,
                "Padding": self.padding,
            },
            PREPARED_DOCUMENTS.name: {**self.levels, "": unlevelled},
            CONVERSATIONS_CUT.name: {"": self.cut},
        }

    def summary(self, blocks: int, vocabulary: int) -> dict[str, Any]:
        """The artifact's summary."""
        places = self.tokens + self.padding
        counts = {to_camel(name): value for name, value in vars(self).items()}
        del counts["padding"], counts["levels"]
        return counts | {
            "refused": dict(self.refused.most_common(REASONS)),
            "lost": dict(sorted(self.lost.items())),
            "leftOut": dict(sorted(self.left_out.items())),
            "paddingPercent": round(100 * self.padding / places, 3) if places else 0.0,
            "levels": dict(sorted(self.levels.items())),
            "blocks": blocks,
            "vocabulary": vocabulary,
        }


def packed_file(
    documents: Sequence[Tokenized],
    places: Sequence[tuple[int, int]],
    length: int,
    vocabulary: int,
    *,
    pad: int,
    cut: bool,
    counts: BlockCounts,
) -> bytes:
    """The file of a block. `places` are each document's row in its shard and its level; `counts` what is
    known so far, completed here and put into the file.

    `vocabulary` is the number of ids there can be; `cut` as in `pack`.
    """
    rows = pack([len(d.prefix) for d in documents], [len(d.body) for d in documents], length, cut=cut)
    ids = np.full((len(rows), length), pad, dtype_of(vocabulary))
    mask = np.zeros((len(rows), length), np.uint8)
    starts: list[list[int]] = []
    lengths = []
    for number, row in enumerate(rows):
        at, begins = 0, []
        for segment in row:
            document = documents[segment.document]
            begins.append(at)
            middle = at + len(document.prefix)
            end = middle + segment.end - segment.start
            ids[number, at:middle] = document.prefix
            ids[number, middle:end] = document.body[segment.start : segment.end]
            mask[number, at:middle] = document.prefix_mask
            mask[number, middle:end] = document.mask[segment.start : segment.end]
            counts.feedback_tokens += document.feedback
            counts.squares += (end - at) ** 2
            at = end
        starts.append(begins)
        lengths.append(at)
    total = sum(lengths)
    counts.tokens += total
    counts.document_tokens += sum(document.own for document in documents)
    counts.masked_tokens += total - int(mask.sum())
    counts.padding += len(rows) * length - total
    counts.sequences += len(rows)
    columns = {
        "input_ids": _fixed(ids, length),
        "loss_mask": _fixed(mask, length),
        "starts": pa.array(starts, pa.list_(pa.int32())),
        "levels": pa.array([[places[s.document][1] for s in row] for row in rows], pa.list_(pa.int8())),
        "documents": pa.array([[places[s.document][0] for s in row] for row in rows], pa.list_(pa.int32())),
        "length": pa.array(lengths, pa.int32()),
    }
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    batch = batch.replace_schema_metadata({_COUNTS: counts.to_json()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def _fixed(matrix: np.ndarray, width: int) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), width)
