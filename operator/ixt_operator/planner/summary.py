"""A run in a line: where it is, how far, how long it will take, and what it waits for. Pure."""

from ixt_operator.api.run import IXTRun
from ixt_operator.api.status import MAX_MESSAGE, RunStatus, Summary
from ixt_operator.planner.ending import Ending
from ixt_operator.planner.observed import Observed, ProcessPhase
from ixt_operator.planner.retry import TryAgain
from ixt_operator.planner.survey import NodeState, StageView, View, ready
from ixt_workloads.contract.kinds import KINDS

LONGEST_ETA = 2**53
"""Seconds: the status holds no more."""

ORDER = {NodeState.RUNNING: 0, NodeState.RETRYING: 1, NodeState.WAITING: 2}
"""Which of a stage's nodes the summary is about: one of the lowest number."""


def summarize(
    run: IXTRun,
    stages: tuple[StageView, ...],
    observed: Observed,
    previous: RunStatus | None,
    ending: Ending | None,
) -> Summary:
    """The summary: about a node that runs, else one that is tried again, else one that waits."""
    if ending and not ending.failed:
        return Summary(progress_percent=100, message=ending.message)
    percent = max(_percent(stages), _percent_before(run, previous))
    if ending:
        return Summary(progress_percent=percent, message=ending.message[:MAX_MESSAGE])
    active = next(stage for stage in stages if not stage.complete)
    view = min(
        (view for view in active.views.values() if view.state in ORDER), key=lambda view: ORDER[view.state]
    )
    progress = view.progress if view.state is NodeState.RUNNING else None
    eta = None
    if progress and progress.total and progress.per_second:
        eta = min(LONGEST_ETA, max(0, round((progress.total - progress.done) / progress.per_second)))
    rests = run.spec.suspend and view.state is not NodeState.RUNNING
    return Summary(
        stage=active.stage.name,
        step="" if rests else view.node.in_stage[:48],
        progress_percent=percent,
        eta_seconds=eta,
        message=_waiting_for(view, observed)[:MAX_MESSAGE],
    )


def _percent(stages: tuple[StageView, ...]) -> int:
    total = done = 0.0
    for view in (view for stage in stages for view in stage.views.values()):
        weight = KINDS[view.node.kind].weight
        total += weight
        if view.state is NodeState.COMPLETE:
            done += weight
        elif (progress := view.progress) and progress.total and view.state is NodeState.RUNNING:
            done += weight * min(1.0, progress.done / progress.total)
    return min(99, int(100 * done / total))


def _percent_before(run: IXTRun, previous: RunStatus | None) -> int:
    """The percentage that was shown of the same work, so that it never falls when an attempt starts again."""
    if previous is None or not previous.conditions:
        return 0
    same = previous.observed_generation == run.metadata.generation and previous.completion_time is None
    return previous.summary.progress_percent if same else 0


def _waiting_for(view: View, observed: Observed) -> str:
    if isinstance(view.decision, TryAgain):
        return view.decision.told(view.node.name)
    current = view.current
    pending = [p for p in current.processes if p.phase is ProcessPhase.PENDING] if current else []
    if current and not current.ended and any(process.reason for process in pending):
        process = next(process for process in pending if process.reason)
        return f"{process.where or view.node.name} cannot start yet: {process.reason}"
    starting = (c for c in observed.children.values() if c.server and not c.deleting and not ready(c))
    if server := next(starting, None):
        first = server.processes[0] if server.processes else None
        reason = f" ({first.reason})" if first and first.reason else ""
        where = f", log: {first.log}" if first and first.log else ""
        return f"the {server.short} is starting{reason}{where}"
    return view.progress.message if view.progress else ""
