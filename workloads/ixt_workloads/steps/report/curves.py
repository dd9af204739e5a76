"""Curves of quality against FLOPs, and the ratio between two of them. Pure."""

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, variance
from typing import Any, Self

from ixt_workloads.contract.base import Model
from ixt_workloads.steps.report.intervals import Interval


@dataclass(frozen=True)
class Curve:
    """Quality (the higher, the better) against total FLOPs, by rising FLOPs; at least one point."""

    flops: tuple[float, ...]
    quality: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.flops or len(self.flops) != len(self.quality):
            raise ValueError("a curve needs as many qualities as FLOPs, at least one")
        if any(left >= right for left, right in pairwise(self.flops)):
            raise ValueError("FLOPs of a curve must rise")

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The curve that stands in the report's JSON."""
        return cls(tuple(row["flops"]), tuple(row["quality"]))


class Comparison(Model):
    """One arm against another, both by their mean curves."""

    flops: float | None
    """The most FLOPs that both curves cover. None: the curves do not overlap."""
    quality: float | None
    """The arm's quality at `flops`."""
    baseline_quality: float | None
    """The baseline's quality at `flops`."""
    gain: float | None
    """The difference."""
    target: float
    """The baseline's best quality less its spread: the best of many evaluations is partly luck."""
    flops_ratio: float | None
    """FLOPs the arm needs for `target` over those the baseline needed. None: the arm never reaches it, or a
    curve is a single point, which does not say when it was reached."""
    reached: bool
    """Whether the arm reaches `target`."""
    best: float
    """The arm's best quality."""
    ends_before: bool
    """The arm's curve ends before the baseline's, so `flops` is the arm's end and not the baseline's."""
    gain_interval: Interval | None = None
    """95 % interval of the gain; None where results of single items are not known."""
    ratio_interval: Interval | None = None
    """The same of `flops_ratio`."""
    at_ends: bool = False
    """The gain is that of the ends of both curves, which lie at the same FLOPs."""
    why_no_gain: str = ""
    """Why there is no gain, where the curves share FLOPs and must not be compared there."""
    why_no_ratio: str = ""

    @property
    def word(self) -> str:
        """What the interval of the gain says."""
        if self.gain_interval is None or self.gain_interval.low is None or self.gain_interval.high is None:
            return ""
        if self.gain_interval.low > 0:
            return "better"
        return "worse" if self.gain_interval.high < 0 else "no difference shown"


def quality_at(curve: Curve, flops: float) -> float | None:
    """Quality after `flops`, on straight lines between the measured points; None outside of them."""
    if not curve.flops[0] <= flops <= curve.flops[-1]:
        return None
    right = bisect_left(curve.flops, flops)
    if curve.flops[right] == flops:
        return curve.quality[right]
    start, end = curve.flops[right - 1], curve.flops[right]
    share = (flops - start) / (end - start)
    return curve.quality[right - 1] * (1 - share) + curve.quality[right] * share


def flops_to(curve: Curve, quality: float) -> float | None:
    """FLOPs at which the curve first reaches a quality; None when it never does.

    What comes after the first crossing does not count.
    """
    if curve.quality[0] >= quality:
        return curve.flops[0]
    for left in range(len(curve.flops) - 1):
        start, end = curve.quality[left], curve.quality[left + 1]
        if end >= quality:
            share = (quality - start) / (end - start)
            return curve.flops[left] * (1 - share) + curve.flops[left + 1] * share
    return None


def compare(arm: Curve, baseline: Curve, spread: float = 0.0) -> Comparison:
    """Quality at equal FLOPs, and FLOPs for equal quality: the baseline's best less its `spread`."""
    flops = min(arm.flops[-1], baseline.flops[-1])
    quality, baseline_quality = quality_at(arm, flops), quality_at(baseline, flops)
    if quality is None or baseline_quality is None:
        quality = baseline_quality = gain = None
    else:
        gain = quality - baseline_quality
    target = max(baseline.quality) - spread
    needed, spent = flops_to(arm, target), flops_to(baseline, target)
    # A quality that the first evaluation finds was reached some time before it.
    timed = min(len(arm.flops), len(baseline.flops)) > 1 and max(arm.quality[0], baseline.quality[0]) < target
    return Comparison(
        flops=None if gain is None else flops,
        quality=quality,
        baseline_quality=baseline_quality,
        gain=gain,
        target=target,
        flops_ratio=needed / spent if timed and needed is not None and spent else None,
        reached=needed is not None,
        best=max(arm.quality),
        ends_before=arm.flops[-1] < baseline.flops[-1],
    )


@dataclass(frozen=True)
class Band:
    """Several seeds' curves as one: at each of `flops` the mean, the lowest and the highest quality."""

    flops: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    spread: float
    """Of the qualities in the second half of the curve. Among seeds their standard deviation; of one seed how
    far they lie from the middle of their neighbours, on average: a curve that rises has none, nor has one
    that falls since the model over-fits."""

    @property
    def curve(self) -> Curve:
        """The mean."""
        return Curve(self.flops, self.mean)


def band(curves: Sequence[Curve]) -> Band:
    """Mean and range of seeds where all of them have points or lines between points.

    Seeds that share no FLOPs at all are cut to the first one's curve.
    """
    first, last = max(curve.flops[0] for curve in curves), min(curve.flops[-1] for curve in curves)
    grid = sorted({x for curve in curves for x in curve.flops if first <= x <= last})
    if not grid:
        return band(curves[:1])
    columns = [[value for curve in curves if (value := quality_at(curve, x)) is not None] for x in grid]
    return Band(
        flops=tuple(grid),
        mean=tuple(fmean(column) for column in columns),
        low=tuple(min(column) for column in columns),
        high=tuple(max(column) for column in columns),
        spread=_deviation(columns) if len(curves) > 1 else _jitter(curves[0].quality),
    )


def _jitter(quality: Sequence[float]) -> float:
    """How far each quality lies from the middle of its neighbours, on average over the second half: about the
    standard deviation of values that are independent of each other."""
    inner = range(len(quality) // 2 + 1, len(quality) - 1)
    off = [abs(quality[place] - (quality[place - 1] + quality[place + 1]) / 2) for place in inner]
    return fmean(off) if off else 0.0


def _deviation(columns: Sequence[Sequence[float]]) -> float:
    """Standard deviation within a column, over the second half of them."""
    return math.sqrt(fmean(variance(column) for column in columns[len(columns) // 2 :]))
