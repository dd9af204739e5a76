"""All runs at a glance: what runs, what waits and why, what fails, and what it costs whom."""

from grafana_foundation_sdk.models import common, dashboard

from ixt_dashboards import look, panels
from ixt_dashboards.page import RUN_PAGE, Section, choice, firing, firing_list, page
from ixt_dashboards.panels import Style, lines, listing, now, number
from ixt_dashboards.queries import by, is_one, series
from ixt_dashboards.recordings import DEVICES, PER_HOUR
from ixt_dashboards.recordings import FAILED as FAILED_ATTEMPTS
from ixt_operator.api.status import Phase
from ixt_workloads.contract import metrics as m
from ixt_workloads.contract.metrics import RUN

SPACES = 'namespace=~"$namespace"'
HELD = series(DEVICES.name, SPACES, 'device="$device"')
PRODUCTIVE = series(
    DEVICES.name, SPACES, 'device="$device"',
    f'purpose=~"{"|".join(each for each in m.Spending if each.productive)}"',
)  # fmt: skip
UNFINISHED = is_one(RUN, m.RUN_PHASE, SPACES, f'phase=~"{Phase.PENDING}|{Phase.RUNNING}|{Phase.SUSPENDED}"')
FAILED = f'phase="{Phase.FAILED}"'
RUN_COLUMNS = {
    "namespace": ("Namespace", {"custom.width": 110}),
    "run": ("Run", panels.linked("Look at this run", RUN_PAGE, **{"custom.width": 160})),
}
HOURS = "suffix:h"
"""Grafana would make days of its own hours."""
GOODPUT = look.above((0.5, look.FAIR), (0.8, look.GOOD), base=look.BAD)


def _of_unfinished(metric: m.Metric) -> str:
    return f"{by(RUN, series(metric, SPACES))} and on (namespace, run) ({UNFINISHED})"


def _codes(*phases: Phase) -> str:
    """The phase of each run in one of these, as the number that stands for it."""
    return " or ".join(
        f"({is_one(RUN, m.RUN_PHASE, SPACES, _phase(phase))}) * {code}"
        for phase, code in look.codes(look.PHASES).items()
        if phase in phases
    )


def _phase(name: str) -> str:
    return f'phase="{name}"'


def _hours(expression: str) -> str:
    """Device-hours in the time shown, of a recorded number of devices."""
    return f"sum_over_time({expression}[$__range]) / {PER_HOUR}"


def _glance() -> Section:
    return Section("", (
        number(
            "Runs", "Runs by phase, finished ones too until they are deleted.",
            now(by(["phase"], by(["namespace", "phase"], series(m.RUNS, SPACES)), "sum"), "{{phase}}"),
            Style(decimals=0, colours=look.PHASES, empty="No runs"), (9, 4),
            shows=common.BigValueTextMode.VALUE_AND_NAME,
        ),
        number(
            "Failed", "Runs that failed in the time shown.",
            now(f"count(({is_one(RUN, m.RUN_PHASE, SPACES, FAILED)}) and on (namespace, run) "
                f"(time() - {by(RUN, series(m.RUN_COMPLETION, SPACES))} < $__range_s)) or vector(0)"),
            Style(decimals=0, thresholds=look.above((1, look.BAD))),
        ),
        number(
            "Alerts", "Alerts of ixt that fire now.",
            now(f"count({by(['alertname', *RUN, 'stage', 'step'], firing())}) or vector(0)"),
            Style(decimals=0, thresholds=look.above((1, look.FAIR))),
        ),
        number(
            "Devices held", "GPUs, or processors, that runs hold: the mean of the last hour. Work shows "
            "when a checkpoint "
            "saves it.",
            now(f"sum(sum_over_time({HELD}[1h])) / {PER_HOUR}"),
            Style(decimals=1, empty="None"),
        ),
        number(
            "Goodput", "Productive share of the time for which devices were held in the time shown: not "
            "starting, "
            "waiting for each other, or lost with failed attempts.",
            now(f"sum(sum_over_time({PRODUCTIVE}[$__range])) / sum(sum_over_time({HELD}[$__range]))"),
            Style("percentunit", 0, GOODPUT, 0, 1, empty="Not known yet"),
        ),
        number(
            "Silent pods", "Running pods of steps that did not answer the last four times they were asked "
            "for their progress: their figures are missing here.",
            now(f"max({series(m.PODS_SILENT)})"),
            Style(decimals=0, thresholds=look.above((1, look.FAIR)), empty="Not told"),
        ),
        listing(
            "Runs that are not finished",
            "How far each run is. A click on its name leads to the run. The time left is that of the step "
            "that "
            "runs; goodput is the productive share of its time on devices.",
            {
                "Phase": _codes(Phase.PENDING, Phase.RUNNING, Phase.SUSPENDED),
                "Progress": _of_unfinished(m.RUN_PROGRESS),
                "Time left": _of_unfinished(m.RUN_ETA),
                "Goodput": _of_unfinished(m.RUN_GOODPUT),
                "": by((*RUN, "message"), series(m.RUN_MESSAGE, SPACES)),
            },
            RUN_COLUMNS | {
                "Phase": ("Phase", panels.cells(look.PHASES, coded=True)),
                "Progress": ("Progress", {**panels.PROGRESS, "custom.width": 180}),
                "Time left": ("Step's time left", {"unit": "s", "decimals": 1, "custom.width": 140}),
                "Goodput": ("Goodput", {
                    "unit": "percentunit", "decimals": 0, "custom.width": 90,
                    "thresholds": {"mode": "absolute", "steps": GOODPUT},
                    "custom.cellOptions": {"type": "color-text"},
                }),
                "message": ("Message", {}),
            },
            Style(empty="No run is under way"), (24, 9), sort="Progress",
        ),
        firing_list((*RUN, "stage"), (), {**RUN_COLUMNS, "stage": ("Stage", {})}, (12, 7)),
        listing(
            "What waits, and for what", "Runs whose steps wait: for pods to be scheduled or admitted, for "
            "an artifact "
            "that another run makes, or for the next try after a failure.",
            {"": is_one(
                (*RUN, "reason"), m.RUN_CONDITION, SPACES, 'type="Progressing"', 'reason!="StepsRunning"'
            )},
            {**RUN_COLUMNS, "reason": ("Reason", {})},
            Style(empty="Nothing waits"), (12, 7), sort="Namespace", falling=False,
        ),
    ))  # fmt: skip


