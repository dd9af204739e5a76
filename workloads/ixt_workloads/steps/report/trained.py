"""The report's chart of how the trainings went."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ixt_workloads.steps.report.lines import dashes
from ixt_workloads.steps.report.read import Json
from ixt_workloads.steps.report.style import MUTED, WIDTH, colour_of

PANELS = {
    "loss": "Training loss, nats a token",
    "learningRate": "Learning rate",
    "tokensPerSecond": "Tokens a second",
}


def training(stage: Json, width: float = WIDTH) -> Figure | None:
    """Loss, learning rate and throughput of every lane against its tokens, a line each; the panels beside
    each other, or below each other where that is too narrow."""
    shown = [
        name
        for name in PANELS
        if any(
            value is not None
            for arm in stage["arms"]
            for curve in arm["learning"]["curves"]
            for value in curve[name]
        )
    ]
    if not shown:
        return None
    beside = width >= WIDTH
    figure = Figure(figsize=(width, 2.3 if beside else 1.75 * len(shown) + 0.4))
    grid = figure.subplots(*((1, len(shown)) if beside else (len(shown), 1)), squeeze=False)
    for axes, name in zip(grid.flat, shown, strict=True):
        _panel(axes, stage["arms"], name)
        axes.set_title(PANELS[name])
    grid.flat[-1].set_xlabel("Tokens")
    _names(figure, stage["arms"], columns=5 if beside else 3)
    lines = -(-len(stage["arms"]) // (5 if beside else 3)) * 0.17 + 0.34
    height = figure.get_size_inches()[1]
    figure.subplots_adjust(
        left=0.4 / width, right=0.985, top=1 - lines / height, bottom=0.42 / height, wspace=0.3, hspace=0.55
    )
    return figure


def _panel(axes: Axes, arms: Sequence[Json], name: str) -> None:
    styles = dashes(arms)
    for arm in arms:
        for curve in arm["learning"]["curves"]:
            points = [
                (tokens, value)
                for tokens, value in zip(curve["tokens"], curve[name], strict=True)
                if value is not None
            ]
            if points:
                axes.plot(
                    *zip(*points, strict=True), color=colour_of(arm), linestyle=styles[arm["name"]],
                    linewidth=1.1, alpha=0.85, marker="o" if len(points) == 1 else None, markersize=3,
                )  # fmt: skip
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_short))
    axes.yaxis.set_major_formatter(FuncFormatter(_short))
    if name != "loss":
        axes.set_ylim(bottom=0)


def _short(value: float, _: object) -> str:
    """A number in little room: 200k, 1.5B, 3e-4."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    if 0 < abs(value) < 1e-2:
        return f"{value:.1e}".replace(".0e", "e").replace("e-0", "e-")
    return f"{value:.3g}"


def _names(figure: Figure, arms: Sequence[Json], columns: int) -> None:
    styles = dashes(arms)
    handles = [
        Line2D([], [], color=colour_of(arm), linestyle=styles[arm["name"]], label=arm["name"][:24])
        for arm in arms
    ]
    figure.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, bbox_to_anchor=(0, 1),
        borderaxespad=0.1, handlelength=1.4, handletextpad=0.4, columnspacing=1.2, labelcolor=MUTED,
    )  # fmt: skip
