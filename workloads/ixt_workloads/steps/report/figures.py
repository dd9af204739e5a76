"""The report's charts, as SVG for the page and PNG for slides. Colours follow the page's light or dark."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ixt_workloads.contract.steps import Method
from ixt_workloads.steps.report.curves import Curve, band, flops_to
from ixt_workloads.steps.report.numbers import flops, percent, ratio, superscript
from ixt_workloads.steps.report.verdict import Metric, shown

INK, MUTED, RULE, PAPER = "#1d2025", "#656b74", "#dddfe3", "#ffffff"

COLOURS = {
    Method.NEXT_TOKEN: "#74797f",
    Method.CONDITIONED: "#0072b2",
    Method.FILTERED: "#d55e00",
    Method.ANNEALED: "#009e73",
    Method.SHUFFLED: "#b8659a",
}
"""Okabe and Ito's colour-blind-safe hues, one a method everywhere on the page."""

SHADES = {"prompt": "#3b3f46", "reasoning": "#62676f", "feedback": "#8b9098", "wasted": "#b5b9bf"}

VARIABLES = {
    INK: "ink",
    MUTED: "muted",
    RULE: "rule",
    PAPER: "paper",
    **{colour: method.value.lower() for method, colour in COLOURS.items()},
    **{shade: kind for kind, shade in SHADES.items()},
}
"""CSS variable of the page for each colour of a chart."""