def _cost() -> Section:
    return Section("Cost", (
        panels.stacks(
            "Device-hours by namespace", "For what each namespace held devices in the time shown.",
            by(["namespace", "purpose"], _hours(HELD), "sum"), "namespace", "purpose",
            Style(HOURS, colours=look.SPENDINGS, empty="No device was held"), (12, 8),
        ),
        panels.bars(
            "Device-hours by purpose", "The same of all namespaces that are chosen.",
            [now(by(["purpose"], _hours(HELD), "sum"), "{{purpose}}")],
            Style(HOURS, colours=look.SPENDINGS, empty="No device was held"), (12, 8),
        ),
        lines(
            "Devices by namespace", "Devices that runs hold, as the mean of an hour.",
            [panels.Query(by(["namespace"], f"sum_over_time({HELD}[1h]) / {PER_HOUR}", "sum"),
            "{{namespace}}")],
            Style(decimals=1, low=0, empty="No device was held"), stacked=True,
        ),
        lines(
            "Goodput over time", "Productive share of the time for which devices are held, over an hour.",
            [panels.Query(
                f"sum(sum_over_time({PRODUCTIVE}[1h])) / sum(sum_over_time({HELD}[1h]))", "Goodput"
            )],
            Style("percentunit", None, GOODPUT, 0, 1, empty="No device was held"),
        ),
    ))  # fmt: skip


def _failures() -> Section:
    return Section("Failures", (
        lines(
            "Failed attempts by class", "Attempts that failed, of runs that are not finished.",
            [panels.Query(by(["fault"], series(FAILED_ATTEMPTS.name, SPACES), "sum"), "{{fault}}")],
            Style(decimals=0, low=0, colours=look.FAULTS, empty="No attempt failed"), stacked=True,
        ),
        listing(
            "Steps that fail most", "Of runs that are not finished.",
            {"Failed": f"topk(20, {by((*RUN, 'stage', 'step', 'fault'), series(m.STEP_FAILED, SPACES))} > "
            f"0)"},
            {
                **RUN_COLUMNS, "stage": ("Stage", {"custom.width": 90}),
                "step": ("Step", {"custom.minWidth": 100}),
                "fault": ("Fault", panels.cells(look.FAULTS, width=120)),
                "Failed": ("Failed", {"decimals": 0, "custom.width": 80}),
            },
            Style(empty="No attempt failed"), (12, 8), sort="Failed",
        ),
        listing(
            "Runs that finished last", "How runs ended, and when.",
            {
                "Ended": f"topk(50, {by(RUN, series(m.RUN_COMPLETION, SPACES))}) * 1000",
                "Phase": f"({_codes(Phase.COMPLETE, Phase.FAILED)}) and on (namespace, run) "
                f"topk(50, {by(RUN, series(m.RUN_COMPLETION, SPACES))})",
            },
            {
                **RUN_COLUMNS,
                "Ended": ("Ended", {"unit": "dateTimeFromNow", "custom.width": 160}),
                "Phase": ("Phase", panels.cells(look.PHASES, coded=True)),
            },
            Style(empty="No run has finished"), (24, 9), sort="Ended",
        ),
    ), collapsed=True)  # fmt: skip


def fleet() -> dashboard.Dashboard:
    """The dashboard."""
    device = choice("device", "device", DEVICES.name)
    return page(
        "fleet", "ixt / Fleet", "All runs: what runs, what waits and why, what fails, and what it costs "
        "whom.",
        [
            choice("namespace", "namespace", m.RUN_PHASE.name, everything=".*"),
            device.sort(dashboard.VariableSort.ALPHABETICAL_DESC),
        ],
        [_glance(), _cost(), _failures()], "now-24h",
    )  # fmt: skip
