"""Feedback as rows, the parquet file of a shard, and the tally that stands in its footer."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.contract.exits import Exit, StepError
from ixt_workloads.contract.settings import Gates
from ixt_workloads.data.counts import Counts
from ixt_workloads.feedback.answers import copied

TOKEN_KINDS = ("prompt", "cached", "reasoning", "feedback", "wasted")
"""Kinds of a judge's tokens. `cached` are part of `prompt`; `wasted` are those of rejected answers."""

CONVINCING = 50
"""Documents after which a gate may fail the run, before all are read."""

MAX_BINS = 25
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("status", pa.string()),
        ("score", pa.float64()),
        ("axes", pa.string()),
        ("critique", pa.string()),
        ("reasoning", pa.string()),
        ("truncated", pa.bool_()),
        *((f"{kind}_tokens", pa.int32()) for kind in TOKEN_KINDS),
        ("tries", pa.int8()),
        ("fingerprint", pa.string()),
    ]
)
_TALLY = b"ixt.tally"


@dataclass(frozen=True)
class Document:
    """What is read of a document of the inventory."""

    id: str
    text: str
    score: float | None = None
    """Existing feedback, as is `critique`."""
    critique: str | None = None


@dataclass
class Row:
    """Feedback on one document; the columns are described in docs/artifacts.md."""

    id: str
    status: str = "invalid"
    score: float | None = None
    axes: str = "{}"
    critique: str = ""
    reasoning: str = ""
    truncated: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    feedback_tokens: int = 0
    wasted_tokens: int = 0
    tries: int = 0
    fingerprint: str = ""

    def tokens(self) -> dict[str, int]:
        """Tokens by kind."""
        return {kind: getattr(self, f"{kind}_tokens") for kind in TOKEN_KINDS}

    def computed(self) -> int:
        """Tokens that the judge ran through its layers for this document."""
        used = self.tokens()
        return sum(used.values()) - 2 * used["cached"]

    def context(self) -> float:
        """Mean length of a conversation about this document, in tokens."""
        used = self.tokens()
        return (sum(used.values()) - used["cached"]) / max(self.tries, 1)


@dataclass
class Tally(Counts):
    """Counts over the rows of a shard; those of all shards give the artifact's summary."""

    documents: int = 0
    valid: int = 0
    truncated: int = 0
    copied: int = 0
    """8-grams of critiques that stand in their documents, of `grams`."""
    grams: int = 0
    flops: int = 0
    tokens: Counter[str] = field(default_factory=Counter)
    scores: Counter[str] = field(default_factory=Counter)
    """Documents by score, written with six significant digits."""

    def add(self, row: Row, document: str, flops: int) -> None:
        """Count a row and the document that it is about."""
        valid = row.status == "ok"
        found, grams = copied(row.critique, document) if valid else (0, 0)
        scores = {f"{row.score:.6g}": 1} if row.score is not None else {}
        self.merge(
            Tally(1, valid, row.truncated, found, grams, flops, Counter(row.tokens()), Counter(scores))
        )

    @property
    def invalid_percent(self) -> float:
        """Documents without valid feedback, in percent."""
        return 100 * (self.documents - self.valid) / max(self.documents, 1)

    @property
    def overlap_percent(self) -> float:
        """Copied 8-grams of the critiques, in percent."""
        return 100 * self.copied / max(self.grams, 1)

    def check(self, gates: Gates, at_least: int, example: str = "") -> None:
        """Raise StepError when a gate's limit is exceeded, from `at_least` documents on."""
        if self.documents < at_least:
            return
        if self.invalid_percent > gates.max_invalid_percent:
            raise StepError(
                Exit.DATA,
                f"{self.documents - self.valid} of {self.documents} documents lack valid feedback, more than "
                f"gates.maxInvalidPercent = {gates.max_invalid_percent}{': ' if example else ''}{example}",
                "check the judge's chat template, reasoningParser and sampling.maxTokens, or raise the gate",
            )
        if self.overlap_percent > gates.max_overlap_percent:
            raise StepError(
                Exit.DATA,
                f"{self.overlap_percent:.0f} % of the critiques' 8-grams are copied from their documents, "
                f"more than gates.maxOverlapPercent = {gates.max_overlap_percent}: feedback leaks the text",
                "tell the judge in the rubric not to quote, or raise the gate",
            )

    def summary(self, source: str, parameters: int) -> dict[str, Any]:
        """The artifact's summary."""
        return {
            "documents": self.documents,
            "valid": self.valid,
            "invalid": self.documents - self.valid,
            "truncated": self.truncated,
            "tokens": {kind: self.tokens[kind] for kind in TOKEN_KINDS},
            "flops": self.flops,
            "judgeParameters": parameters,
            "scores": histogram(self.scores),
            "overlapPercent": round(self.overlap_percent, 2),
            "source": source,
        }


def histogram(scores: Counter[str]) -> dict[str, int]:
    """Counts by score; beyond 25 different ones, in 20 equal bins named by their lower ends."""
    ordered = sorted(scores.items(), key=lambda item: float(item[0]))
    if len(ordered) <= MAX_BINS:
        return dict(ordered)
    low, high = float(ordered[0][0]), float(ordered[-1][0])
    width = (high - low) / 20
    bins = Counter({f"{low + place * width:.6g}": 0 for place in range(20)})
    names = list(bins)
    for score, count in ordered:
        bins[names[min(int((float(score) - low) / width), 19)]] += count
    return dict(bins)


def to_parquet(rows: Sequence[Row], tally: Tally) -> bytes:
    """The file of a shard: the same bytes for the same rows."""
    columns = [pa.array([getattr(row, column.name) for row in rows], column.type) for column in SCHEMA]
    table = pa.Table.from_arrays(columns, schema=SCHEMA).replace_schema_metadata({_TALLY: tally.to_json()})
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def tally_of(path: Any) -> Tally:
    """The tally in the footer of a shard's file."""
    return Tally.from_json(pq.read_metadata(path).metadata[_TALLY])
