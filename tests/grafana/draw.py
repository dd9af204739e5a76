"""Pictures of Grafana dashboards with data of a Prometheus, drawn by Grafana's own components.

`python -m grafana.draw DASHBOARD.json PROMETHEUS OUT.png [NAME=VALUE ...]` draws the last hour; `--help` says
more.
"""

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from grafana import layout, page, variables
from grafana.prometheus import Source, Span

Theme = Literal["light", "dark"]


def draw(
    dashboard: Path | Mapping[str, Any],
    prometheus_url: str,
    out: Path,
    *,
    variables: Mapping[str, variables.Value] = {},
    start: float,
    end: float,
    theme: Theme = "light",
    width: int = 1440,
    scale: float = 1,
    scrape_interval: float = 15,
) -> list[str]:
    """Draw a dashboard into a PNG, and say which panels had no data, by their titles.

    `start` and `end` are seconds since 1970, `width` is in CSS pixels, of which `scale` says how many of the
    picture's make one, and `scrape_interval` is what Grafana's data source would say of this Prometheus, in
    seconds. Raises QueryError when Prometheus refuses a query, VariableError,
    and PageError when a panel cannot be drawn.
    """
    tree = json.loads(dashboard.read_text()) if isinstance(dashboard, Path) else dashboard
    source = Source(prometheus_url, scrape_interval)
    job = _job(tree, source, variables, Span(start, end), theme, width)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "job.json")
        file.write_text(json.dumps(job))
        answer = json.loads(page.shoot(file, out, scale))
    return [str(title) for title in answer["empty"]]


def _job(
    dashboard: Mapping[str, Any],
    source: Source,
    given: Mapping[str, variables.Value],
    span: Span,
    theme: Theme,
    width: int,
) -> dict[str, Any]:
    """What the page is told: src/model.ts has its types."""
    known = variables.of_dashboard(dashboard, given, source.label_values)
    placed = layout.arrange(dashboard.get("panels") or [])
    return {
        "theme": theme,
        "title": dashboard.get("title") or "",
        "variables": _shown(dashboard, known),
        "width": width,
        "height": layout.height([box for _, box in placed]),
        "from": round(span.start * 1000),
        "to": round(span.end * 1000),
        "timeZone": "utc",
        "items": [_item(panel, box.pixels(width), source, span, known) for panel, box in placed],
    }


def _item(
    panel: Mapping[str, Any],
    place: Mapping[str, float],
    source: Source,
    span: Span,
    known: Mapping[str, variables.Value],
) -> dict[str, Any]:
    title = variables.fill(panel.get("title") or "", known, "text")
    if panel["type"] == "row":
        return {"kind": "row", **place, "title": title}
    frames = source.frames(panel, span, round(place["width"]), known)
    rest = {key: value for key, value in panel.items() if key not in {"targets", "panels"}}
    return {"kind": "panel", **place, "panel": variables.fill_all(rest, known), "frames": frames}


def _shown(dashboard: Mapping[str, Any], known: Mapping[str, variables.Value]) -> list[dict[str, str]]:
    listed = (dashboard.get("templating") or {}).get("list") or []
    return [
        {
            "label": variable.get("label") or variable["name"],
            "value": _word(known[variable["name"]]),
        }
        for variable in listed
        if variable["name"] in known and variable.get("hide") not in {2, "hideVariable"}
    ]


def _word(value: variables.Value) -> str:
    everything = isinstance(value, variables.Pattern) or value == ".*"
    return "All" if everything else variables.formatted(value, "text")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Draw a dashboard into a PNG.")
    parser.add_argument("dashboard", type=Path)
    parser.add_argument("prometheus")
    parser.add_argument("out", type=Path)
    parser.add_argument("variables", nargs="*", metavar="NAME=VALUE")
    parser.add_argument("--start", type=float, default=time.time() - 3600, help="seconds since 1970")
    parser.add_argument("--end", type=float, default=time.time())
    parser.add_argument("--theme", choices=("light", "dark"), default="light")
    parser.add_argument("--width", type=int, default=1440)
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--scrape-interval", type=float, default=15, help="seconds")
    options = vars(parser.parse_args(arguments))
    given = [re.split("=", pair, maxsplit=1) for pair in options.pop("variables")]
    empty = draw(
        options.pop("dashboard"),
        options.pop("prometheus"),
        options.pop("out"),
        variables=dict(given),
        **options,
    )
    if empty:
        print(f"no data: {', '.join(empty)}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(str(error))
