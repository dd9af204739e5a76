"""A run in a line: where it is, how far, how long it will take, and what it waits for. Pure."""

from ixt_operator.api.status import LONGEST_ETA, MAX_MESSAGE, Summary
from ixt_operator.planner.ending import Ending
from ixt_operator.planner.now import Now
from ixt_operator.planner.pace import weighed
from ixt_operator.planner.retry import TryAgain
from ixt_operator.planner.standstill import told
from ixt_operator.planner.survey import NodeState, Stages, View, ready, views_of

ORDER = {NodeState.RUNNING: 0, NodeState.RETRYING: 1, NodeState.WAITING: 2}
"""Which of a stage's nodes the summary is about: one of the lowest number."""


def summarize(at: Now, stages: Stages, ending: Ending | None) -> Summary:
    """The summary: about a node that runs, else one that is tried again, else one that waits."""
    if ending and not ending.failed:
        return Summary(progress_percent=100, message=ending.message)
    done, total = weighed(view for _, view in views_of(stages))
    percent = max(min(99, int(100 * done / total)), _percent_before(at))
    if ending:
        return Summary(progress_percent=percent, message=ending.message[:MAX_MESSAGE])
    active = next(stage for stage in stages if any(view.state in ORDER for view in stage.views.values()))
    view = min(
        (view for view in active.views.values() if view.state in ORDER), key=lambda view: ORDER[view.state]
    )
    progress = view.progress if view.state is NodeState.RUNNING else None
    left = progress.seconds_left if progress else None
    eta = None if left is None else min(LONGEST_ETA, round(left))
    rests = at.run.spec.suspend and view.state is not NodeState.RUNNING
    return Summary(
        stage=active.stage.name,
        step="" if rests else view.node.in_stage[:48],
        progress_percent=percent,
        eta_seconds=eta,
        message="; ".join(filter(None, (_doing(at, view), told(stages))))[:MAX_MESSAGE],
    )


def _percent_before(at: Now) -> int:
    """The percentage that was shown of the same work, so that it never falls when an attempt starts again."""
    told = at.previous
    generation = at.run.metadata.generation
    same = told.conditions and told.observed_generation == generation and told.completion_time is None
    return told.summary.progress_percent if same else 0


def _doing(at: Now, view: View) -> str:
    """What a node does or waits for, if nothing keeps it from going on."""
    if isinstance(view.decision, TryAgain):
        return view.decision.told(view.node.name)
    if view.standstill:
        return ""
    starting = (c for c in at.observed.all if c.server and not c.deleting and not ready(c))
    if server := next(starting, None):
        first = server.processes[0] if server.processes else None
        where = f", log: {first.log}" if first and first.log else ""
        return f"the {server.short} is starting{where}"
    return view.progress.message if view.progress else ""
