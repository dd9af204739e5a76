"""What is built, as the text of files."""

import json
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard

from ixt_dashboards import rules
from ixt_dashboards.fleet import fleet
from ixt_dashboards.judge import judge
from ixt_dashboards.operators import operator
from ixt_dashboards.run import run

CHART = Path("charts/ixt-operator")


def dashboards() -> list[dashboard.Dashboard]:
    """All dashboards."""
    return [fleet(), run(), judge(), operator()]


def files() -> dict[Path, str]:
    """The text of each file, by its path in the sources."""
    found = {
        Path("dashboards/rules.yaml"): rules.file(),
        Path("dashboards/rules-local.yaml"): rules.file_of_runs(),
        CHART / "templates/rules.yaml": rules.template(),
    }
    for made in dashboards():
        text = json.dumps(made, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"
        for folder in (Path("dashboards"), CHART / "dashboards"):
            found[folder / f"{made.uid}.json"] = text
    return found
