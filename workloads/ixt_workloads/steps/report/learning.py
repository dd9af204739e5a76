"""How the trainings went: their curves, and what the held-out loss did meanwhile. Pure."""

import math
from collections.abc import Sequence
from itertools import groupby
from statistics import fmean
from typing import NamedTuple

from ixt_workloads.contract.scores import held_out_loss
from ixt_workloads.steps.report.curves import Curve, band
from ixt_workloads.steps.report.numbers import mean_of
from ixt_workloads.steps.report.read import Json, Lane

POINTS = 100
"""Points that a curve has in the report at most; each is a mean of those that the training told."""

DRAWN = ("loss", "learningRate", "tokensPerSecond")
"""What the training's curves show, by its name in `curve.json`."""

RISES = 0.01
"""Share of the least held-out loss by which it must have risen at the end, to be told."""

AROUND = 5
"""Points of the training loss that are compared, before the least held-out loss and at the end."""


class HeldOut(NamedTuple):
    """The held-out loss without prefix in a training, mean over seeds, in nats a token."""

    least: float
    at_percent: float
    """Of the training, where it is least."""
    last: float
    over_fits: bool
    """The training loss falls while it rises."""

    @property
    def rises(self) -> bool:
        """Whether it ends well above its least."""
        return self.last - self.least > RISES * abs(self.least)


def learning(lanes: Sequence[Lane]) -> Json:
    """An arm's training for the report."""
    found = held_out(lanes)
    told = [lane.train.summary.get("exportedStep") for lane in lanes]
    return {
        "curves": [{"seed": lane.spec.seed, **_thinned(lane.curve)} for lane in lanes],
        "heldOut": {
            "least": found.least, "atPercent": found.at_percent, "last": found.last,
            "rises": found.rises, "overFits": found.rises and found.over_fits,
        } if found else None,
        "exportedSteps": [step for step in told if step is not None],
        "tokensPerSecond": fmean(lane.train.summary.get("tokensPerSecond") or 0.0 for lane in lanes),
    }  # fmt: skip


def held_out(lanes: Sequence[Lane]) -> HeldOut | None:
    """What the held-out loss did; None where a training was evaluated less than twice."""
    curves = [curve for lane in lanes if (curve := _losses(lane.curve))]
    if len(curves) < len(lanes):
        return None
    found = band(curves)
    place = min(range(len(found.mean)), key=found.mean.__getitem__)
    tokens = found.flops[place]
    falls = [_falls_after(lane.curve, tokens) for lane in lanes]
    return HeldOut(found.mean[place], 100 * tokens / (found.flops[-1] or 1), found.mean[-1], fmean(falls) > 0)


def _losses(points: Sequence[Json]) -> Curve | None:
    """Held-out loss against tokens; None for less than two finite values."""
    found = {
        float(point["tokens"]): loss
        for point in points
        if (loss := held_out_loss(point.get("evaluation"))) is not None and math.isfinite(loss)
    }
    tokens = sorted(found)
    return Curve(tuple(tokens), tuple(found[place] for place in tokens)) if len(tokens) > 1 else None


def _falls_after(points: Sequence[Json], tokens: float) -> float:
    """How far the training loss falls from around so many tokens to the end."""
    known = [(point["tokens"], point["loss"]) for point in points if point.get("loss") is not None]
    before, after = [loss for place, loss in known if place <= tokens], [loss for _, loss in known]
    if not before:
        return 0.0
    return fmean(before[-AROUND:]) - fmean(after[-AROUND:])


def _thinned(points: Sequence[Json]) -> dict[str, list[float | None]]:
    """The curve as columns of at most POINTS means."""
    told = [point for point in points if point.get("loss") is not None]
    share = max(1, len(told) / POINTS)
    parts = [list(part) for _, part in groupby(enumerate(told), key=lambda each: int(each[0] / share))]
    columns: dict[str, list[float | None]] = {"tokens": [part[-1][1]["tokens"] for part in parts]}
    for name in DRAWN:
        columns[name] = [mean_of(point.get(name) for _, point in part) for part in parts]
    return columns
