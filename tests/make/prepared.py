"""Committed Prepare artifacts, packed by hand: what Train and Evaluate read."""

import io
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import AnnotateConfig, PrepareConfig
from ixt_workloads.contract.keys import key_of, preimage
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.settings import (
    Conditioning,
    FeedbackFormat,
    LossOnFeedback,
    Method,
    ModelSource,
    Prepare,
    StageType,
)
from ixt_workloads.data.chat import Conversation
from ixt_workloads.feedback.prefixes import Prefixes
from ixt_workloads.feedback.rendering import prefix
from ixt_workloads.store import ArtifactWriter, open_storage
from make.models import BOS, EOS, VOCABULARY

LENGTH = 64
LEVELS = 2
GOOD, BAD = (prefix(FeedbackFormat.TOKEN, level, LEVELS, "") for level in (2, 1))


def ids_of(text: str) -> list[int]:
    """Tokens of a text under the tokenizer of make.models."""
    return [VOCABULARY[character] for character in text]


def contract(*, chat: bool = False) -> Prefixes:
    """Two levels, named by their quality."""
    return Prefixes(
        format="Token", levels=LEVELS, thresholds=(3.0,), by_level={1: BAD, 2: GOOD}, best=GOOD, worst=BAD,
        chat=chat, loss_on_feedback=LossOnFeedback.MASK if chat else LossOnFeedback.INCLUDE,
    )  # fmt: skip


def sums(count: int, seed: int = 0) -> list[tuple[int, str]]:
    """Sums of two digits with their level: right at level 2, wrong by one at level 1."""
    pick = random.Random(seed)
    found = []
    for _ in range(count):
        left, right, level = pick.randrange(10), pick.randrange(10), pick.choice((1, 2))
        found.append((level, f"{left}+{right}={(left + right + 2 - level) % 20}"))
    return found


def prepared(
    storage: Path,
    documents: Sequence[tuple[int, str]],
    *,
    conditioned: bool = True,
    anneal: Sequence[tuple[int, str]] = (),
    blocks: int = 2,
    holdout: Sequence[Mapping[str, Any]] | None = None,
    vocabulary: int = len(VOCABULARY),
    chat: bool = False,
    feedback: int = 0,
) -> str:
    """Commit a Prepare artifact of documents with their levels (0: none); answers its key. `feedback`: FLOPs
    of an annotation that it has read."""
    agreed = contract(chat=chat) if conditioned else None
    rows = [_segment(level, text, agreed) for level, text in documents]
    files = {
        f"main-{block:05d}.arrow": _arrow(_pack(rows[block::blocks]), vocabulary) for block in range(blocks)
    }
    if anneal:
        files["anneal-00000.arrow"] = _arrow(
            _pack([_segment(level, text, agreed) for level, text in anneal]), vocabulary
        )
    if holdout is None:
        holdout = [held(level, text) for level, text in sums(8, seed=99)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(holdout), schema=_HELD), sink)
    files["holdout.parquet"] = sink.getvalue()
    files["conditioning.json"] = json.dumps(agreed.model_dump(mode="json") if agreed else None).encode()

    config = PrepareConfig(
        stage_type=StageType.SFT if chat else StageType.PRETRAIN,
        method=Method.CONDITIONED if conditioned else Method.NEXT_TOKEN,
        conditioning=Conditioning(levels=LEVELS),
        prepare=Prepare(sequence_length=LENGTH),
        tokenizer=ModelSource(),
    )
    inputs = {"inventory": repr((documents, anneal, holdout, blocks, vocabulary))}
    if feedback:
        inputs["feedback/0-15"] = _annotated(storage, feedback)
    image = preimage(config, KINDS[config.kind].version, inputs)
    key = key_of(image)
    writer = ArtifactWriter(open_storage(f"file://{storage}"), key, config.kind, image, run="test", attempt=0)
    for name, data in files.items():
        writer.add(name, data)
    packed = [_pack(rows[block::blocks]) for block in range(blocks)]
    summary = {
        "vocabulary": vocabulary, "tokens": sum(map(len, rows)), "sequences": sum(map(len, packed)),
        "squares": sum(len(row) ** 2 for row in rows),
    }  # fmt: skip
    writer.commit(summary, files)
    return key


def _annotated(storage: Path, flops: int) -> str:
    image = preimage(AnnotateConfig(), 1, {"inventory": str(flops)})
    key = key_of(image)
    store = open_storage(f"file://{storage}")
    ArtifactWriter(store, key, "Annotate", image, run="test", attempt=0).commit({"flops": flops}, [])
    return key


def held(level: int, text: str, messages: Sequence[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A row of holdout.parquet."""
    return {
        "id": f"{abs(hash(text)):032x}"[:32], "level": level, "text": text,
        "messages": Conversation(list(messages)).to_json() if messages else None, "critique": None,
    }  # fmt: skip


def _segment(level: int, text: str, agreed: Prefixes | None) -> list[int]:
    feedback = agreed.by_level[level] if agreed and level else ""
    return [VOCABULARY[BOS], *ids_of(feedback + text), VOCABULARY[EOS]]


def _pack(segments: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Segments end to end until the next no longer fits."""
    rows: list[dict[str, Any]] = []
    ids: list[int] = []
    starts: list[int] = []
    for segment in [*segments, None]:
        if segment is None or len(ids) + len(segment) > LENGTH:
            mask = np.ones(len(ids), np.uint8)
            mask[starts] = 0
            padding = LENGTH - len(ids)
            rows.append(
                {
                    "input_ids": [*ids, *[0] * padding], "loss_mask": [*mask.tolist(), *[0] * padding],
                    "starts": starts, "levels": [0] * len(starts), "documents": [0] * len(starts),
                    "length": len(ids),
                }
            )  # fmt: skip
            ids, starts = [], []
        if segment is not None:
            starts = [*starts, len(ids)]
            ids = [*ids, *segment]
    return rows


def _arrow(rows: list[dict[str, Any]], vocabulary: int) -> bytes:
    token = pa.uint16() if vocabulary <= 2**16 else pa.uint32()
    schema = pa.schema(
        {
            "input_ids": pa.list_(token, LENGTH), "loss_mask": pa.list_(pa.uint8(), LENGTH),
            "starts": pa.list_(pa.int32()), "levels": pa.list_(pa.int8()),
            "documents": pa.list_(pa.int32()), "length": pa.int32(),
        }
    )  # fmt: skip
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return sink.getvalue()


_HELD = pa.schema(
    {
        "id": pa.string(), "level": pa.int8(), "text": pa.large_string(), "messages": pa.large_string(),
        "critique": pa.large_string(),
    }
)  # fmt: skip
