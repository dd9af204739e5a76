"""The dashboards of ixt as a run shows them, in light and dark.

`python -m grafana.pictures PROMETHEUS NAMESPACE/RUN` draws all; root gets the packages that are missing.
Their times are the run's own, from its beginning to its end or to now, unless others are given.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import get_args

from cluster import debian

from grafana.draw import Theme, draw
from grafana.prometheus import QueryError, Source

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
OF_A_RUN = ("ixt-run", "ixt-judge")
LONGEST = "90d"
"""How far back a run is looked for."""


def pictures(
    prometheus: str, namespace: str, run: str, out: Path, start: float | None, end: float | None
) -> None:
    """Draw each dashboard in both themes, as OUT/NAME-THEME.png. Times are seconds since 1970."""
    source = Source(prometheus)
    chosen = f'{{namespace="{namespace}", run="{run}"}}'
    first = start or _time(source, f"ixt_run_start_timestamp_seconds{chosen}")
    last = end or _time(source, f"ixt_run_completion_timestamp_seconds{chosen}") or time.time()
    if first is None:
        raise QueryError(f"{prometheus} knows no run {namespace}/{run} that has begun")
    out.mkdir(parents=True, exist_ok=True)
    for dashboard in sorted(DASHBOARDS.glob("ixt-*.json")):
        of_run = {"namespace": namespace, "run": run} if dashboard.stem in OF_A_RUN else {}
        for theme in get_args(Theme):
            file = out / f"{dashboard.stem}-{theme}.png"
            empty = draw(dashboard, prometheus, file, variables=of_run, start=first, end=last, theme=theme)
            print(f"{file}: without data are {', '.join(empty) or 'no panels'}")


def _time(source: Source, selector: str) -> float | None:
    return source.value(f"max(last_over_time({selector}[{LONGEST}]))")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Draw the dashboards of ixt as a run shows them.")
    parser.add_argument("prometheus")
    parser.add_argument("run", metavar="NAMESPACE/RUN")
    parser.add_argument("--out", type=Path, default=Path("docs/dashboards"))
    parser.add_argument("--start", type=float, help="seconds since 1970")
    parser.add_argument("--end", type=float)
    options = parser.parse_args(arguments)
    namespace, _, run = options.run.partition("/")
    if not run:
        parser.error("say NAMESPACE/RUN")
    debian.install(debian.PICTURES)
    pictures(options.prometheus, namespace, run, options.out, options.start, options.end)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except RuntimeError as error:
        sys.exit(str(error))