DASHES: tuple[Any, ...] = ("-", (0, (5, 1.6)), (0, (1.5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
"""Line styles of several arms of one method."""

WIDTH = 7.2
POINTS = WIDTH * 72
"""Width of every chart in inches and in points."""

LABEL = 90
"""Points that the label of a gap needs."""

LEAST_SPAN = 0.1
"""Accuracy that an axis covers at least."""

STYLE: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.color": RULE,
    "ytick.labelcolor": MUTED,
    "ytick.major.size": 0,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "svg.hashsalt": "ixt",
}

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """One chart."""

    name: str
    """Without ending; unique in the report."""
    alt: str
    svg: str
    """An <svg> element to put into the page."""
    png: bytes


def pictures(stage: Json) -> dict[str, Picture]:
    """A stage's charts by what they show: those for which it has data."""
    wanted: dict[str, tuple[Callable[[Json], Figure | None], str]] = {
        "accuracy": (lambda stage: curves(stage, Metric.ACCURACY), "Accuracy against total FLOPs, by arm"),
        "loss": (
            lambda stage: curves(stage, Metric.LOG_PROBABILITY),
            "Loss on held-out documents against total FLOPs, by arm",
        ),
        "cost": (costs, "FLOPs by purpose, by arm"),
        "control": (control, "Accuracy by the feedback that is asked for, by arm"),
        "feedback": (feedback, "Raw scores and quality levels of the documents"),
    }
    found = {}
    for what, (draw, alt) in wanted.items():
        with mpl.rc_context(STYLE):
            figure = draw(stage)
            if figure is not None:
                found[what] = _picture(f"{what}-{stage['name']}", alt, figure)
    return found


def _picture(name: str, alt: str, figure: Figure) -> Picture:
    FigureCanvasAgg(figure)
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": f"ixt {name}"}):
        figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    return Picture(name, alt, themed(svg.getvalue()), png.getvalue())


def themed(svg: str) -> str:
    """An SVG file as an element of the page: its colours become CSS variables, its fonts the page's."""
    element = svg[svg.index("<svg") :]
    for namespace in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        element = element.replace(f'xmlns="{namespace}"', "").replace(f'xmlns:xlink="{namespace}"', "")
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, f"var(--{variable})")
    return element.replace("'DejaVu Sans'", "system-ui")


def colour_of(arm: Json) -> str:
    """Colour of an arm: its method's."""
    return COLOURS[Method(arm["method"])]


# --- quality against FLOPs ---


def curves(stage: Json, metric: Metric) -> Figure | None:
    """Quality of every arm against total FLOPs: mean and range of seeds, and the gap at equal quality."""
    arms = [arm for arm in stage["arms"] if arm["curves"][metric.value]]
    if not arms:
        return None
    bands = {arm["name"]: band([_curve(row) for row in arm["curves"][metric.value]]) for arm in arms}
    if max(len(found.flops) for found in bands.values()) == len(arms) == 1:
        return None
    power = math.floor(math.log10(max(found.flops[-1] for found in bands.values())))
    sign = 1 if metric is Metric.ACCURACY else -1
    labels = [f"{arm['name'][:24]}  {shown(bands[arm['name']].mean[-1], metric)}" for arm in arms]
    figure = Figure(figsize=(WIDTH, 3.5 if metric is Metric.ACCURACY else 2.9))
    right = 1 - (max(len(label) for label in labels) * 5.1 + 20) / POINTS
    axes = figure.add_axes((0.058, 0.145, right - 0.058, 0.765))
    styles = _dashes(arms)
    for arm in arms:
        found, colour = bands[arm["name"]], colour_of(arm)
        x = [value / 10**power for value in found.flops]
        single = "o" if len(x) == 1 else None
        axes.plot(
            x, [sign * value for value in found.mean], color=colour, linewidth=1.8, marker=single,
            linestyle=styles[arm["name"]], zorder=4,
        )  # fmt: skip
        if len(arm["curves"][metric.value]) > 1:
            low, high = ([sign * value for value in side] for side in (found.low, found.high))
            axes.fill_between(x, low, high, color=colour, alpha=0.16, linewidth=0, zorder=3)
    _axis_of_flops(axes, arms, bands.values(), power)
    axes.set_title(
        "Accuracy" if metric is Metric.ACCURACY
        else "Loss on held-out documents without prefix, nats a token (lower is better)"
    )  # fmt: skip
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylim(*limits([[sign * value for value in found.mean] for found in bands.values()], metric))
    if metric.value == stage["verdict"]["metric"]:
        _gap(axes, stage["verdict"], bands, power, metric)
    ends = [(bands[arm["name"]].flops[-1] / 10**power, sign * bands[arm["name"]].mean[-1]) for arm in arms]
    height = figure.get_figheight() * 72 * axes.get_position().height
    _end_labels(axes, height, ends, labels, [colour_of(arm) for arm in arms])
    return figure


def limits(curves: Sequence[Sequence[float]], metric: Metric) -> tuple[float, float]:
    """Of the vertical axis. The answers to a few questions are not blown up to a trend, and the loss of a
    model that was not trained yet does not flatten all that follows: such a curve comes from above."""
    values = [value for curve in curves for value in curve]
    low, high = min(values), max(values)
    if metric is Metric.ACCURACY:
        high = max(high, low + LEAST_SPAN)
    later = [value for curve in curves for value in curve[1:]]
    if metric is Metric.LOG_PROBABILITY and later and high - max(later) > max(later) - low:
        high = max(later)
    margin = 0.08 * (high - low or 1.0)
    return low - margin, high + margin


def _curve(row: Json) -> Curve:
    return Curve(tuple(row["flops"]), tuple(row["quality"]))


def _dashes(arms: Sequence[Json]) -> dict[str, Any]:
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


def _gap(axes: Axes, verdict: Json, bands: Mapping[str, Any], power: int, metric: Metric) -> None:
    """An arrow at the quality that both are timed to, from where the baseline reached it to where the arm
    did."""
    found = verdict["comparisons"].get(verdict["subject"])
    if not found or found["flopsRatio"] is None or abs(found["flopsRatio"] - 1) < 0.05:
        return
    target = found["target"]
    start = flops_to(bands[verdict["baseline"]].curve, target)
    end = flops_to(bands[verdict["subject"]].curve, target)
    if start is None or end is None:
        return
    y = target if metric is Metric.ACCURACY else -target
    start, end = start / 10**power, end / 10**power
    axes.annotate(
        "", xy=(end, y), xytext=(start, y), zorder=6,
        arrowprops={"arrowstyle": "->", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 2},
    )  # fmt: skip
    # Before the first of them reaches the target, both curves lie below it: there the label hides neither.
    first = min(start, end)
    place = axes.transAxes.inverted().transform(axes.transData.transform((first, y)))[0]
    room = place * axes.get_position().width * POINTS
    axes.annotate(
        f"{ratio(found['flopsRatio'])} × the FLOPs", (first, y), xytext=(0, 4), textcoords="offset points",
        ha="right" if room > LABEL else "left", va="bottom", zorder=7,
    )  # fmt: skip


def _end_labels(
    axes: Axes,
    height: float,
    ends: Sequence[tuple[float, float]],
    labels: Sequence[str],
    colours: Sequence[str],
) -> None:
    """Names of the curves at the right, moved apart where they would overlap, each with a thin line.

    `height`: of the axes, in points.
    """
    low, high = axes.get_ylim()
    wanted = [(y - low) / (high - low) * height for _, y in ends]
    places = spread(wanted, 11.5, height)
    for (x, y), place, label, colour in zip(ends, places, labels, colours, strict=True):
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


# --- bars and dots ---


def costs(stage: Json) -> Figure | None:
    """Where each arm's FLOPs went, stacked."""
    arms = stage["arms"]
    total = max(arm["flops"]["total"] for arm in arms)
    if not total:
        return None
    figure, axes = _rows(arms, 0.62)
    for row, arm in enumerate(arms):
        spent = arm["flops"]
        parts = [("earlier stages", spent["before"], RULE)]
        parts += [(kind, spent["annotationByKind"][kind], shade) for kind, shade in SHADES.items()]
        if spent["annotation"] and not sum(spent["annotationByKind"].values()):
            parts.append(("annotation", spent["annotation"], SHADES["prompt"]))
        parts.append(("training", spent["training"], colour_of(arm)))
        left = 0.0
        for _, value, colour in parts:
            axes.barh(row, value, left=left, height=0.56, color=colour, edgecolor=PAPER, linewidth=0.6)
            left += value
        share = percent(100 * spent["annotation"] / (spent["total"] or 1))
        axes.annotate(
            f"{flops(spent['total'])}" + (f", {share} annotation" if spent["annotation"] else ""),
            (left, row), xytext=(5, 0), textcoords="offset points", va="center", color=MUTED,
        )  # fmt: skip
    axes.set_xlim(0, total * 1.42)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    used = [kind for kind in SHADES if any(arm["flops"]["annotationByKind"][kind] for arm in arms)]
    shown_parts = [*(["earlier stages"] if any(arm["flops"]["before"] for arm in arms) else []), *used]
    if shown_parts:
        _key(figure, [("s", {"earlier stages": RULE, **SHADES}[part], PAPER, part) for part in shown_parts])
    return figure


def control(stage: Json) -> Figure | None:
    """Accuracy by what is asked for: a wide row is a model that can be steered."""
    arms = [arm for arm in stage["arms"] if arm["accuracy"]]
    if not arms:
        return None
    figure, axes = _rows(arms, 0.86)
    marks = {"Best": "o", "None": "|", "Random": "x", "Worst": "o"}
    for row, arm in enumerate(arms):
        found, colour = arm["accuracy"], colour_of(arm)
        axes.plot(
            [min(found.values()), max(found.values())], [row, row], color=colour, linewidth=1.2, alpha=0.4
        )
        for prefix, value in found.items():
            axes.plot(
                value, row, marks[prefix], markersize=8 if prefix == "None" else 6, color=colour,
                markerfacecolor=PAPER if prefix == "Worst" else colour, markeredgewidth=1.3, zorder=4,
            )  # fmt: skip
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("Accuracy")
    asked = [prefix for prefix in marks if any(prefix in arm["accuracy"] for arm in arms)]
    fill = {"Worst": PAPER}
    _key(figure, [(marks[prefix], INK, fill.get(prefix, INK), prefix.lower()) for prefix in asked])
    return figure


def feedback(stage: Json) -> Figure | None:
    """How raw scores fell, and the levels that came of them."""
    found = stage["feedback"]
    if not found or not found["scores"]:
        return None
    figure = Figure(figsize=(WIDTH, 2.0))
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.02, right=0.98, top=0.83, bottom=0.14, wspace=0.12)
    _bars(left, "Raw score, documents", found["scores"])
    _bars(right, f"Quality level in training, documents of {found['arm'][:24]}", found["levels"])
    return figure


