"""Feedback on the documents of an inventory, and what Prepare makes of both."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from ixt_workloads.contract.configs import AnnotateConfig, PrepareConfig
from ixt_workloads.contract.graph import Task
from ixt_workloads.contract.rubrics import RubricText
from ixt_workloads.contract.settings import (
    Conditioning,
    EvalTask,
    Gates,
    Method,
    ModelSource,
    Prepare,
    Scale,
    StageType,
)
from ixt_workloads.data.packed import PackedData
from ixt_workloads.data.pinned import pins_of_model
from ixt_workloads.steps.annotate.rows import Row, Tally, to_parquet
from ixt_workloads.store import Artifact, ArtifactWriter, open_store
from make.corpora import artifact, dataset, inventory_task, jsonl
from make.models import VOCABULARY
from make.tasks import run_here, task

RUBRIC = RubricText(instructions="Judge it.", ideal_critique="Splendid work.", worst_critique="Poor work.")
"""Scores from 1 to 5."""

Judged = Callable[[Mapping[str, Any]], tuple[float, str] | None]
"""Score and critique of a document, None for one whose feedback is invalid."""


def score_of(row: Mapping[str, Any]) -> int:
    """From 1 to 5, by the number of a text of make.corpora."""
    return int(row["text"].split(":")[0].split("-")[1]) % 5 + 1


def judged(row: Mapping[str, Any]) -> tuple[float, str]:
    """Feedback by that score."""
    return score_of(row), f"Worth a {score_of(row)}."


_CHARACTERS = {number: character for character, number in VOCABULARY.items()}


def inventory(folder: Path, documents: Sequence[Any], **config: Any) -> Artifact:
    """An inventory of texts, or of conversations."""
    field = "text" if isinstance(documents[0], str) else "messages"
    path = jsonl(folder / "corpus.jsonl", [{field: document} for document in documents])
    data = dataset(path, messages_field=None if field == "text" else field, **config.pop("dataset", {}))
    storage = folder / "storage"
    return artifact(storage, run_here(inventory_task(storage, data, **config)).key)


def feedback(folder: Path, found: Artifact, judged: Judged, start: int = 0, end: int = 100) -> Artifact:
    """Commit feedback on a band of an inventory's documents, in percent, as Annotate does."""
    docs = [path for path in found.paths if path.startswith("docs-")]
    return _feedback(folder, found, docs, judged, AnnotateConfig(from_percent=start, to_percent=end))


def held_feedback(folder: Path, found: Artifact, judged: Judged) -> Artifact:
    """Commit feedback on the held-out documents, as Annotate does."""
    return _feedback(folder, found, ["holdout.parquet"], judged, AnnotateConfig(holdout=True))


def _feedback(
    folder: Path, found: Artifact, docs: Sequence[str], judged: Judged, config: AnnotateConfig
) -> Artifact:
    storage = folder / "storage"
    job = task(config, storage, {"inventory": found.key}, {"judge": "f" * 64})
    writer = ArtifactWriter(
        open_store(job.storage), job.key, job.config.kind, job.preimage, run=job.run, attempt=job.attempt
    )
    files = {}
    for path in docs:
        made = []
        for row in pq.read_table(found.file(path)).to_pylist():
            inside = config.from_percent * 10_000 <= row["sample"] < config.to_percent * 10_000
            if "-" in row["id"] or not (config.holdout or inside):
                continue
            given = judged(row)
            score, critique = given or (None, "")
            made.append(Row(row["id"], "ok" if given else "invalid", score, critique=critique))
        files[f"feedback-{path.removeprefix('docs-')}"] = to_parquet(made, Tally())
    for name, data in files.items():
        writer.add(name, data)
    return writer.commit({}, files)


def prepare_task(
    folder: Path,
    found: Artifact,
    tokenizer: Path,
    *bands: Artifact,
    held: Artifact | None = None,
    method: Method = Method.CONDITIONED,
    stage_type: StageType = StageType.PRETRAIN,
    length: int = 128,
    rubric: RubricText | None = RUBRIC,
    attempt: int = 0,
    indexes: int = 1,
    chat_template: str | None = None,
    tasks: Sequence[EvalTask] = (),
    earlier: Sequence[Artifact] = (),
    scale: Scale | None = None,
    gates: Gates = Gates(),  # noqa: B008 - frozen
    seed: int = 0,
    **conditioning: Any,
) -> Task:
    """A task of Prepare over an inventory and bands of feedback; nothing is dropped out unless told."""
    config = PrepareConfig(
        stage_type=stage_type,
        method=method,
        conditioning=Conditioning(**{"dropout_percent": 0, **conditioning}),
        prepare=Prepare(sequence_length=length),
        rubric=rubric,
        scale=scale,
        gates=gates,
        tasks=tuple(tasks),
        seed=seed,
        tokenizer=ModelSource(tokenizer=f"file://{tokenizer}", chat_template=chat_template),
    )
    inputs = {"inventory": found.key} | {f"feedback/{band.key}": band.key for band in bands}
    if held:
        inputs["holdout"] = held.key
    inputs |= {f"earlier/{place}": each.key for place, each in enumerate(earlier)}
    pins = pins_of_model(config.tokenizer, "tokenizer")
    return task(config, folder / "storage", inputs, pins, attempt=attempt, indexes=indexes)


def prepared(job: Task) -> Artifact:
    """What a task of Prepare commits, run here."""
    run_here(job)
    return _artifact(job)


class Segment(NamedTuple):
    """Part of a document in a packed row, in characters."""

    text: str
    targets: str
    """What of it is a target."""
    level: int
    document: str
    """The whole document: a text, or a conversation as the judge reads it."""
    row: int


def packed(job: Task, split: str = "main") -> PackedData:
    """The packed rows of a Prepare artifact."""
    return PackedData.open(_artifact(job), split)


def segments(job: Task, split: str = "main") -> list[Segment]:
    """What a Prepare artifact holds, in order, spelt by the tokenizer of make.models."""
    found = _artifact(job)
    documents = Artifact.open(found.store, job.inputs["inventory"])
    data = packed(job, split)
    rows = iter(range(len(data)))
    made = []
    for block, size in enumerate(data.block_sizes):
        texts = pq.read_table(documents.file(f"docs-{block:05d}.parquet"))["text"].to_pylist()
        for row in [next(rows) for _ in range(size)]:
            entry = data[row]
            ends = [*entry.starts[1:], entry.length]
            for start, end, level, document in zip(
                entry.starts, ends, entry.levels, entry.documents, strict=True
            ):
                ids, mask = entry.input_ids[start:end], entry.loss_mask[start:end].astype(bool)
                made.append(Segment(spelt(ids), spelt(ids[mask]), int(level), texts[document], row))
    return made


def spelt(ids: np.ndarray) -> str:
    """Tokens as text."""
    return "".join(_CHARACTERS[int(number)] for number in ids)


def levels(job: Task) -> Counter[int]:
    """Segments by their level."""
    return Counter(segment.level for segment in segments(job))


def _artifact(job: Task) -> Artifact:
    return Artifact.open(open_store(job.storage), job.key)
