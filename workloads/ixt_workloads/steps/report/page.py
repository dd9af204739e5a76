"""The report's JSON and pictures as one HTML page that needs nothing from outside. Text is escaped."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ixt_workloads.steps.report import numbers
from ixt_workloads.steps.report.figures import Picture
from ixt_workloads.steps.report.measure import Measure


def render(report: Mapping[str, Any], pictures: Mapping[str, Mapping[str, Picture]]) -> str:
    """The page. `pictures` are each stage's, by what they show."""
    environment = Environment(
        loader=PackageLoader("ixt_workloads.steps.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "flops": numbers.flops,
        "count": numbers.count,
        "decimal": numbers.decimal,
        "ratio": numbers.ratio,
        "percent": numbers.percent,
        "quality": lambda value, metric, digits=None: Measure(metric).shown(value, digits),
    }
    return environment.get_template("page.html.jinja").render(
        report=report, picture=partial(_element, pictures)
    )


def _element(pictures: Mapping[str, Mapping[str, Picture]], stage: str, what: str) -> Markup:
    """A picture as a labelled element, or nothing when the stage has none."""
    found = pictures.get(stage, {}).get(what)
    if found is None:
        return Markup("")
    drawn = (Markup(svg) for svg in (found.svg, found.narrow))  # noqa: S704 - matplotlib escapes the text
    return Markup(
        '<div class="picture wide" role="img" aria-label="{0}">{1}</div>'
        '<div class="picture narrow" role="img" aria-label="{0}">{2}</div>'
    ).format(found.alt, *drawn)
