"""Figures of a step, as they go from a process to whoever shows them.

By metric, then by the values of its labels with commas between them ("" where it has none):

    {"ixt_training_loss": {"": 2.31}, "ixt_annotation_documents_total": {"Ok": 512, "BadJson": 3}}

A histogram has the count of each bucket by its upper bound, each value counted once, and "sum".
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import accumulate
from statistics import fmean

from ixt_workloads.contract.metrics import STEP_METRICS, Across, Metric, Refusal, Type

Figures = Mapping[str, Mapping[str, float]]

MAX_SERIES = 256
"""Series of one process that are taken."""
MAX_LABEL = 63
LARGEST = 1e30
"""FLOPs of the largest trainings are below it."""
SUM = "sum"


def sound(figures: Figures) -> tuple[dict[str, dict[str, float]], Counter[str]]:
    """The figures that may be shown, and how many were left out by why: a pod may say anything."""
    kept: dict[str, dict[str, float]] = {}
    refused: Counter[str] = Counter()
    series = 0
    for name, values in figures.items():
        metric = STEP_METRICS.get(name)
        if metric is None:
            refused[Refusal.UNKNOWN_METRIC] += len(values)
            continue
        for labels, value in values.items():
            if why := _wrong(metric, labels, value):
                refused[why] += 1
            elif series >= MAX_SERIES:
                refused[Refusal.TOO_MANY] += 1
            else:
                series += 1
                kept.setdefault(name, {})[labels] = value
    return kept, refused


def _wrong(metric: Metric, labels: str, value: float) -> Refusal | None:
    if not math.isfinite(value):
        return Refusal.NOT_FINITE
    if abs(value) > LARGEST or (value > 1 and metric.name.endswith("_ratio")):
        return Refusal.TOO_LARGE
    if metric.type is Type.HISTOGRAM:
        if labels == SUM:
            return None if value >= 0 or metric.signed else Refusal.NEGATIVE
        if labels not in (*map(bound, (*metric.buckets, math.inf)),):
            return Refusal.UNKNOWN_LABELS
        return None if value >= 0 and value % 1 == 0 else Refusal.NO_COUNT
    if value < 0 and not metric.signed:
        return Refusal.NEGATIVE
    values = labels.split(",") if metric.labels else [labels]
    fits = len(values) == max(1, len(metric.labels)) and (metric.labels or not labels)
    plain = all(len(text) <= MAX_LABEL and text.isprintable() for text in values)
    named = all(not may or text in may for text, may in zip(values, metric.values, strict=False))
    return None if fits and plain and named else Refusal.UNKNOWN_LABELS


def together(all_of_them: Iterable[Figures]) -> dict[str, dict[str, float]]:
    """Figures of processes that share a step's work, as one."""
    all_of_them = list(all_of_them)
    if len(all_of_them) == 1:
        return {name: dict(values) for name, values in all_of_them[0].items() if name in STEP_METRICS}
    found: dict[str, dict[str, list[float]]] = {}
    for figures in all_of_them:
        for name, values in figures.items():
            for labels, value in values.items():
                found.setdefault(name, {}).setdefault(labels, []).append(value)
    how: dict[Across, Callable[[list[float]], float]] = {
        Across.SUM: math.fsum,
        Across.MAX: max,
        Across.MEAN: fmean,
    }
    return {
        name: {labels: how[STEP_METRICS[name].across](numbers) for labels, numbers in values.items()}
        for name, values in found.items()
        if name in STEP_METRICS
    }


def in_buckets(metric: Metric, values: Mapping[float, float]) -> dict[str, float]:
    """A histogram's figures of how often each value was there."""
    uppers = (*metric.buckets, math.inf)
    found = {SUM: 0.0}
    for value, number in values.items():
        label = bound(uppers[bisect_left(metric.buckets, value)])
        found[label] = found.get(label, 0.0) + number
        found[SUM] += number * value
    return found


def in_all(metric: Metric, values: Mapping[str, float]) -> tuple[list[tuple[str, float]], float]:
    """A histogram as Prometheus has it: how many values were at most each upper bound, and their sum.
    OpenMetrics has no sums below 0: such a sum is 0."""
    uppers = [bound(upper) for upper in (*metric.buckets, math.inf)]
    counts = accumulate(values.get(upper, 0.0) for upper in uppers)
    return list(zip(uppers, counts, strict=True)), max(0.0, values.get(SUM, 0.0))


def bound(upper: float) -> str:
    """The label of a histogram's bucket, as Prometheus writes it."""
    return "+Inf" if math.isinf(upper) else repr(float(upper))
