"""The report's charts of quality against FLOPs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ixt_workloads.steps.report.curves import Curve, band, flops_to
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.numbers import ratio, superscript
from ixt_workloads.steps.report.read import Json
from ixt_workloads.steps.report.style import INCH, INK, WIDTH, colour_of

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
"""Line styles of several arms of one method."""

LABEL = 90
"""Points that the label of a gap needs."""

LEAST_SPAN = 0.1
"""Accuracy that an axis covers at least."""


def curves(stage: Json, metric: Measure, width: float = WIDTH) -> Figure | None:
    """Quality of every arm against total FLOPs: mean and range of seeds, and the gap at equal quality.
    `width` in inches, as of every chart."""
    arms = [arm for arm in stage["arms"] if arm["curves"][metric.value]]
    if not arms:
        return None
    bands = {arm["name"]: band([Curve.of(row) for row in arm["curves"][metric.value]]) for arm in arms}
    if max(len(found.flops) for found in bands.values()) == len(arms) == 1:
        return None
    power = math.floor(math.log10(max(found.flops[-1] for found in bands.values())))
    sign = metric.sign
    labels = [f"{arm['name'][:24]}  {metric.shown(bands[arm['name']].mean[-1])}" for arm in arms]
    figure = Figure(figsize=(width, 3.5 if metric is Measure.ACCURACY else 2.9))
    right = 1 - (max(len(label) for label in labels) * 5.1 + 20) / (INCH * width)
    left = 0.418 / width
    axes = figure.add_axes((left, 0.145, right - left, 0.765))
    styles = dashes(arms)
    drawn = []
    ends = []
    for arm, label in zip(arms, labels, strict=True):
        found, colour = bands[arm["name"]], colour_of(arm)
        x = [value / 10**power for value in found.flops]
        sides = (found.mean, found.low, found.high)
        mean, low, high = ([sign * value for value in side] for side in sides)
        drawn.append(mean)
        ends.append((x[-1], mean[-1], label, colour))
        single = "o" if len(x) == 1 else None
        axes.plot(
            x, mean, color=colour, linewidth=1.8, marker=single, linestyle=styles[arm["name"]], zorder=4
        )
        if len(arm["curves"][metric.value]) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=3)
    _axis_of_flops(axes, arms, bands.values(), power)
    axes.set_title(
        "Accuracy" if metric is Measure.ACCURACY
        else "Held-out loss without prefix, nats a token (lower is better)"
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylim(*limits(drawn, metric))
    if metric.value == stage["verdict"]["metric"]:
        _gap(axes, stage["verdict"], bands, power, metric, width)
    _end_labels(axes, figure.get_figheight() * 72 * axes.get_position().height, ends)
    return figure


def limits(curves: Sequence[Sequence[float]], metric: Measure) -> tuple[float, float]:
    """Ends of the vertical axis. Accuracy spans LEAST_SPAN at least, so that noise does not look like a
    trend. A loss that was much higher before training is cut off at the top, so that the rest is not flat."""
    values = [value for curve in curves for value in curve]
    low, high = min(values), max(values)
    if metric is Measure.ACCURACY:
        high = max(high, low + LEAST_SPAN)
    later = [value for curve in curves for value in curve[1:]]
    if metric is Measure.LOG_PROBABILITY and later and high - max(later) > max(later) - low:
        high = max(later)
    margin = 0.08 * (high - low or 1.0)
    return low - margin, high + margin


def dashes(arms: Sequence[Json]) -> dict[str, Any]:
    """Line style by arm: the first of each method is solid."""
    seen: dict[str, int] = {}
    styles = {}
    for arm in arms:
        place = seen[arm["method"]] = seen.get(arm["method"], -1) + 1
        styles[arm["name"]] = DASHES[place % len(DASHES)]
    return styles


def _axis_of_flops(axes: Axes, arms: Sequence[Json], bands: Any, power: int) -> None:
    """Linear from where the stage starts; logarithmic where the arms' lengths differ too much to see all."""
    ends = [found.flops[-1] / 10**power for found in bands]
    start = min(arm["flops"]["before"] for arm in arms) / 10**power
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    if max(ends) > 20 * min(ends):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xlim(start, max(ends) * 1.015)
        for place, arm in enumerate(arms):
            first = arm["flops"]["before"] / 10**power
            paid = arm["flops"]["annotation"] / 10**power
            if paid:
                axes.plot(
                    [first, first + paid], [0.011 + 0.016 * place] * 2, transform=axes.get_xaxis_transform(),
                    color=colour_of(arm), linewidth=2.4, solid_capstyle="butt", zorder=5, clip_on=False,
                )  # fmt: skip
    axes.set_xlabel(f"Total FLOPs, × 10{superscript(power)}")


def _gap(
    axes: Axes, verdict: Json, bands: Mapping[str, Any], power: int, metric: Measure, width: float
) -> None:
    """Draw an arrow at the target quality, from the FLOPs of the baseline to those of the arm.
    `width`: the chart's."""
    found = verdict["comparisons"].get(verdict["subject"])
    if not found or found["flopsRatio"] is None or abs(found["flopsRatio"] - 1) < 0.05:
        return
    target = found["target"]
    start = flops_to(bands[verdict["baseline"]].curve, target)
    end = flops_to(bands[verdict["subject"]].curve, target)
    if start is None or end is None:
        return
    y = metric.sign * target
    start, end = start / 10**power, end / 10**power
    axes.annotate(
        "", xy=(end, y), xytext=(start, y), zorder=6,
        arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 2},
    )  # fmt: skip
    # Before the first of them reaches the target, both curves lie below it: there the label hides neither.
    first = min(start, end)
    place = axes.transAxes.inverted().transform(axes.transData.transform((first, y)))[0]
    room = place * axes.get_position().width * width * INCH
    axes.annotate(
        f"{ratio(found['flopsRatio'])} × the FLOPs", (first, y), xytext=(0, 4), textcoords="offset points",
        ha="right" if room > LABEL else "left", va="bottom", zorder=7,
    )  # fmt: skip


def _end_labels(axes: Axes, height: float, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names of the curves at the right, moved apart where they would overlap, each with a thin line.

    `height`: of the axes, in points. `ends`: where each curve ends, with its name and colour.
    """
    low, high = axes.get_ylim()
    wanted = [(y - low) / (high - low) * height for _, y, _, _ in ends]
    places = spread(wanted, 11.5, height)
    for (x, y, label, colour), place in zip(ends, places, strict=True):
        axes.annotate(
            label, xy=(x, y), xycoords="data", xytext=(1.022, place / height), textcoords="axes fraction",
            color=colour, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.55, "shrinkA": 1,
                        "shrinkB": 1, "relpos": (0, 0.5)},
        )  # fmt: skip


def spread(positions: Sequence[float], gap: float, limit: float) -> list[float]:
    """Positions in [0, limit] near the wanted ones, in their order, at least `gap` apart while they fit."""
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    gap = min(gap, limit / max(1, len(positions) - 1))
    placed = [0.0] * len(positions)
    floor = 0.0
    for index in order:
        placed[index] = max(positions[index], floor)
        floor = placed[index] + gap
    ceiling = limit
    for index in reversed(order):
        placed[index] = min(placed[index], ceiling)
        ceiling = placed[index] - gap
    return placed
