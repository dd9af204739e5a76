"""The report as one JSON value, from the lanes' artifacts: every number of the page, in page order."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from ixt_workloads.contract.configs import ReportLane
from ixt_workloads.contract.keys import differences
from ixt_workloads.contract.settings import Method
from ixt_workloads.steps.report.annotation import (
    account,
    annotation_ratio,
    by_kind,
    cost_known,
    feedback_figures,
    flops_of,
    numeric,
    percentage,
)
from ixt_workloads.steps.report.curves import Curve
from ixt_workloads.steps.report.read import Json, LaneArtifacts
from ixt_workloads.steps.report.verdict import Contender, Measure, judge
from ixt_workloads.store import Artifact


def build(title: str, lanes: Sequence[LaneArtifacts], nodes: Mapping[str, Artifact]) -> Json:
    """The whole report. Lanes of a stage stand together, stages in their order."""
    spent: Counter[tuple[str, int]] = Counter()
    paid: dict[tuple[str, int], set[str]] = {}
    stages = []
    for name, group in groupby(lanes, key=lambda lane: lane.spec.stage):
        stages.append(_stage(name, [_account(lane, spent, paid) for lane in group]))
    evaluated = [stage for stage in stages if stage["verdict"]["metric"]]
    main = evaluated[-1] if evaluated else stages[-1]
    about = f"Stage {main['name']}: " if evaluated and len(stages) > 1 else ""
    return {
        "title": title,
        "headline": about + main["verdict"]["headline"],
        "verdictOf": main["name"],
        "stages": stages,
        "lineage": _lineage(nodes, [lane.spec for lane in lanes]),
    }


class _Lane:
    """A lane in one stage: FLOPs spent before it and on its annotation, and its evaluated points."""

    def __init__(self, artifacts: LaneArtifacts, before: int, annotation: int) -> None:
        self.artifacts = artifacts
        self.seed = artifacts.spec.seed
        self.before = before
        self.annotation = annotation
        self.training = int(artifacts.train.summary["flops"])
        start = before + annotation
        self.points = [
            (start + int(point["flops"]), point["evaluation"])
            for point in artifacts.points
            if point.get("evaluation") and point["flops"] < self.training
        ]
        self.scores: Json = artifacts.evaluation["scores"]
        self.points.append((start + self.training, self.scores))

    def curve(self, values: Iterable[float | None]) -> Curve | None:
        """A curve of the points that have a finite value."""
        found = {
            flops: value
            for (flops, _), value in zip(self.points, values, strict=True)
            if value is not None and math.isfinite(value)
        }
        places = sorted(found)
        return Curve(tuple(places), tuple(found[place] for place in places)) if found else None


def _account(
    artifacts: LaneArtifacts, spent: Counter[tuple[str, int]], paid: dict[tuple[str, int], set[str]]
) -> _Lane:
    """A lane with its costs: it pays for each of its annotations once, though other lanes share them."""
    who = (artifacts.spec.arm, artifacts.spec.seed)
    known = paid.setdefault(who, set())
    fresh = [annotation for annotation in artifacts.annotate if annotation.key not in known]
    known.update(annotation.key for annotation in fresh)
    lane = _Lane(artifacts, spent[who], sum(map(flops_of, fresh)))
    spent[who] += lane.annotation + lane.training
    return lane


def _stage(name: str, lanes: Sequence[_Lane]) -> Json:
    by_arm = {arm: list(group) for arm, group in groupby(lanes, key=lambda lane: lane.artifacts.spec.arm)}
    arms = [_arm(group) for group in by_arm.values()]
    annotated = [lane for lane in lanes if lane.artifacts.annotate]
    reference = next((lane for lane in annotated if lane.artifacts.spec.method.conditions), None)
    reference = reference or next(iter(annotated), None)
    inventory = lanes[0].artifacts.inventory
    annotations = _unique(artifact for lane in lanes for artifact in lane.artifacts.annotate)
    holdout = _unique(lane.artifacts.holdout for lane in lanes if lane.artifacts.holdout)
    return {
        "name": name,
        "type": lanes[0].artifacts.spec.stage_type.value,
        "verdict": _verdict(arms, all(map(cost_known, annotations))),
        "seeds": max(len(arm["seeds"]) for arm in arms),
        "arms": arms,
        "ratio": annotation_ratio(reference.artifacts, reference.training) if reference else None,
        "annotation": account(annotations) if annotations else None,
        "holdoutAnnotation": account(holdout) if holdout else None,
        "feedback": feedback_figures(annotations, reference.artifacts) if annotations and reference else None,
        "inventory": dict(inventory.summary),
        "levels": sorted(
            {level for arm in arms for level in arm["prepared"].get("levels") or {}}, key=numeric
        ),
    }


def _unique(artifacts: Iterable[Artifact]) -> list[Artifact]:
    return list({artifact.key: artifact for artifact in artifacts}.values())


# --- arms ---


def _arm(lanes: Sequence[_Lane]) -> Json:
    first = lanes[0]
    method = first.artifacts.spec.method
    prefix = "Best" if method.conditions else "None"
    return {
        "name": first.artifacts.spec.arm,
        "method": method.value,
        "prefix": prefix,
        "seeds": [lane.seed for lane in lanes],
        "flops": {
            "before": fmean(lane.before for lane in lanes),
            "annotation": fmean(lane.annotation for lane in lanes),
            "annotationByKind": by_kind(first.artifacts.annotate, first.annotation),
            "training": fmean(lane.training for lane in lanes),
            "total": fmean(lane.points[-1][0] for lane in lanes),
        },
        "annotatedPercent": percentage(
            sum(artifact.summary["documents"] for artifact in first.artifacts.annotate),
            first.artifacts.inventory.summary["documents"],
        ),
        "training": _training(lanes),
        "curves": {
            metric.value: [
                {"seed": lane.seed, "flops": list(curve.flops), "quality": list(curve.quality)}
                for lane in lanes
                if (curve := _curve(lane, metric, prefix))
            ]
            for metric in Measure
        },
        "accuracy": _accuracies(lanes),
        "tasks": _tasks(lanes),
        "logProbability": _documents(lanes),
        "levels": _levels(lanes),
        "prepared": dict(first.artifacts.prepare.summary),
        "prefixTokens": _prefix_tokens(first.artifacts.prepare.summary),
    }


def _prefix_tokens(prepared: Json) -> float:
    """Mean length of a prefix: what asking for feedback adds to a prompt."""
    conditioned = prepared.get("conditioned") or 0
    return (prepared.get("feedbackTokens") or 0) / conditioned if conditioned else 0.0


def _training(lanes: Sequence[_Lane]) -> Json:
    summaries = [lane.artifacts.train.summary for lane in lanes]
    names = ("tokens", "uniqueTokens", "epochs", "steps", "finalLoss", "parameters")
    return {name: _mean(summary.get(name) for summary in summaries) for name in names}


def _curve(lane: _Lane, metric: Measure, prefix: str) -> Curve | None:
    if metric is Measure.ACCURACY:
        return lane.curve(_accuracy(scores, prefix) for _, scores in lane.points)
    losses = (_loss(scores) for _, scores in lane.points)
    return lane.curve(None if loss is None else -loss for loss in losses)


def _accuracy(scores: Json, prefix: str) -> float | None:
    """Mean over the tasks, of which each must have been asked with the prefix."""
    tasks = scores.get("tasks") or {}
    if not tasks or any(prefix not in asked for asked in tasks.values()):
        return None
    return fmean(asked[prefix]["accuracy"] for asked in tasks.values())


def _loss(scores: Json) -> float | None:
    documents = scores.get("documents") or {}
    return documents["None"]["nll"] if documents.get("None") else None


def _accuracies(lanes: Sequence[_Lane]) -> dict[str, float]:
    found = {
        prefix: _mean(_accuracy(lane.scores, prefix) for lane in lanes)
        for prefix in ("Best", "None", "Worst", "Random")
    }
    return {prefix: value for prefix, value in found.items() if value is not None}


def _tasks(lanes: Sequence[_Lane]) -> dict[str, Json]:
    """Accuracy by task and prefix, and how many questions stand behind it."""
    first = lanes[0].scores.get("tasks") or {}
    return {
        task: {
            "items": max((score.get("items", 0) for score in asked.values()), default=0),
            "accuracy": {
                prefix: _mean(
                    lane.scores["tasks"].get(task, {}).get(prefix, {}).get("accuracy") for lane in lanes
                )
                for prefix in asked
            },
        }
        for task, asked in first.items()
    }


def _documents(lanes: Sequence[_Lane]) -> dict[str, float | None]:
    """Nats a token of held-out documents by the prefix before them, lower is better."""
    first = lanes[0].scores.get("documents") or {}
    return {
        prefix: _mean((lane.scores["documents"].get(prefix) or {}).get("nll") for lane in lanes)
        for prefix in first
    }


def _levels(lanes: Sequence[_Lane]) -> list[Json]:
    """Nats a token of held-out documents by their level and the prefix before them."""
    rows = {}
    for row in lanes[0].scores.get("levels") or []:
        same = [
            other
            for lane in lanes
            for other in lane.scores.get("levels") or []
            if other["level"] == row["level"]
        ]
        rows[row["level"]] = {
            "level": row["level"],
            "documents": row["documents"],
            "nll": {prefix: _mean(other["nll"].get(prefix) for other in same) for prefix in row["nll"]},
        }
    return [rows[level] for level in sorted(rows)]


# --- verdict ---


def _verdict(arms: Sequence[Json], costs_known: bool) -> Json:
    """The verdict by accuracy; by the log-probability of held-out documents where not all arms have one."""
    measured = [metric for metric in Measure if any(arm["curves"][metric.value] for arm in arms)]
    shared = [metric for metric in measured if all(arm["curves"][metric.value] for arm in arms)]
    metric = next(iter(shared or measured), None)
    if metric is None:
        return {"metric": None, "items": 0, **judge([], Measure.ACCURACY).model_dump(mode="json")}
    contenders = [
        Contender(
            name=arm["name"],
            method=Method(arm["method"]),
            prefix=arm["prefix"],
            annotation=arm["flops"]["before"] + arm["flops"]["annotation"],
            curves={
                curve["seed"]: Curve(tuple(curve["flops"]), tuple(curve["quality"]))
                for curve in arm["curves"][metric.value]
            },
        )
        for arm in arms
        if arm["curves"][metric.value]
    ]
    items = sum(task["items"] for task in arms[0]["tasks"].values())
    found = judge(contenders, metric, items, costs_known)
    return {"metric": metric.value, "items": items, **found.model_dump(mode="json")}


# --- lineage ---


def _lineage(nodes: Mapping[str, Artifact], lanes: Iterable[ReportLane]) -> list[Json]:
    """Every node with what made it; a node's differences are those to its first sibling in its stage."""
    stages = {name: lane.stage for lane in lanes for name in lane.nodes}
    siblings: dict[tuple[str, str], Artifact] = {}
    rows = []
    for name, artifact in nodes.items():
        manifest = artifact.manifest
        sibling = siblings.setdefault((stages[name], manifest.kind), artifact)
        changed = differences(sibling.manifest.preimage, manifest.preimage)
        rows.append(
            {
                "node": name,
                "kind": manifest.kind,
                "key": manifest.key,
                "contentHash": manifest.content_hash,
                "differences": [
                    {"field": path, "sibling": _short(old), "here": _short(new)} for path, old, new in changed
                ],
                "fingerprint": dict(sorted(manifest.fingerprint.items())),
            }
        )
    return rows


def _short(value: Any) -> str:
    text = "default" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None and math.isfinite(value)]
    return fmean(found) if found else None
