"""How far chance moves a comparison: 95 % intervals by paired bootstrap over items and seeds. Pure.

Both arms are asked the same questions and read the same held-out documents, so an item is drawn for both at
once, and so is a seed. Items are drawn within each task, and tasks weigh alike, as in the mean that is
compared. What is drawn anew is a weight, so that all draws are a few matrix products.

A bootstrap of few seeds is too narrow: of S it sees (S - 1) / S of their variance, and takes it for known.
The weights' deviations from 1 / S are therefore stretched by the square root of S / (S - 1), and by how much
wider Student's t with S - 1 degrees of freedom is than the normal distribution.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from ixt_workloads.contract.base import Model

DRAWS = 2000
LEVEL = 0.95
_SEED = 20260520

_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
    2.040,
)  # fmt: skip
"""97.5 % quantiles of Student's t with 1, 2 ... degrees of freedom; a run has at most 32 seeds."""
_NORMAL = 1.960

Samples = tuple[np.ndarray, ...]
"""What a quality is made of: for each task, or for the held-out documents, [2, items] of sums and counts. The
quality is the mean over tasks of sum / count."""


class Interval(Model):
    """Where a number lies with 95 % confidence."""

    low: float | None
    high: float | None
    """None: beyond what was measured."""


class Pair(NamedTuple):
    """One seed of both arms, at one or several FLOPs."""

    arm: tuple[Samples, ...]
    baseline: tuple[Samples, ...]


def quality(samples: Samples) -> float:
    """The quality that samples stand for."""
    return float(np.mean([sums.sum() / counts.sum() for sums, counts in samples]))


def between(one: Samples, other: Samples, share: float) -> Samples:
    """Samples on a straight line between two of the same items."""
    return tuple(left * (1 - share) + right * share for left, right in zip(one, other, strict=True))


def same_items(every: Sequence[Samples]) -> bool:
    """Whether all samples are of the same tasks with as many items, so that they can be paired."""
    shapes = [[group.shape for group in samples] for samples in every]
    return (
        bool(every)
        and all(shape == shapes[0] for shape in shapes)
        and all(group.size and (group[1].sum() > 0) for samples in every for group in samples)
    )


class Draws:
    """Weights of items and seeds, drawn once for all numbers of a comparison."""

    def __init__(self, items: Sequence[int], seeds: int, draws: int = DRAWS) -> None:
        """`items` of each task."""
        self._items = items
        share = _counts(len(items), seeds, draws) / seeds
        if seeds > 1:
            student = _STUDENT[min(seeds - 1, len(_STUDENT)) - 1] / _NORMAL
            stretch = math.sqrt(seeds / (seeds - 1)) * student
            share = 1 / seeds + (share - 1 / seeds) * stretch
        self._seeds = share

    def qualities(self, seeds: Sequence[Sequence[Samples]]) -> np.ndarray:
        """[draws, places] of the mean over seeds of the quality at each place; `seeds` has each seed's
        places."""
        places = len(seeds[0])
        found = np.zeros((len(self._seeds), places))
        for task, number in enumerate(self._items):
            weights = _counts(task, number, len(self._seeds)).astype(float).T  # here, not in each product
            stacked = np.stack([samples[task] for seed in seeds for samples in seed])
            sums, counts = stacked[:, 0] @ weights, stacked[:, 1] @ weights
            # [seeds, places, draws]; a draw without anything that counts is as good as none.
            values = (sums / np.maximum(counts, 1e-9)).reshape(len(seeds), places, -1)
            found += np.einsum("spd,ds->dp", values, self._seeds)
        return found / len(self._items)


@lru_cache(maxsize=2)  # for each arm of a report the same again
def _counts(stream: int, number: int, draws: int) -> np.ndarray:
    """[draws, number]: how often each was drawn, of as many draws with replacement. Each stream has draws of
    its own, the same whenever they are asked for."""
    random = np.random.default_rng([_SEED, stream])
    drawn = random.integers(number, size=(draws, number), dtype=np.int32)
    drawn += np.arange(draws, dtype=np.int32)[:, None] * number
    return np.bincount(drawn.ravel(), minlength=draws * number).reshape(draws, number).astype(np.float32)


def of_gain(pairs: Sequence[Pair], draws: int = DRAWS) -> Interval | None:
    """Interval of the difference at one place; None where single items are not known or not the same."""
    if not same_items([side[0] for pair in pairs for side in pair]):
        return None
    drawn = Draws([group.shape[1] for group in pairs[0].arm[0]], len(pairs), draws)
    arm, baseline = (drawn.qualities([pair[side] for pair in pairs])[:, 0] for side in (0, 1))
    low, high = np.quantile(arm - baseline, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))


def of_ratio(
    pairs: Sequence[Pair], flops: tuple[Sequence[float], Sequence[float]], spread: float
) -> Interval | None:
    """Interval of the FLOPs that the arm needs over those that the baseline needed, for the baseline's best
    less its `spread`. `flops` has the places of the arm's and of the baseline's samples."""
    if not same_items([samples for pair in pairs for side in pair for samples in side]):
        return None
    draws = Draws([group.shape[1] for group in pairs[0].arm[0]], len(pairs))
    arm, baseline = (draws.qualities([pair[side] for pair in pairs]) for side in (0, 1))
    target = baseline.max(axis=1) - spread
    needed, spent = _first(arm, np.asarray(flops[0]), target), _first(baseline, np.asarray(flops[1]), target)
    ratios = np.sort(needed / spent)
    low, high = (ratios[round((len(ratios) - 1) * share)] for share in ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return Interval(low=_finite(low), high=_finite(high))


def _first(curves: np.ndarray, flops: np.ndarray, target: np.ndarray) -> np.ndarray:
    """[draws]: FLOPs at which each of [draws, places] first reaches its target, on straight lines; infinity
    for never."""
    reached = curves >= target[:, None]
    place = reached.argmax(axis=1)
    rows = np.arange(len(curves))
    before = np.maximum(place - 1, 0)
    start, end = curves[rows, before], curves[rows, place]
    share = np.where(place > 0, (target - start) / np.where(end > start, end - start, 1), 0)
    found = flops[before] * (1 - share) + flops[place] * share
    return np.where(reached.any(axis=1), found, np.inf)


def _finite(value: Any) -> float | None:
    return float(value) if math.isfinite(value) else None
