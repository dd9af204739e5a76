"""Reads what the report is about: the artifacts of every lane, and a few documents with their feedback."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import ReportLane
from ixt_workloads.store import Artifact

Json = dict[str, Any]

SAMPLE_CHARACTERS = 1600
"""Longer documents, critiques and reasoning are cut on the page."""


@dataclass(frozen=True)
class LaneArtifacts:
    """One arm and seed in one stage, with its artifacts."""

    spec: ReportLane
    inventory: Artifact
    annotate: tuple[Artifact, ...]
    holdout: Artifact | None
    prepare: Artifact
    train: Artifact
    evaluate: Artifact

    @cached_property
    def points(self) -> list[Json]:
        """Of the training curve, by rising step."""
        points: list[Json] = self.train.read_json("curve.json")["points"]
        return points

    @cached_property
    def evaluation(self) -> Json:
        """The whole evaluation of the trained model."""
        evaluation: Json = self.evaluate.read_json("evaluation.json")
        return evaluation


def read_lane(spec: ReportLane, artifact: Callable[[str], Artifact]) -> LaneArtifacts:
    """A lane's artifacts. `artifact` opens a node's by its name."""
    return LaneArtifacts(
        spec=spec,
        inventory=artifact(spec.inventory),
        annotate=tuple(artifact(name) for name in spec.annotate),
        holdout=artifact(spec.holdout) if spec.holdout else None,
        prepare=artifact(spec.prepare),
        train=artifact(spec.train),
        evaluate=artifact(spec.evaluate),
    )


def judged_documents(inventory: Artifact, feedback: Artifact) -> list[Json]:
    """The best, the middle and the worst document of the first shard, with their feedback.

    One shard is a uniform sample, so no more is read.
    """
    shard = next((path for path in feedback.paths if path.startswith("feedback-0")), None)
    if shard is None:
        return []
    file = feedback.file(shard)
    valid = pc.field("status") == "ok"
    scores = pq.read_table(file, columns=["id", "score"], filters=valid).sort_by(
        [("score", "descending"), ("id", "ascending")]
    )
    if scores.num_rows == 0:
        return []
    places = dict.fromkeys([0, scores.num_rows // 2, scores.num_rows - 1])
    ids = [scores["id"][place].as_py() for place in places]
    columns = ["id", "score", "axes", "critique", "reasoning", "truncated"]
    rows = _by_id(pq.read_table(file, columns=columns, filters=_among(ids)))
    documents = inventory.file(shard.replace("feedback-", "docs-"))
    texts = _by_id(pq.read_table(documents, columns=["id", "source", "text"], filters=_among(ids)))
    return [
        {
            "id": name,
            "source": texts[name]["source"],
            "score": rows[name]["score"],
            "axes": json.loads(rows[name]["axes"] or "{}"),
            "text": cut(texts[name]["text"]),
            "critique": cut(rows[name]["critique"]),
            "reasoning": cut(rows[name]["reasoning"]),
            "truncated": rows[name]["truncated"],
        }
        for name in ids
        if name in texts
    ]


def cut(text: str | None) -> str:
    """The beginning of a long text."""
    text = text or ""
    return text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS].rstrip() + " …"


def _among(ids: list[str]) -> pc.Expression:
    return pc.field("id").isin(pa.array(ids, pa.string()))


def _by_id(table: pa.Table) -> Mapping[str, Json]:
    return {row["id"]: row for row in table.to_pylist()}
