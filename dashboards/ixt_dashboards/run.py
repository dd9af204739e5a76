"""One run from top to bottom: how far it is, whether it is well, what it says, and what it costs."""

from collections.abc import Callable

from grafana_foundation_sdk.models import dashboard

from ixt_dashboards import look, panels
from ixt_dashboards.annotation import annotation
from ixt_dashboards.page import Section, choice, firing, firing_list, of_run, page
from ixt_dashboards.panels import Query, Style, listing, now, number
from ixt_dashboards.queries import STEP, by, in_run, in_stage, last, series
from ixt_dashboards.rounds import rounds
from ixt_dashboards.training import evaluation, speed, training
from ixt_workloads.contract import metrics as m

SHOWN = ("stage", "step")
"""What names a step to people: its arm is part of its name."""


def _one(metric: m.Metric) -> str:
    return by((), last(metric, *in_run()))


def _hours(shown: Callable[..., str]) -> str:
    """Device-hours by purpose, of which `shown` makes the counters' part: of GPUs, or of processors where the
    run holds none. Work that no checkpoint has saved yet is part of them."""
    of = (
        by(["purpose"], f"{by(['purpose'], shown(counted, *in_run()))} or {_at_risk(unsaved)}", "sum")
        for counted, unsaved in (
            (m.RUN_GPU_SECONDS, m.RUN_UNSAVED_GPU_SECONDS), (m.RUN_CPU_SECONDS, m.RUN_UNSAVED_CPU_SECONDS),
        )
    )  # fmt: skip
    return f"({' or on () '.join(of)}) / 3600"


def _at_risk(unsaved: m.Metric) -> str:
    """With a label of its own, so that it stands beside what is counted of the same purpose."""
    return f'label_replace({by(["purpose"], series(unsaved, *in_run()))}, "saved", "no", "", "")'


HOURS = _hours(last)


def _phase() -> str:
    """The phase as the number that stands for it."""
    each = (
        f"({series(m.RUN_PHASE, *in_run(_is('phase', word)))} == 1) * {code}"
        for word, code in look.codes(look.PHASES).items()
    )
    return by((), " or ".join(each))


def _is(label: str, value: str) -> str:
    return f'{label}="{value}"'


def _states(labels: tuple[str, ...]) -> str:
    """The state of each step as the number that stands for it."""
    each = (
        f"({series(m.STEP_STATE, *in_stage(_is('state', state)))} == 1) * {code}"
        for state, code in look.codes(look.STATES).items()
    )
    return by(labels, " or ".join(each))


def _last_of_steps(metric: m.Metric, how: str = "max") -> str:
    return by(SHOWN, by(STEP, last(metric, *in_stage())), how)


def _header() -> Section:
    time_left = by((), series(m.RUN_ETA, *in_run()))
    return Section("", (
        number(
            "Phase", "Where the run is.", now(_phase()),
            Style(mappings=look.numbered(look.PHASES), empty="Not known"),
        ),
        number(
            "Progress", "How much of the whole run is done, by cost.", now(_one(m.RUN_PROGRESS)),
            Style("percentunit", 0, low=0, high=1, empty="Not begun"), coloured=False,
        ),
        number(
            "Step's time left", "Time left in the step that runs, at its rate.", now(time_left),
            Style("s", 1, empty="Not known"), coloured=False,
        ),
        number(
            "Deadline in", "Time that activeDeadlineSeconds leaves the run.",
            now(by((), series(m.RUN_DEADLINE, *in_run()))),
            Style("s", 1, look.above((3600, look.FAIR), (86400, look.GOOD), base=look.BAD), empty="None set"),
        ),
        number(
            "Took so far", "Time since the run began, until its end.",
            now(f"({_one(m.RUN_COMPLETION)} or vector(time())) - {_one(m.RUN_START)}"),
            Style("s", 1, empty="Not begun"), coloured=False,
        ),
        number(
            "Goodput", "Productive share of the time on devices: not starting, waiting for each other, or "
            "lost with "
            "failed attempts.",
            now(_one(m.RUN_GOODPUT)),
            Style("percentunit", 0, look.above((0.5, look.FAIR), (0.8, look.GOOD), base=look.BAD), 0, 1,
            empty="Not known"),
        ),
        number(
            "Device-hours", "Hours of GPUs that the run has held; of processors, where it holds no GPU.",
            now(f"sum({HOURS})"), Style("suffix:h", 1, empty="None"), coloured=False,
        ),
        number(
            "Alerts", "Alerts about this run that fire now.",
            now(f"count({by(['alertname', 'stage', 'step'], firing(*in_run()))}) or vector(0)"),
            Style(decimals=0, thresholds=look.above((1, look.FAIR))),
        ),
        listing(
            "What it says", "The newest message of the run. kubectl ixt status says more.",
            {"": by(["message"], series(m.RUN_MESSAGE, *in_run()))},
            {"message": ("Message", panels.WRAPPED)},
            Style(empty="The run has finished, or nobody tells of it"), (9, 6),
        ),
        listing(
            "Conditions", "The conditions of the run, and why each is as it is.",
            {"Holds": by(["type", "reason"], series(m.RUN_CONDITION, *in_run()))},
            {
                "type": ("Condition", {}), "reason": ("Reason", {}),
                "Holds": ("Holds", {"mappings": look.yes_no(("yes", look.NEUTRAL), ("no", look.IDLE)),
                **panels.COLOURED,
                                    "custom.width": 80}),
            },
            Style(empty="Nobody tells of this run"), (7, 6), sort="Holds",
        ),
        firing_list(
            SHOWN, in_run(), {"stage": ("Stage", {"custom.width": 80}), "step": ("Step", {})}, (8, 6)
        ),
    ))  # fmt: skip


