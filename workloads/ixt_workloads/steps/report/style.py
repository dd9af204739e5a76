"""How the report's charts look. Colours follow the page's light or dark theme."""

from typing import Any

from ixt_workloads.contract.settings import Method
from ixt_workloads.steps.report.read import Json

INK, MUTED, RULE, PAPER = "#1d2025", "#656b74", "#dddfe3", "#ffffff"

COLOURS = {
    Method.NEXT_TOKEN: "#74797f",
    Method.CONDITIONED: "#0072b2",
    Method.FILTERED: "#d55e00",
    Method.ANNEALED: "#009e73",
    Method.SHUFFLED: "#b8659a",
    Method.REJECTION_SAMPLING: "#e69f00",
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

WIDTH, NARROW = 7.2, 4.2
"""Width of every chart in inches; and of the one for a phone, drawn anew so that letters can be read."""
INCH = 72
"""Points."""

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


def colour_of(arm: Json) -> str:
    """Colour of an arm: its method's."""
    return COLOURS[Method(arm["method"])]


def themed(svg: str) -> str:
    """An SVG file as an element of the page: its colours become CSS variables, its fonts the page's."""
    element = svg[svg.index("<svg") :]
    for namespace in ("http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"):
        element = element.replace(f'xmlns="{namespace}"', "").replace(f'xmlns:xlink="{namespace}"', "")
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, f"var(--{variable})")
    return element.replace("'DejaVu Sans'", "system-ui")
