"""Whole dashboards: variables, links between them, rows."""

from collections.abc import Sequence
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard

from ixt_dashboards import foreign, look
from ixt_dashboards.panels import SOURCE, Columns, Panel, Style, cells, linked, listing
from ixt_dashboards.queries import by, series
from ixt_workloads.contract import metrics as m

UIDS = {"fleet": "ixt-fleet", "run": "ixt-run", "judge": "ixt-judge", "operator": "ixt-operator"}
RUNBOOKS = "docs/runbooks"
"""Where runbooks are, unless the chart's values say otherwise: the folder in the sources."""

RUN_PAGE = (
    "/d/ixt-run?${datasource:queryparam}&var-namespace=${__data.fields.Namespace}"
    "&var-run=${__data.fields.Run}&${__url_time_range}"
)
"""From a row of a table with the columns Namespace and Run to that run."""
RUNBOOK_PAGE = "${runbooks}/${__data.fields.Alert}.md"
"""From a row of a table with the column Alert to what to do about it."""


class Section(NamedTuple):
    """A row of panels that can be collapsed; the first has no title and always shows."""

    title: str
    panels: Sequence[Panel]
    collapsed: bool = False


def page(
    name: str,
    title: str,
    description: str,
    variables: Sequence[build.QueryVariable],
    sections: Sequence[Section],
    since: str,
    annotations: str = "",
) -> dashboard.Dashboard:
    """A dashboard. `annotations` are matchers of the alerts that it marks on its graphs."""
    built = build.Dashboard(title).uid(UIDS[name]).description(description).tags(["ixt"])
    built.refresh("30s").time(since, "now").timezone("browser").editable()
    built.tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
    built.with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for variable in variables:
        built.with_variable(variable)
    built.with_variable(build.ConstantVariable("runbooks").value(RUNBOOKS))
    for other, uid in UIDS.items():
        if other != name:
            link = build.DashboardLink(other.capitalize()).type(dashboard.DashboardLinkType.LINK)
            built.link(link.url(f"/d/{uid}").include_vars(True).keep_time(True).icon("dashboard"))
    built.annotation(_alerts(annotations))
    for section in sections:
        _add(built, section)
    made = built.build()
    _number(made)
    return made


def firing(*matchers: str) -> str:
    """Alerts of ixt that fire."""
    return series(foreign.ALERTS, 'alertname=~"IXT.+"', 'alertstate="firing"', *matchers)


def firing_list(
    labels: Sequence[str], matchers: Sequence[str], columns: Columns, size: tuple[int, int]
) -> Panel:
    """A table of the alerts that fire, the worst first. `labels` are those that tell where."""
    severity = 'severity="{}"'
    codes = (
        f"{firing(severity.format(word), *matchers)} * {code}"
        for word, code in look.codes(look.SEVERITIES).items()
    )
    return listing(
        "Alerts that fire", "A click on an alert leads to its runbook: what it means and what to do.",
        {"Severity": by(["alertname", *labels], " or ".join(codes))},
        {
            "Severity": ("Severity", cells(look.SEVERITIES, coded=True, width=90)),
            "alertname": ("Alert", linked("What to do", RUNBOOK_PAGE)),
            **columns,
        },
        Style(empty="No alert fires"), size, sort="Severity", falling=False,
    )  # fmt: skip


def _alerts(matchers: str) -> build.AnnotationQuery:
    query = build.AnnotationQuery().name("Alerts").datasource(SOURCE).enable(True).icon_color(look.BAD)
    return query.expr(by(["alertname", "stage", "step"], firing(matchers)))


def _add(built: build.Dashboard, section: Section) -> None:
    if section.title:
        row = build.Row(section.title).collapsed(section.collapsed)
        if section.collapsed:
            for panel in section.panels:
                row.with_panel(panel)
        built.with_row(row)
    if not section.collapsed:
        for panel in section.panels:
            built.with_panel(panel)


def _number(made: dashboard.Dashboard) -> None:
    """Give every panel an id: links to a panel keep working as long as its place does."""
    number = 0
    for panel in made.panels or []:
        for each in (panel, *(panel.panels if isinstance(panel, dashboard.RowPanel) else ())):
            number += 1
            each.id_val = number


def choice(name: str, label: str, values: str, *, everything: str = "") -> build.QueryVariable:
    """A variable with the values that `values`, a selector, has of the label `label`. With `everything`,
    several can be chosen, or all, which that pattern stands for."""
    variable = build.QueryVariable(name).label(name.capitalize()).datasource(SOURCE)
    variable.query(f"label_values({values}, {label})").refresh(
        dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED
    )
    variable.sort(dashboard.VariableSort.NATURAL_ASC)
    if everything:
        every = dashboard.VariableOption(selected=True, text="All", value="$__all")
        variable.multi(True).include_all(True).all_value(everything).current(every)
    return variable


def of_run() -> list[build.QueryVariable]:
    """Namespace and run, one of each."""
    return [
        choice("namespace", "namespace", m.RUN_PHASE.name),
        choice("run", "run", series(m.RUN_PHASE, 'namespace="$namespace"')),
    ]
