"""The report as one JSON value, from the lanes' artifacts: every number of the page, in page order."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

from ixt_workloads.contract.configs import ReportLane
from ixt_workloads.contract.keys import differences
from ixt_workloads.contract.settings import Conditioning, Method
from ixt_workloads.rollouts import ANSWERS
from ixt_workloads.steps.report.annotation import (
    account,
    annotation_ratio,
    by_kind,
    cost_known,
    feedback_figures,
    numeric,
    percentage,
)
from ixt_workloads.steps.report.doubts import doubts
from ixt_workloads.steps.report.harness import harness_of
from ixt_workloads.steps.report.learning import learning
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.measured import accuracy_of, curve_of, lines_of
from ixt_workloads.steps.report.numbers import mean_of
from ixt_workloads.steps.report.read import Json, Lane
from ixt_workloads.steps.report.rounds import told_rounds
from ixt_workloads.steps.report.verdict import contender, judge
from ixt_workloads.store import Artifact

PREFIXES = ("Best", "None", "Random", "Worst")
"""Feedback that is asked for, in the order in which it is shown."""


def build(
    title: str, lanes: Sequence[Lane], nodes: Mapping[str, Artifact], missing: Sequence[str] = ()
) -> Json:
    """The whole report. Lanes of a stage stand together, stages in their order. `missing` are the lanes that
    were given up."""
    grouped = [(name, list(group)) for name, group in groupby(lanes, key=lambda lane: lane.spec.stage)]
    asked = [
        {*(group[0].scores.get("tasks") or {}), *(group[0].harness.get("tasks") or {})}
        for _, group in grouped
    ]
    stages = [
        _stage(name, group, sorted(set().union(*asked[place:])))
        for place, (name, group) in enumerate(grouped)
    ]
    evaluated = [stage for stage in stages if stage["verdict"]["metric"]]
    main = evaluated[-1] if evaluated else stages[-1]
    about = f"Stage {main['name']}: " if evaluated and len(stages) > 1 else ""
    return {
        "title": title,
        "missing": list(missing),
        "headline": about + main["verdict"]["headline"],
        "verdictOf": main["name"],
        "stages": stages,
        "lineage": _lineage(nodes, [lane.spec for lane in lanes]),
    }


def _looked_for(lane: Lane) -> list[str]:
    """The tasks whose questions were looked for in the documents."""
    return [task["name"] for task in lane.prepare.manifest.preimage["config"].get("tasks", [])]


def not_looked_for(lane: Lane, tasks: Sequence[str]) -> list[str]:
    """Those of the tasks whose questions may stand in the documents. A stage's own held-out prompts do not:
    its Inventory parts them from those that are answered."""
    own = {ANSWERS} if lane.rounds else set[str]()
    return sorted({*tasks} - {*_looked_for(lane)} - own)


def _stage(name: str, lanes: Sequence[Lane], tasks: Sequence[str] = ()) -> Json:
    """One stage. `tasks` are those that it or a later stage is evaluated by."""
    by_arm = {arm: list(group) for arm, group in groupby(lanes, key=lambda lane: lane.spec.arm)}
    arms = [_arm(group) for group in by_arm.values()]
    annotated = [lane for lane in lanes if lane.annotate]
    reference = next((lane for lane in annotated if lane.spec.method.conditions), None)
    reference = reference or next(iter(annotated), None)
    annotations = _unique(artifact for lane in lanes for artifact in lane.annotate)
    holdout = _unique(lane.holdout for lane in lanes if lane.holdout)
    stage = {
        "name": name,
        "type": lanes[0].spec.stage_type.value,
        "verdict": _verdict(arms, list(by_arm.values()), all(map(cost_known, annotations))),
        "harness": harness_of(arms, list(by_arm.values()), all(map(cost_known, annotations))),
        "seeds": max(len(arm["seeds"]) for arm in arms),
        "answers": any(row["answers"] for arm in arms for row in arm["rounds"]),
        "arms": arms,
        "ratio": annotation_ratio(reference) if reference and not reference.rounds else None,
        "annotation": account(annotations) if annotations else None,
        "holdoutAnnotation": account(holdout) if holdout else None,
        "feedback": feedback_figures(annotations, reference) if annotations and reference else None,
        "inventory": dict(lanes[0].inventory.summary),
        "asked": _asked(arms),
        "lookedFor": _looked_for(lanes[0]),
        "notLookedFor": not_looked_for(lanes[0], tasks),
        "levels": sorted(
            {level for arm in arms for level in arm["prepared"].get("levels") or {}}, key=numeric
        ),
    }
    return {**stage, "doubts": doubts(stage)}


def _unique(artifacts: Iterable[Artifact]) -> list[Artifact]:
    return list({artifact.key: artifact for artifact in artifacts}.values())


# --- arms ---


def _arm(lanes: Sequence[Lane]) -> Json:
    first = lanes[0]
    method = first.spec.method
    prefix = "Best" if method.conditions else "None"
    return {
        "name": first.spec.arm,
        "method": method.value,
        "prefix": prefix,
        "seeds": [lane.spec.seed for lane in lanes],
        "flops": {
            "before": fmean(lane.before for lane in lanes),
            "annotation": fmean(lane.annotation for lane in lanes),
            "annotationByKind": by_kind(first.annotate, first.annotation),
            "generation": fmean(lane.generation for lane in lanes),
            "training": fmean(lane.training for lane in lanes),
            "total": fmean(lane.points[-1].flops for lane in lanes),
        },
        "annotatedPercent": percentage(
            sum(artifact.summary["documents"] for artifact in first.annotate),
            sum(each.generate.summary["documents"] for each in first.rounds if each.generate)
            or first.inventory.summary["documents"],
        ),
        "training": _training(lanes),
        "learning": learning(lanes),
        "curves": {
            metric.value: [
                {"seed": lane.spec.seed, "flops": list(curve.flops), "quality": list(curve.quality)}
                for lane in lanes
                if (curve := curve_of(lane, metric, prefix))
            ]
            for metric in Measure
        },
        "accuracy": _accuracies(lanes),
        "tasks": _tasks(lanes),
        "logProbability": _documents(lanes),
        "levels": _levels(lanes),
        "rounds": told_rounds([lane.rounds for lane in lanes]),
        "prepared": dict(first.prepare.summary),
        "levelCounts": _level_counts(first),
        "prefixTokens": _prefix_tokens(first.prepare.summary),
    }


def _level_counts(lane: Lane) -> dict[str, int]:
    """Annotated documents by level, those that none has too; empty where an arm has no feedback."""
    told = lane.prepare.summary.get("levels") or {}
    if not told:
        return {}
    # A preimage leaves out defaults: the model has them.
    config = lane.prepare.manifest.preimage["config"]
    every = map(str, range(1, Conditioning.model_validate(config.get("conditioning", {})).levels + 1))
    return {**dict.fromkeys(every, 0), **told}


def _prefix_tokens(prepared: Json) -> float:
    """Mean length of a prefix: what asking for feedback adds to a prompt."""
    conditioned = prepared.get("conditioned") or 0
    return (prepared.get("feedbackTokens") or 0) / conditioned if conditioned else 0.0


def _training(lanes: Sequence[Lane]) -> Json:
    summaries = [lane.train.summary for lane in lanes]
    names = ("tokens", "uniqueTokens", "epochs", "steps", "finalLoss", "parameters")
    return {name: mean_of(summary.get(name) for summary in summaries) for name in names}


def _accuracies(lanes: Sequence[Lane]) -> dict[str, float]:
    scores = [lane.points[-1].scores for lane in lanes]
    found = {prefix: mean_of(accuracy_of(each, prefix) for each in scores) for prefix in PREFIXES}
    return {prefix: value for prefix, value in found.items() if value is not None}


def _asked(arms: Sequence[Json]) -> list[str]:
    """The prefixes that some arm was asked for; without feedback None alone, since the others say nothing."""
    knows = any(Method(arm["method"]).uses_feedback for arm in arms)
    wanted = PREFIXES if knows else ("None",)
    return [prefix for prefix in wanted if any(prefix in arm["accuracy"] for arm in arms)]


def _tasks(lanes: Sequence[Lane]) -> dict[str, Json]:
    """Accuracy by task and prefix, and how many questions stand behind it."""
    first = lanes[0].scores.get("tasks") or {}
    means = _averaged(lane.scores.get("tasks") for lane in lanes)
    return {
        task: {
            "items": max((score.get("items", 0) for score in asked.values()), default=0),
            "accuracy": {prefix: means[task][prefix]["accuracy"] for prefix in asked},
        }
        for task, asked in first.items()
    }


def _documents(lanes: Sequence[Lane]) -> dict[str, float | None]:
    """Nats a token of held-out documents by the prefix before them, lower is better."""
    means = _averaged(lane.scores.get("documents") for lane in lanes)
    return {prefix: found["nll"] for prefix, found in means.items()}


def _levels(lanes: Sequence[Lane]) -> list[Json]:
    """Nats a token of held-out documents by their level and the prefix before them."""
    rows = [{row["level"]: row for row in lane.scores.get("levels") or []} for lane in lanes]
    means = _averaged(rows)
    return [
        {"level": level, "documents": rows[0][level]["documents"], "nll": means[level]["nll"]}
        for level in sorted(rows[0])
    ]


# --- verdict ---


def _verdict(arms: Sequence[Json], lanes: Sequence[Sequence[Lane]], costs_known: bool) -> Json:
    """The verdict by accuracy; by the log-probability of held-out documents where not all arms have one.
    `lanes` are those of each arm."""
    measured = [metric for metric in Measure if any(arm["curves"][metric.value] for arm in arms)]
    shared = [metric for metric in measured if all(arm["curves"][metric.value] for arm in arms)]
    metric = next(iter(shared or measured), None)
    if metric is None:
        return {"metric": None, "items": 0, **judge([], Measure.ACCURACY).told()}
    contenders = [
        contender(arm, lines, rises=bool(arm["learning"]["heldOut"] and arm["learning"]["heldOut"]["rises"]))
        for arm, of_arm in zip(arms, lanes, strict=True)
        if (
            lines := {
                lane.spec.seed: line for lane in of_arm if (line := lines_of(lane, metric, arm["prefix"]))
            }
        )
    ]
    asked = arms[0]["rounds"] and arms[0]["tasks"].get(ANSWERS)
    items = asked["items"] if asked else sum(task["items"] for task in arms[0]["tasks"].values())
    return {"metric": metric.value, "items": items, **judge(contenders, metric, costs_known).told()}


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


def _averaged(values: Iterable[Any]) -> Any:
    """Objects of the same shape as one, with the mean of the numbers at each place that the first has."""
    found = [value for value in values if value is not None]
    if found and isinstance(found[0], Mapping):
        return {name: _averaged(value.get(name) for value in found) for name in found[0]}
    return mean_of(found)
