"""Recording rules: what would be dear to ask for anew with thousands of runs, and rates that alerts look
back on."""

from typing import NamedTuple

from ixt_dashboards.queries import STEP, by, rate, series
from ixt_workloads.contract import metrics as m
from ixt_workloads.contract.metrics import RUN

INTERVAL_SECONDS = 60
"""Between two evaluations: hours are sums of these series divided by the evaluations in an hour."""
PER_HOUR = 3600 // INTERVAL_SECONDS


class Recording(NamedTuple):
    """A series that Prometheus makes of others."""

    name: str
    expression: str


def _devices(device: str, metric: m.Metric) -> str:
    # What stands still is left out: runs that finished keep their counters.
    held = f"{by((*RUN, 'purpose'), rate(metric, window='5m'))} > 0"
    return f'label_replace({held}, "device", "{device}", "", "")'


TOKENS_MADE = 'type=~"reasoning|feedback|wasted"'
"""Tokens that a judge generates; those that it reads are of the types prompt and cached."""

RUN_DEVICES = Recording(
    "ixt:run_devices:rate5m",
    f"{_devices('GPU', m.RUN_GPU_SECONDS)} or {_devices('CPU', m.RUN_CPU_SECONDS)}",
)
"""GPUs and processors that a run holds, by purpose. Work shows when a checkpoint saves it: look at
an hour's mean."""
DEVICES = Recording("ixt:devices:sum", by(("namespace", "device", "purpose"), RUN_DEVICES.name, "sum"))
"""The same of all runs of a namespace; unlike a run's counters it stays when a run is deleted."""
JUDGE_TOKENS = Recording(
    "ixt:judge_tokens:rate10m",
    by((*RUN, "stage"), by((*STEP, "type"), rate(m.TOKENS, TOKENS_MADE, 'run!=""', window="10m")), "sum"),
)
"""Tokens a second that a stage's judge generates."""

FAILED = Recording(
    "ixt:failed_attempts:sum",
    by(("namespace", "fault"), by((*STEP, "fault"), series(m.STEP_FAILED)), "sum"),
)
"""Failed attempts of runs that are not finished."""

RECORDINGS = (RUN_DEVICES, DEVICES, JUDGE_TOKENS, FAILED)
