"""A model's answers to prompts, as a round of a stage of rollouts has them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ixt_workloads.data.chat import Conversation
from ixt_workloads.data.parquet import parquet
from ixt_workloads.store import Artifact, ArtifactWriter, open_store

TEXTS = (
    *("id", "source", "text", "messages", "critique", "answer", "extra"),
    *("prompt_id", "completion", "finish", "prefix"),
)
SCHEMA = pa.schema(
    [
        *((name, pa.large_string()) for name in TEXTS),
        ("sample", pa.int32()),
        ("score", pa.float64()),
        ("completion_tokens", pa.int32()),
        ("sample_index", pa.int16()),
    ]
)


def answer(question: str, said: str, reference: Any, number: int = 0, **fields: Any) -> dict[str, Any]:
    """One answer as a row."""
    asked = [{"role": "user", "content": question}]
    talk = Conversation([*asked, {"role": "assistant", "content": said}])
    name = question.encode().hex()
    return {
        "id": f"{name}.1.{number}",
        "source": "sums",
        "text": talk.as_text(),
        "messages": talk.to_json(),
        "answer": None if reference is None else json.dumps(reference),
        "extra": json.dumps({"plain": True, "columns": {"answer": reference}}),
        "prompt_id": name,
        "completion": said,
        "finish": "stop",
        "prefix": "Best",
        "sample": 0,
        "completion_tokens": len(said),
        "sample_index": number,
        **fields,
    }


def samples(storage: Path, rows: Sequence[dict[str, Any]], key: str = "5" * 32) -> Artifact:
    """The artifact of a round with these answers, half in each of two shards."""
    writer = ArtifactWriter(open_store(f"file://{storage}"), key, "Generate", {}, run="test", attempt=0)
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        table = pa.Table.from_pylist([{name: None, **row} for row in part for name in ("critique",)], SCHEMA)
        writer.add(f"docs-{number:05d}.parquet", parquet(table))
    names = ["docs-00000.parquet", "docs-00001.parquet"]
    return writer.commit({"documents": len(rows), "holdout": 0, "shards": 2}, names)
