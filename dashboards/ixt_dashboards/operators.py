"""The operator itself: whether it leads, keeps up, and is heard."""

from grafana_foundation_sdk.models import dashboard

from ixt_dashboards import foreign, look, panels
from ixt_dashboards.page import Section, page
from ixt_dashboards.panels import Query, Style, lines, listing, now, number
from ixt_dashboards.queries import RATE, buckets, by, quantile, rate, series
from ixt_workloads.contract import metrics as m

IDLE = "No operator was scraped in this time"
PODS = f"and on (job, instance) {series(m.BUILD)}"
"""Keeps the series of processes that are operators'."""
OUTCOMES = {"ok": look.GOOD, "conflict": look.IDLE, "error": look.BAD}


def _glance() -> Section:
    return Section("", (
        number(
            "Leads", "Replicas that lead: exactly one should, but for the seconds of a change.",
            now(f"sum({series(m.LEADER)})"),
            Style(decimals=0, thresholds=look.above((1, look.GOOD), (2, look.FAIR), base=look.BAD),
            empty="None is heard"), (4, 4),
        ),
        number(
            "Replicas", "Operators that are scraped.", now(f"count({series(m.BUILD)})"),
            Style(decimals=0, empty="None"), (4, 4), coloured=False,
        ),
        number(
            "Oldest in the queue", "For how long the run that waits longest has been due.",
            now(by((), series(m.QUEUE_OLDEST))),
            Style("s", 1, look.above((30, look.FAIR), (300, look.BAD)), empty=IDLE), (4, 4),
        ),
        number(
            "Looks that failed", "Share of looks at runs that ended in an error, over ten minutes.",
            now(_errors()), Style("percentunit", 1, look.above((0.01, look.FAIR), (0.1, look.BAD)),
            empty="No looks"), (4, 4),
        ),
        number(
            "Silent pods", "Running pods of steps that did not answer the last four times they were asked "
            "for their progress.",
            now(by((), series(m.PODS_SILENT))), Style(decimals=0, thresholds=look.above((1, look.FAIR)),
            empty=IDLE), (4, 4),
        ),
        number(
            "Last full list", "Time since all objects were last listed without an error.",
            now(f"time() - {by((), series(m.LAST_LIST))}"),
            Style("s", 0, look.above((1800, look.FAIR), (7200, look.BAD)), empty="Not yet"), (4, 4),
        ),
    ))  # fmt: skip


def _errors() -> str:
    looks = [by((), rate(m.RECONCILES, *more, window="10m"), "sum") for more in (('outcome="error"',), ())]
    return f"({looks[0]} or vector(0)) / ({looks[1]} > 0)"


def _looks() -> Section:
    latency = [Query(quantile(of, m.RECONCILE_SECONDS), f"p{of * 100:.0f}") for of in (0.5, 0.95, 0.99)]
    return Section("Looks at runs", (
        lines(
            "Looks", "Looks at runs a second by how they ended. A conflict is tried again at once.",
            [Query(by(["outcome"], rate(m.RECONCILES), "sum"), "{{outcome}}")],
            Style(low=0, colours=OUTCOMES, empty=IDLE), (8, 8), stacked=True,
        ),
        lines("Duration of a look", "From reading a run to the last request.", latency, Style("s", low=0,
        empty=IDLE), (8, 8)),
        lines(
            "Queue", "Runs that are due, and for how long the oldest has been.",
            [Query(by((), series(m.QUEUE_DEPTH)), "Runs"), Query(by((), series(m.QUEUE_OLDEST)), "Oldest")],
            Style(decimals=0, low=0, overrides={"Oldest": {"unit": "s", "custom.axisPlacement": "right"}},
            empty=IDLE), (8, 8),
        ),
        panels.heat(
            "Durations of looks", "How many looks took how long.",
            by(["le"], f"increase({series(buckets(m.RECONCILE_SECONDS), window=RATE)})", "sum"),
            Style("s", empty=IDLE), (12, 8),
        ),
        panels.timeline(
            "Leader", "Which replica led when. A gap is a time without a leader.",
            [Query(f"{by(['pod'], series(m.LEADER))} == 1", "{{pod}}")],
            Style(mappings=look.yes_no(("leads", look.GOOD), ("waits", look.IDLE)),
            empty="None led in this time"), (12, 8),
        ),
    ))  # fmt: skip