def _steps() -> Section:
    done, expected = _last_of_steps(m.STEP_DONE), _last_of_steps(m.STEP_EXPECTED)
    return Section("Steps", (
        panels.timeline(
            "Steps", "What each step was doing. Steps are shown while the run is not finished.",
            [Query(_states(SHOWN), "{{stage}} {{step}}")],
            Style(mappings=look.numbered(look.STATES), empty="The run has finished, or not begun, in this "
            "time"), (24, 10),
        ),
        listing(
            "Progress of steps", "Work done of all that there is, at which rate, and how long it will still "
            "take. Of a "
            "run that has finished, what was told last.",
            {
                "State": f"{_states(SHOWN)} or {by(SHOWN, _last_states())}",
                "Progress": f"{done} / ({expected} > 0)",
                "Done": by((*SHOWN, "unit"), last(m.STEP_DONE, *in_stage())),
                "A second": by(SHOWN, series(m.STEP_RATE, *in_stage())),
                "Time left": by(SHOWN, series(m.STEP_ETA, *in_stage())),
                "Deadline in": by(SHOWN, series(m.STEP_DEADLINE, *in_stage())),
                "Failed attempts": by(SHOWN, by((*STEP, "fault"), last(m.STEP_FAILED, *in_stage())), "sum"),
            },
            {
                "stage": ("Stage", {"custom.width": 110}), "step": ("Step", {"custom.width": 190}),

                "State": ("State", panels.cells(look.STATES, coded=True)),
                "Progress": ("Progress", {**panels.PROGRESS, "custom.width": 160}),
                "Done": ("Done", {"unit": "short", "custom.width": 90}), "unit": ("Unit",
                {"custom.width": 90}),
                "A second": ("A second", {"unit": "short",
                "decimals": 1}),
                "Time left": ("Time left", {"unit": "s", "decimals": 1}),
                "Deadline in": ("Deadline in", {"unit": "s", "decimals": 1}),
                "Failed attempts": ("Failed attempts", {
                    "decimals": 0, "custom.cellOptions": {"type": "color-text"},
                    "thresholds": {"mode": "absolute", "steps": look.above((1, look.FAIR), (3, look.BAD))},
                }),
            },
            Style(empty="No step was told of in this time"), (24, 10), sort="A second",
        ),
    ))  # fmt: skip


def _last_states() -> str:
    each = (
        f"({last(m.STEP_STATE, *in_stage(_is('state', state)))} == 1) * {code}"
        for state, code in look.codes(look.STATES).items()
    )
    return " or ".join(each)


