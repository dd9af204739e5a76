"""The report's charts, as SVG for the page and PNG for slides."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ixt_workloads.steps.report.bars import control, costs, feedback_bars
from ixt_workloads.steps.report.lines import curves
from ixt_workloads.steps.report.read import Json
from ixt_workloads.steps.report.style import STYLE, themed
from ixt_workloads.steps.report.verdict import Measure


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
        "accuracy": (lambda stage: curves(stage, Measure.ACCURACY), "Accuracy against total FLOPs, by arm"),
        "loss": (
            lambda stage: curves(stage, Measure.LOG_PROBABILITY),
            "Loss on held-out documents against total FLOPs, by arm",
        ),
        "cost": (costs, "FLOPs by purpose, by arm"),
        "control": (control, "Accuracy by the feedback that is asked for, by arm"),
        "feedback": (feedback_bars, "Raw scores and quality levels of the documents"),
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
