"""Reads what the report is about: the artifacts of every lane, and a few documents with their feedback."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from ixt_workloads.contract.configs import ReportLane
from ixt_workloads.contract.settings import Train
from ixt_workloads.data.parquet import table_of
from ixt_workloads.harness import HARNESS
from ixt_workloads.rollouts import ANSWERS
from ixt_workloads.store import Artifact

Json = dict[str, Any]

SAMPLE_CHARACTERS = 1600
"""Longer documents, critiques and reasoning are cut on the page."""


class Scored(NamedTuple):
    """A model's scores, in training or at its end."""

    flops: int
    """Spent until then in all."""
    scores: Json
    stable: bool
    """The learning rate was constant until then, but for its warm-up."""


@dataclass(frozen=True)
class Round:
    """One round of a lane, or with the number 0 what is known before the first."""

    number: int
    flops: int
    """Spent until then in all."""
    scores: Json
    """Of its model, by which the lane is compared: those of its answers where there are any."""
    answers: Json
    """Figures of its answers to held-out prompts by prefix, see `rollouts.figures`."""
    generate: Artifact | None = None
    annotate: Artifact | None = None


@dataclass(frozen=True)
class Lane:
    """One arm and seed in one stage, with its artifacts and what it cost."""

    spec: ReportLane
    inventory: Artifact
    annotate: tuple[Artifact, ...]
    holdout: Artifact | None
    prepare: Artifact
    train: Artifact
    evaluate: Artifact
    before: int
    """FLOPs that it spent in earlier stages."""
    annotation: int
    """FLOPs of the annotations that it has not paid for before."""
    training: int
    """FLOPs of the training, of a Rollout stage of all rounds'."""
    generation: int = 0
    """FLOPs of the samples that it is trained on."""
    rounds: tuple[Round, ...] = ()
    """Of a Rollout stage."""

    @property
    def documents(self) -> Artifact:
        """What the first of its annotations is about."""
        return next((each.generate for each in self.rounds if each.generate), self.inventory)

    @cached_property
    def curve(self) -> list[Json]:
        """The points of the training's curve, see docs/artifacts.md."""
        points: list[Json] = self.train.read_json("curve.json")["points"]
        return points

    @cached_property
    def points(self) -> list["Scored"]:
        """Scores by rising FLOPs: those in training, and those of the end; of rounds, those after each."""
        if self.rounds:
            return [Scored(each.flops, each.scores, stable=False) for each in self.rounds if each.scores]
        config = self.train.manifest.preimage["config"]
        schedule = Train.model_validate(config["train"]).schedule
        steps, start = int(self.train.summary["steps"]), self.before + self.annotation
        # An annealed arm changes its data at the end: before that it is another arm.
        whole = not config.get("annealPercent")
        found = [
            Scored(
                start + int(point["flops"]),
                point["evaluation"],
                stable=whole and schedule.is_stable(point["step"], steps),
            )
            for point in self.curve
            if point.get("evaluation") and point["flops"] < self.training
        ]
        end = Scored(start + self.training, self.scores, stable=whole and schedule.is_stable(steps, steps))
        return [*found, end]

    @property
    def scores(self) -> Json:
        """Scores of the trained model, with those of its answers to held-out prompts."""
        scores: Json = self.evaluation["scores"]
        answers = self.rounds[-1].answers if self.rounds else {}
        return {**scores, "tasks": {**scores.get("tasks", {}), **_as_task(answers)}}

    @cached_property
    def harness(self) -> Json:
        """Scores on tasks of lm-evaluation-harness; empty where there are none."""
        found: Json = self.evaluate.read_json(HARNESS) if HARNESS in self.evaluate.paths else {}
        return found

    @cached_property
    def evaluation(self) -> Json:
        """The whole evaluation of the trained model."""
        evaluation: Json = self.evaluate.read_json("evaluation.json")
        return evaluation


