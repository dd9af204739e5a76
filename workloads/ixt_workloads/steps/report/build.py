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


class _Run:
    """One lane with its account: FLOPs spent before it and on its annotation, and its evaluated points."""

    def __init__(self, lane: LaneArtifacts, before: int, annotation: int) -> None:
        self.lane = lane
        self.seed = lane.spec.seed
        self.before = before
        self.annotation = annotation
        self.training = int(lane.train.summary["flops"])
        start = before + annotation
        self.points = [
            (start + int(point["flops"]), point["evaluation"])
            for point in lane.points
            if point.get("evaluation") and point["flops"] < self.training
        ]
        self.scores: Json = lane.evaluation["scores"]
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
    lane: LaneArtifacts, spent: Counter[tuple[str, int]], paid: dict[tuple[str, int], set[str]]
) -> _Run:
    """Charge a lane: every annotation once, up front, whichever other lanes share it."""
    who = (lane.spec.arm, lane.spec.seed)
    known = paid.setdefault(who, set())
    fresh = [artifact for artifact in lane.annotate if artifact.key not in known]
    known.update(artifact.key for artifact in fresh)
    run = _Run(lane, spent[who], sum(flops_of(artifact) for artifact in fresh))
    spent[who] += run.annotation + run.training
    return run


def _stage(name: str, runs: Sequence[_Run]) -> Json:
    by_arm = {arm: list(group) for arm, group in groupby(runs, key=lambda run: run.lane.spec.arm)}
    arms = [_arm(group) for group in by_arm.values()]
    reference = next((run for run in runs if run.lane.annotate and run.lane.spec.method.conditions), None)
    reference = reference or next((run for run in runs if run.lane.annotate), None)
    inventory = runs[0].lane.inventory
    annotations = _unique(artifact for run in runs for artifact in run.lane.annotate)
    holdout = _unique(run.lane.holdout for run in runs if run.lane.holdout)
    return {
        "name": name,
        "type": runs[0].lane.spec.stage_type.value,
        "verdict": _verdict(arms, all(map(cost_known, annotations))),
        "seeds": max(len(arm["seeds"]) for arm in arms),
        "arms": arms,
        "ratio": annotation_ratio(reference.lane, reference.training) if reference else None,
        "annotation": account(annotations) if annotations else None,
        "holdoutAnnotation": account(holdout) if holdout else None,
        "feedback": feedback_figures(annotations, reference.lane) if annotations and reference else None,
        "inventory": dict(inventory.summary),
        "levels": sorted(
            {level for arm in arms for level in arm["prepared"].get("levels") or {}}, key=numeric
        ),
    }


def _unique(artifacts: Iterable[Artifact]) -> list[Artifact]:
    return list({artifact.key: artifact for artifact in artifacts}.values())


# --- arms ---


def _arm(runs: Sequence[_Run]) -> Json:
    first = runs[0]
    method = first.lane.spec.method
    prefix = "Best" if method.conditions else "None"
    return {
        "name": first.lane.spec.arm,
        "method": method.value,
        "prefix": prefix,
        "seeds": [run.seed for run in runs],
        "flops": {
            "before": fmean(run.before for run in runs),
            "annotation": fmean(run.annotation for run in runs),
            "annotationByKind": by_kind(first.lane.annotate, first.annotation),
            "training": fmean(run.training for run in runs),
            "total": fmean(run.points[-1][0] for run in runs),
        },
        "annotatedPercent": percentage(
            sum(artifact.summary["documents"] for artifact in first.lane.annotate),
            first.lane.inventory.summary["documents"],
        ),
        "training": _training(runs),
        "curves": {
            metric.value: [
                {"seed": run.seed, "flops": list(curve.flops), "quality": list(curve.quality)}
                for run in runs
                if (curve := _curve(run, metric, prefix))
            ]
            for metric in Measure
        },
        "accuracy": _accuracies(runs),
        "tasks": _tasks(runs),
        "logProbability": _documents(runs),
        "levels": _levels(runs),
        "prepared": dict(first.lane.prepare.summary),
        "prefixTokens": _prefix_tokens(first.lane.prepare.summary),
    }


def _prefix_tokens(prepared: Json) -> float:
    """Mean length of a prefix: what asking for feedback adds to a prompt."""
    conditioned = prepared.get("conditioned") or 0
    return (prepared.get("feedbackTokens") or 0) / conditioned if conditioned else 0.0


def _training(runs: Sequence[_Run]) -> Json:
    summaries = [run.lane.train.summary for run in runs]
    names = ("tokens", "uniqueTokens", "epochs", "steps", "finalLoss", "parameters")
    return {name: _mean(summary.get(name) for summary in summaries) for name in names}


def _curve(run: _Run, metric: Measure, prefix: str) -> Curve | None:
    if metric is Measure.ACCURACY:
        return run.curve(_accuracy(scores, prefix) for _, scores in run.points)
    losses = (_loss(scores) for _, scores in run.points)
    return run.curve(None if loss is None else -loss for loss in losses)


def _accuracy(scores: Json, prefix: str) -> float | None:
    """Mean over the tasks, of which each must have been asked with the prefix."""
    tasks = scores.get("tasks") or {}
    if not tasks or any(prefix not in asked for asked in tasks.values()):
        return None
    return fmean(asked[prefix]["accuracy"] for asked in tasks.values())


def _loss(scores: Json) -> float | None:
    documents = scores.get("documents") or {}
    return documents["None"]["nll"] if documents.get("None") else None


def _accuracies(runs: Sequence[_Run]) -> dict[str, float]:
    found = {
        prefix: _mean(_accuracy(run.scores, prefix) for run in runs)
        for prefix in ("Best", "None", "Worst", "Random")
    }
    return {prefix: value for prefix, value in found.items() if value is not None}


def _tasks(runs: Sequence[_Run]) -> dict[str, Json]:
    """Accuracy by task and prefix, and how many questions stand behind it."""
    first = runs[0].scores.get("tasks") or {}
    return {
        task: {
            "items": max((score.get("items", 0) for score in asked.values()), default=0),
            "accuracy": {
                prefix: _mean(
                    run.scores["tasks"].get(task, {}).get(prefix, {}).get("accuracy") for run in runs
                )
                for prefix in asked
            },
        }
        for task, asked in first.items()
    }


def _documents(runs: Sequence[_Run]) -> dict[str, float | None]:
    """Nats a token of held-out documents by the prefix before them, lower is better."""
    first = runs[0].scores.get("documents") or {}
    return {
        prefix: _mean((run.scores["documents"].get(prefix) or {}).get("nll") for run in runs)
        for prefix in first
    }


def _levels(runs: Sequence[_Run]) -> list[Json]:
    """Nats a token of held-out documents by their level and the prefix before them."""
    rows = {}
    for row in runs[0].scores.get("levels") or []:
        same = [
            other
            for run in runs
            for other in run.scores.get("levels") or []
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
