"""A lane's quality along its FLOPs: what its evaluations measured, and what that is made of."""

import math
from collections.abc import Sequence
from statistics import fmean

import numpy as np

from ixt_workloads.contract.scores import held_out_loss
from ixt_workloads.steps.report.curves import Curve
from ixt_workloads.steps.report.fair import Lines
from ixt_workloads.steps.report.intervals import Samples
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.read import Json, Lane, Scored


def curve_of(lane: Lane, metric: Measure, prefix: str) -> Curve | None:
    """Quality against FLOPs where it is a finite number; None if it is nowhere."""
    return _drawn(_measured(lane, metric, prefix))


def _drawn(found: Sequence[tuple[Scored, float]]) -> Curve | None:
    if not found:
        return None
    return Curve(tuple(point.flops for point, _ in found), tuple(value for _, value in found))


def _measured(lane: Lane, metric: Measure, prefix: str) -> list[tuple[Scored, float]]:
    """The evaluations with a finite quality by rising FLOPs, of equal ones the last."""
    found = {}
    for point in lane.points:
        scores = point.scores
        value = accuracy_of(scores, prefix) if metric is Measure.ACCURACY else held_out_loss(scores)
        if value is not None and math.isfinite(value):
            found[point.flops] = point, metric.sign * value
    return [found[flops] for flops in sorted(found)]


def lines_of(lane: Lane, metric: Measure, prefix: str) -> Lines | None:
    """A lane's curve, with where it may be compared and what it is made of."""
    found = _measured(lane, metric, prefix)
    curve = _drawn(found)
    if curve is None:
        return None
    samples = [_samples(point.scores, metric, prefix) for point, _ in found]
    known = tuple(each for each in samples if each is not None)
    stable = _drawn([(point, value) for point, value in found if point.stable])
    return Lines(curve, stable, known if len(known) == len(found) else ())


def _samples(scores: Json, metric: Measure, prefix: str) -> Samples | None:
    """The single items of an evaluation; None where they are not known."""
    items = scores.get("items") or {}
    if metric is Measure.LOG_PROBABILITY:
        held = items.get("documents") or {}
        return (np.array([[-nats for nats in held["nats"]], held["tokens"]], float),) if held else None
    tasks = items.get("tasks") or {}
    if not tasks or any(prefix not in asked for asked in tasks.values()):
        return None
    return tuple(
        np.array([tasks[name][prefix]["right"], tasks[name][prefix]["items"]], float)
        for name in sorted(tasks)
    )


def accuracy_of(scores: Json, prefix: str) -> float | None:
    """Mean over the tasks, of which each must have been asked with the prefix."""
    tasks = scores.get("tasks") or {}
    if not tasks or any(prefix not in asked for asked in tasks.values()):
        return None
    return fmean(asked[prefix]["accuracy"] for asked in tasks.values())