def _bars(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    axes.set_title(title)
    axes.set_yticks([])
    places = _places(list(counts))
    width = 0.82 * min((b - a for a, b in pairwise(places)), default=1.0)
    axes.bar(places, list(counts.values()), width=width, color=MUTED)
    if len(places) <= 12:
        axes.set_xticks(places, list(counts))
        for place, number in zip(places, counts.values(), strict=True):
            axes.annotate(
                str(number), (place, number), xytext=(0, 2), textcoords="offset points", ha="center",
                color=MUTED,
            )  # fmt: skip
    axes.margins(y=0.14)


def _places(names: Sequence[str]) -> list[float]:
    try:
        return [float(name) for name in names]
    except ValueError:
        return [float(place) for place in range(len(names))]


def _rows(arms: Sequence[Json], bottom_inches: float) -> tuple[Figure, Axes]:
    """Axes with one named row an arm, the first on top."""
    height = 0.29 * len(arms) + bottom_inches
    left = (max(len(arm["name"][:24]) for arm in arms) * 5.1 + 12) / POINTS
    figure = Figure(figsize=(WIDTH, height))
    low = (bottom_inches - 0.42) / height
    axes = figure.add_axes((left, low, 0.985 - left, 0.29 * len(arms) / height))
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_yticks(range(len(arms)), [arm["name"][:24] for arm in arms])
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_color(colour_of(arm))
    return figure, axes


def _key(figure: Figure, marks: Sequence[tuple[str, str, str, str]]) -> None:
    """A line above the axes that says what marks mean: (marker, edge, face, name)."""
    handles = []
    for marker, edge, face, name in marks:
        fill = edge if marker == "s" else face
        handles.append(
            Line2D([], [], linestyle="", marker=marker, color=edge, markerfacecolor=fill, label=name)
        )
    figure.legend(
        handles=handles, loc="upper left", ncols=len(handles), frameon=False, bbox_to_anchor=(0, 1),
        borderaxespad=0.1, handletextpad=0.2, columnspacing=1.4, labelcolor=MUTED,
    )  # fmt: skip
