"""The report's charts with a row for each arm (costs, control) or a bar for each score and level."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ixt_workloads.steps.report.numbers import flops, percent
from ixt_workloads.steps.report.read import Json
from ixt_workloads.steps.report.style import INCH, INK, MUTED, PAPER, RULE, SHADES, WIDTH, colour_of

SPENT = 130
"""Points that the words behind a bar of costs need."""


def costs(stage: Json, width: float = WIDTH) -> Figure | None:
    """Where each arm's FLOPs went, stacked."""
    arms = stage["arms"]
    total = max(arm["flops"]["total"] for arm in arms)
    if not total:
        return None
    figure, axes = _rows(arms, 0.62, width)
    for row, arm in enumerate(arms):
        spent = arm["flops"]
        parts = [(spent["before"], RULE)]
        parts += [(spent["annotationByKind"][kind], shade) for kind, shade in SHADES.items()]
        if spent["annotation"] and not sum(spent["annotationByKind"].values()):
            parts.append((spent["annotation"], SHADES["prompt"]))
        parts += [(spent["generation"], MUTED), (spent["training"], colour_of(arm))]
        left = 0.0
        for value, colour in parts:
            axes.barh(row, value, left=left, height=0.56, color=colour, edgecolor=PAPER, linewidth=0.6)
            left += value
        share = percent(100 * spent["annotation"] / (spent["total"] or 1))
        axes.annotate(
            f"{flops(spent['total'])}" + (f", {share} annotation" if spent["annotation"] else ""),
            (left, row), xytext=(5, 0), textcoords="offset points", va="center", color=MUTED,
        )  # fmt: skip
    room = axes.get_position().width * width * INCH
    axes.set_xlim(0, total * room / (room - SPENT))
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    marks = [("s", RULE, RULE, "earlier stages")] if any(arm["flops"]["before"] for arm in arms) else []
    for kind, shade in SHADES.items():
        if any(arm["flops"]["annotationByKind"][kind] for arm in arms):
            marks.append(("s", shade, shade, kind))
    if any(arm["flops"]["generation"] for arm in arms):
        marks.append(("s", MUTED, MUTED, "generation"))
    if marks:
        _key(figure, marks)
    return figure


def control(stage: Json, width: float = WIDTH) -> Figure | None:
    """Accuracy by the feedback that is asked for: the wider a row, the more it decides."""
    arms = [arm for arm in stage["arms"] if arm["accuracy"]]
    if not arms:
        return None
    figure, axes = _rows(arms, 0.86, width)
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


def feedback_bars(stage: Json, width: float = WIDTH) -> Figure | None:
    """How many documents have each raw score, and each level in training."""
    found = stage["feedback"]
    if not found or not found["scores"]:
        return None
    beside = width >= WIDTH
    figure = Figure(figsize=(width, 2.0 if beside else 3.6))
    left, right = figure.subplots(*((1, 2) if beside else (2, 1)))
    figure.subplots_adjust(
        left=0.02, right=0.98, top=0.83 if beside else 0.92, bottom=0.14 if beside else 0.08, wspace=0.12,
        hspace=0.5,
    )  # fmt: skip
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


def _rows(arms: Sequence[Json], bottom_inches: float, width: float) -> tuple[Figure, Axes]:
    """Axes with one named row an arm, the first on top."""
    height = 0.29 * len(arms) + bottom_inches
    left = (max(len(arm["name"][:24]) for arm in arms) * 5.1 + 12) / (INCH * width)
    figure = Figure(figsize=(width, height))
    low = (bottom_inches - 0.42) / height
    axes = figure.add_axes((left, low, 0.985 - left, 0.29 * len(arms) / height))
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set_yticks(range(len(arms)), [arm["name"][:24] for arm in arms])
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_color(colour_of(arm))
    return figure, axes


def _key(figure: Figure, marks: Sequence[tuple[str, str, str, str]]) -> None:
    """A line above the axes that says what marks mean: (marker, edge, face, name)."""
    handles = [
        Line2D([], [], linestyle="", marker=marker, color=edge, markerfacecolor=face, label=name)
        for marker, edge, face, name in marks
    ]
    figure.legend(
        handles=handles, loc="upper left", ncols=len(handles), frameon=False, bbox_to_anchor=(0, 1),
        borderaxespad=0.1, handletextpad=0.2, columnspacing=1.4, labelcolor=MUTED,
    )  # fmt: skip
