"""How far nodes are together, and how long a stage's rounds will still take. Pure."""

from collections import defaultdict
from collections.abc import Iterable

from ixt_operator.planner.survey import NodeState, StageView, View
from ixt_workloads.contract.kinds import KINDS


def weighed(views: Iterable[View]) -> tuple[float, float]:
    """What of the nodes is done, and all of it, each kind by its rough share in a run's cost."""
    total = done = 0.0
    for view in views:
        weight = KINDS[view.node.kind].weight
        total += weight
        if view.state is NodeState.COMPLETE:
            done += weight
        elif (progress := view.progress) and progress.total and view.state is NodeState.RUNNING:
            done += weight * min(1.0, progress.done / progress.total)
    return done, total


def rounds_left(stage: StageView) -> float | None:
    """Seconds until all rounds of a stage are done, if each takes as long as the last that this run made.
    None before it made one, and once all are done."""
    rounds: dict[int, list[View]] = defaultdict(list)
    for view in stage.views.values():
        if view.node.round and view.state not in (NodeState.GIVEN_UP, NodeState.ABANDONED):
            rounds[view.node.round].append(view)
    took: float | None = None
    ended = left = 0.0
    for _, views in sorted(rounds.items()):
        done, total = weighed(views)
        left += 1 - done / total
        if done == total and all(view.current and view.current.ended for view in views):
            attempts = [child for view in views for child in view.attempts]
            end = max(process.over_at for child in attempts for process in child.processes)
            # Lanes that are ahead begin the next round before all have ended this one.
            took = max(0.0, end - max(ended, min(child.created_at for child in attempts)))
            ended = end
    return took * left if took is not None and left else None