def _cost() -> Section:
    flops = Style(look.FLOPS, 1, empty="Nothing was paid yet")
    return Section("Cost", (
        panels.bars(
            "Device-hours by purpose", "Hours of GPUs, or of processors where the run holds no GPU, by what "
            "they were "
            "spent on.",
            [now(HOURS, "{{purpose}}")], Style("suffix:h", 1, colours=look.SPENDINGS,
            empty="No device was held"),
            (8, 8),
        ),
        panels.lines(
            "Device-hours over time", "The same, as they grew. Work since the last checkpoint becomes Lost "
            "when its attempt fails.",
            [Query(_hours(series), "{{purpose}}")],
            Style("suffix:h", 1, low=0, colours=look.SPENDINGS, empty="No device was held"), (8, 8),
            stacked=True,
        ),
        panels.lines(
            "Goodput over time", "Productive share of all time on devices so far.",
            [Query(by((), series(m.RUN_GOODPUT, *in_run())), "Goodput")],
            Style("percentunit", None, look.above((0.5, look.FAIR), (0.8, look.GOOD), base=look.BAD), 0, 1,
            empty="Not known"),
            (8, 8),
        ),
        panels.bars(
            "FLOPs paid", "FLOPs that the run has paid, by purpose.",
            [now(by(["purpose"], last(m.RUN_FLOPS, *in_run())), "{{purpose}}")], flops, (8, 6),
        ),
        panels.bars(
            "FLOPs saved", "FLOPs that the run did not pay, since the artifacts were there already.",
            [now(by(["purpose"], last(m.RUN_SAVED_FLOPS, *in_run())), "{{purpose}}")],
            Style(look.FLOPS, 1, empty="Nothing was there already"), (8, 6),
        ),
        number(
            "Steps that were there", "Steps whose artifacts were there before this run needed them.",
            now(_one(m.RUN_CACHED)), Style(decimals=0, empty="Not known"), (8, 6), coloured=False,
        ),
    ))  # fmt: skip


def _failures() -> Section:
    return Section("Failures and waiting", (
        panels.lines(
            "Failed attempts", "Attempts that failed, by class of fault.",
            [Query(by(["fault"], by((*STEP, "fault"), series(m.STEP_FAILED, *in_stage())), "sum"),
            "{{fault}}")],
            Style(decimals=0, low=0, colours=look.FAULTS, empty="No attempt failed"), stacked=True,
        ),
        listing(
            "Failed attempts by step", "Which steps failed, and of which class the faults were.",
            {"Failed": f"{by((*SHOWN, 'fault'), last(m.STEP_FAILED, *in_stage()))} > 0"},
            {
                "stage": ("Stage", {}), "step": ("Step", {}), "fault": ("Fault", panels.cells(look.FAULTS,
                width=130)),
                "Failed": ("Failed", {"decimals": 0}),
            },
            Style(empty="No attempt failed"), (12, 8), sort="Failed",
        ),
        panels.timeline(
            "Why it is as it is", "Reasons of the condition Progressing over time: running, waiting, "
            "retrying, or waiting "
            "for another run.",
            [Query(by(["reason"], f"{series(m.RUN_CONDITION, *in_run(_is('type', 'Progressing')))} == 1"),
            "{{reason}}")],
            Style(thresholds=look.above(base=look.NEUTRAL), mappings=look.yes_no(("so", look.NEUTRAL),
            ("no", look.IDLE)),
                  empty="Nobody tells of this run"), (12, 7),
        ),
        panels.lines(
            "Place in the queue", "Jobs before this run's in their Kueue queue.",
            [Query(by(SHOWN, series(m.QUEUE_POSITION, *in_stage())), "{{stage}} {{step}}")],
            Style(decimals=0, low=0, empty="Nothing waits in a queue"), (12, 7),
        ),
    ), collapsed=True)  # fmt: skip


def run() -> dashboard.Dashboard:
    """The dashboard."""
    stage = choice("stage", "stage", series(m.STEP_STATE, *in_run()), everything=".*")
    arm = choice("arm", "arm", series(m.STEP_STATE, *in_run('arm!=""')), everything=".+")
    return page(
        "run", "ixt / Run", "One run from top to bottom: how far it is, whether it is well, and what it "
        "costs.",
        [*of_run(), stage, arm],
        [
            _header(), _steps(), annotation(), rounds(), training(), evaluation(), _cost(), speed(),
            _failures(),
        ],
        "now-6h", 'namespace="$namespace", run="$run"',
    )  # fmt: skip