def read_lanes(specs: Iterable[ReportLane], artifact: Callable[[str], Artifact]) -> list[Lane]:
    """The lanes of all stages, in their order. `artifact` opens a node's by its name.

    A lane pays for each of its annotations once, though other lanes share them.
    """
    spent: Counter[tuple[str, int]] = Counter()
    paid: set[tuple[str, int, str]] = set()
    lanes = []
    for spec in specs:
        who = (spec.arm, spec.seed)
        annotations = tuple(map(artifact, spec.annotate))
        annotation = sum(flops_of(each) for each in annotations if (*who, each.key) not in paid)
        rounds = tuple(_rounds(spec, spent[who], artifact))
        trainings = [artifact(each.train) for each in spec.rounds] or [artifact(spec.train)]
        samples = [artifact(each.generate) for each in spec.rounds]
        lane = Lane(
            spec=spec,
            inventory=artifact(spec.inventory),
            annotate=annotations,
            holdout=artifact(spec.holdout) if spec.holdout else None,
            prepare=artifact(spec.prepare),
            train=artifact(spec.train),
            evaluate=artifact(spec.evaluate),
            before=spent[who],
            annotation=annotation,
            training=sum(int(each.summary["flops"]) for each in trainings),
            generation=sum(map(flops_of, samples)),
            rounds=rounds,
        )
        paid.update((*who, each.key) for each in annotations)
        spent[who] += lane.annotation + lane.training + lane.generation
        lanes.append(lane)
    return lanes


def _rounds(spec: ReportLane, before: int, artifact: Callable[[str], Artifact]) -> Iterator[Round]:
    """The rounds of a lane that had spent so much before them."""
    if spec.start:
        answers = artifact(spec.start).summary["rollout"]
        yield Round(0, before, _scores_of(answers), answers)
    flops = before
    for each in spec.rounds:
        generate, annotate, train = map(artifact, (each.generate, each.annotate, each.train))
        flops += sum(map(flops_of, (generate, annotate, train)))
        evaluate = artifact(each.evaluate)
        answers = evaluate.summary.get("rollout") or {}
        scores = _scores_of(answers) if answers else evaluate.read_json("evaluation.json")["scores"]
        yield Round(each.round, flops, scores, answers, generate, annotate)


def _scores_of(answers: Json) -> Json:
    """Figures of answers as the scores of an evaluation of which they are the only task."""
    items = {
        prefix: {"right": found["items"], "items": [1] * len(found["items"])}
        for prefix, found in answers.items()
    }
    return {"tasks": _as_task(answers), "documents": {}, "items": {"tasks": {ANSWERS: items}}}


def _as_task(answers: Json) -> Json:
    return {
        name: {
            prefix: {"accuracy": found["passAt"]["1"], "items": found["prompts"]}
            for prefix, found in answers.items()
        }
        for name in [ANSWERS]
        if answers
    }


def flops_of(made: Artifact) -> int:
    """Cost of what a lane pays for; 0 where the judge's size is not known, or nothing was judged."""
    return int(made.summary.get("flops") or 0)


def judged_documents(laid_out: Artifact, feedback: Artifact) -> list[Json]:
    """The best, the middle and the worst document of the first shard, with their feedback. `laid_out` has the
    documents: an Inventory, or a policy's samples.

    One shard is a uniform sample, so no more is read.
    """
    shard = next((path for path in feedback.paths if path.startswith("feedback-0")), None)
    if shard is None:
        return []
    file = feedback.file(shard)
    valid = pc.field("status") == "ok"
    scores = table_of(file, columns=["id", "score"], filters=valid).sort_by(
        [("score", "descending"), ("id", "ascending")]
    )
    if scores.num_rows == 0:
        return []
    places = dict.fromkeys([0, scores.num_rows // 2, scores.num_rows - 1])
    ids = [scores["id"][place].as_py() for place in places]
    columns = ["id", "score", "axes", "critique", "reasoning", "truncated"]
    rows = _by_id(table_of(file, columns=columns, filters=_among(ids)))
    documents = laid_out.file(shard.replace("feedback-", "docs-"))
    texts = _by_id(table_of(documents, columns=["id", "source", "text"], filters=_among(ids)))
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