def _server() -> Section:
    refused = 'code=~"0|4..|5.."'
    return Section("API server", (
        lines(
            "Requests", "Requests a second by verb and resource.",
            [Query(by(["verb", "resource"], rate(m.REQUESTS), "sum"), "{{verb}} {{resource}}")],
            Style(low=0, empty=IDLE), (8, 8),
        ),
        lines(
            "Requests that failed", "By code; 0 is for no answer. 404 and 409 come with everyday races.",
            [Query(by(["code", "resource"], rate(m.REQUESTS, refused), "sum"), "{{code}} {{resource}}")],
            Style(low=0, empty="None failed"), (8, 8),
        ),
        lines(
            "Latency of requests", "Of 95 % of the requests, by verb.",
            [Query(quantile(0.95, m.REQUEST_SECONDS, labels=["verb"]), "{{verb}}")], Style("s", low=0,
            empty=IDLE), (8, 8),
        ),
        lines(
            "Watches opened again", "A second, by resource. One every few minutes is how the API server "
            "works.",
            [Query(by(["resource"], rate(m.WATCH_RESTARTS), "sum"), "{{resource}}")], Style(
            low=0, empty="None was opened again"), (8, 8),
        ),
        lines(
            "Since the last full list", "All objects are listed anew at times, in case a watch missed "
            "something.",
            [Query(f"time() - {by((), series(m.LAST_LIST))}", "Seconds")], Style("s", low=0,
            empty="Not yet"), (8, 8),
        ),
        listing(
            "Namespaces that cannot be served", "Objects there cannot be listed: runs there stand still.",
            {"": f"{by(['namespace'], series(m.NAMESPACE_UNSERVED))} == 1"},
            {"namespace": ("Namespace", {})},
            Style(empty="All can be served"), (8, 8),
        ),
    ))  # fmt: skip


def _figures() -> Section:
    return Section("Figures of steps", (
        lines(
            "Silent pods over time", "Pods that did not answer. Their runs' figures stand still, then "
            "vanish.",
            [Query(by((), series(m.PODS_SILENT)), "Pods")], Style(decimals=0, low=0, empty=IDLE), (12, 7),
        ),
        lines(
            "Figures that were refused", "Figures of pods a second that are left out, by why.",
            [Query(by(["reason"], rate(m.FIGURES_REFUSED), "sum"), "{{reason}}")],
            Style(low=0, empty="None was refused"), (12, 7),
        ),
    ))  # fmt: skip


def _process() -> Section:
    pod = "{{instance}}"
    return Section("Process", (
        lines(
            "Processors", "Processors that each operator uses.",
            [Query(f"{rate(foreign.PROCESS_CPU)} {PODS}", pod)], Style(low=0, empty=IDLE), (8, 8),
        ),
        lines("Memory", "Resident memory of each operator.", [Query(f"{series(foreign.PROCESS_MEMORY)} "
        f"{PODS}", pod)], Style("bytes", low=0, empty=IDLE), (8, 8)),
        lines("Open files", "Files and connections of each operator.",
        [Query(f"{series(foreign.PROCESS_FILES)} {PODS}", pod)], Style(decimals=0, low=0, empty=IDLE), (8,
        8)),
        listing(
            "Versions", "Operators that are scraped, with their versions and how long they have run.",
            {"Up for": f"time() - {by(['job', 'instance'], f'{series(foreign.PROCESS_START)} {PODS}')}",
             "": by(["job", "instance", "version"], series(m.BUILD))},
            {
                "job": ("Job", {}), "instance": ("Instance", {}), "version": ("Version", {}),
                "Up for": ("Up for", {"unit": "s", "decimals": 0}),
            },
            Style(empty=IDLE), (24, 6),
        ),
    ), collapsed=True)  # fmt: skip


def operator() -> dashboard.Dashboard:
    """The dashboard."""
    return page(
        "operator", "ixt / Operator", "The operator itself: whether it leads, keeps up, and is heard.",
        [], [_glance(), _looks(), _server(), _figures(), _process()], "now-3h",
        'alertname=~"IXT(NoLeader|QueueStuck|ReconcileErrors|NamespaceUnserved|FiguresMissing)"',
    )  # fmt: skip
