"""The report's charts, as SVG for the page and, for slides, PNG if asked for."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ixt_workloads.steps.report.bars import control, costs, feedback_bars
from ixt_workloads.steps.report.lines import curves
from ixt_workloads.steps.report.measure import Measure
from ixt_workloads.steps.report.read import Json
from ixt_workloads.steps.report.style import NARROW, STYLE, WIDTH, themed
from ixt_workloads.steps.report.trained import training


@dataclass(frozen=True)
class Picture:
    """One chart."""

    name: str
    """Without ending; unique in the report."""
    alt: str
    svg: str
    """An <svg> element to put into the page."""
    narrow: str
    """The same for a phone."""
    wide: Figure

    def png(self) -> bytes:
        """The chart as PNG: to draw it takes as long as the elements of the page."""
        file = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.wide.savefig(file, format="png", dpi=200, metadata={"Software": None})
        return file.getvalue()


Draw = Callable[[Json, float], Figure | None]
"""Draws a chart of a stage in so many inches, if it has data for it."""

CHARTS: dict[str, tuple[Draw, str]] = {
    "accuracy": (
        lambda stage, width: curves(stage, Measure.ACCURACY, width),
        "Accuracy against total FLOPs, by arm",
    ),
    "loss": (
        lambda stage, width: curves(stage, Measure.LOG_PROBABILITY, width),
        "Loss on held-out documents against total FLOPs, by arm",
    ),
    "cost": (costs, "FLOPs by purpose, by arm"),
    "training": (training, "Training loss, learning rate and tokens a second against tokens, by arm"),
    "control": (control, "Accuracy by the feedback that is asked for, by arm"),
    "feedback": (feedback_bars, "Raw scores and quality levels of the documents"),
}


def pictures(stage: Json) -> dict[str, Picture]:
    """A stage's charts by what they show: those for which it has data."""
    found = {}
    for what, (draw, alt) in CHARTS.items():
        with mpl.rc_context(STYLE):
            wide, narrow = (draw(stage, width) for width in (WIDTH, NARROW))
            if wide is not None and narrow is not None:
                name = f"{what}-{stage['name']}"
                found[what] = Picture(name, alt, _svg(name, wide), _svg(f"{name} narrow", narrow), wide)
    return found


def _svg(name: str, figure: Figure) -> str:
    """An <svg> element; names in it are made of `name`, since a page has many."""
    FigureCanvasAgg(figure)
    file = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": f"ixt {name}"}):
        figure.savefig(file, format="svg", transparent=True, metadata=nothing)
    return themed(file.getvalue())
