"""Names of all metrics, of the operator and of pods, in one place, for dashboards and alerts.

Conventions: https://prometheus.io/docs/practices/naming/. Labels are bounded: runs that exist, and enums.
"""

from typing import NamedTuple


class Metric(NamedTuple):
    """A metric's name, what it tells, and its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


# Pods of steps.
STEP_DONE = Metric("ixt_step_done", "Units of work done", ("unit",))
STEP_TOTAL = Metric("ixt_step_total", "Units of work in all", ("unit",))
STEP_METRIC = Metric("ixt_step_metric", "Latest figures of the step: loss, learning rate ...", ("name",))
STEP_TOKENS = Metric("ixt_step_tokens", "Tokens processed by kind", ("kind",))
STEP_FLOPS = Metric("ixt_step_flops", "FLOPs spent by purpose", ("purpose",))

# The operator: itself.
LEADER = Metric("ixt_operator_leader", "1 on the replica that leads")
RECONCILES = Metric("ixt_operator_reconciles", "Looks at runs by how they ended", ("outcome",))
RECONCILE_SECONDS = Metric("ixt_operator_reconcile_duration_seconds", "Duration of a look at a run")
QUEUE_DEPTH = Metric("ixt_operator_queue_depth", "Runs that wait to be looked at")
REQUESTS = Metric("ixt_operator_api_requests", "Requests to the API server", ("method", "code"))

# The operator: the runs that it knows.
RUNS_BY_PHASE = Metric("ixt_runs", "Runs by phase", ("namespace", "phase"))
RUN_PROGRESS = Metric("ixt_run_progress_ratio", "Progress of a run, 0 to 1", ("namespace", "run"))
RUN_FLOPS = Metric("ixt_run_flops", "FLOPs that a run paid, by purpose", ("namespace", "run", "purpose"))
RUN_ATTEMPTS_FAILED = Metric(
    "ixt_run_failed_attempts",
    "Failed attempts of a run's steps by class of fault",
    ("namespace", "run", "fault"),
)
