"""Every question that dashboards and rules put to Prometheus, with its place: so that each can be proved."""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from grafana_foundation_sdk.models import dashboard
from grafana_foundation_sdk.models.prometheus import Dataquery

from ixt_dashboards.alerts import Threshold, alerts, default
from ixt_dashboards.recordings import RECORDINGS


class Expression(NamedTuple):
    """A question in PromQL; Grafana's variables stand in it as they are."""

    place: str
    """For people: "Run: Loss over tokens A", "alert IXTRunStalled"."""
    text: str
    instant: bool = True
    """Whether it is asked about now, not over the time shown."""


def expressions(*made: dashboard.Dashboard) -> list[Expression]:
    """All of these dashboards: of panels, variables and annotations."""
    return [found for each in made for found in _of_dashboard(each)]


def of_rules(threshold: Threshold = default) -> list[Expression]:
    """All of recording rules and alerts."""
    return [
        *(Expression(f"recording {each.name}", each.expression) for each in RECORDINGS),
        *(Expression(f"alert {each.name}", each.expression) for each in alerts(threshold)),
    ]


def _of_dashboard(made: dashboard.Dashboard) -> Iterator[Expression]:
    for panel in panels(made):
        for target in panel.targets or []:
            if isinstance(target, Dataquery):
                place = f"{made.title}: {panel.title} {target.ref_id}"
                yield Expression(place, target.expr, bool(target.instant))
    for variable in made.templating.list_val or []:
        found = re.fullmatch(r"label_values\((.+), \w+\)", str(variable.query or ""))
        if found:
            yield Expression(f"{made.title}: variable {variable.name}", found[1])
    for annotation in made.annotations.list_val or []:
        if annotation.expr:
            yield Expression(f"{made.title}: annotation {annotation.name}", annotation.expr, False)


def panels(made: dashboard.Dashboard) -> Iterator[dashboard.Panel]:
    """The panels of a dashboard, those of collapsed rows too."""
    for panel in made.panels or []:
        inner: Iterable[dashboard.Panel] = panel.panels if isinstance(panel, dashboard.RowPanel) else [panel]
        yield from inner
