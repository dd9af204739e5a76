"""Whether and how a run ends. Pure."""

from collections.abc import Iterator
from typing import NamedTuple

from ixt_operator.api.status import Reason, unix
from ixt_operator.planner.building import engine_of, server_key
from ixt_operator.planner.clock import start_of, suspended_seconds
from ixt_operator.planner.moves import Moves, Now, stops
from ixt_operator.planner.retry import GiveUp
from ixt_operator.planner.scale import server_trouble
from ixt_operator.planner.survey import NodeState, StageView, View
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.graph import OfNode


class Ending(NamedTuple):
    """How a run ended."""

    failed: bool
    reason: Reason
    message: str


def ending_of(at: Now, stages: tuple[StageView, ...], moves: Moves) -> Ending | None:
    """How the run ends, if it does; else the times at which it may are added to the moves."""
    if all(stage.complete for stage in stages):
        return Ending(
            False, Reason.RUN_COMPLETE, f"all {sum(len(s.views) for s in stages)} steps are committed"
        )
    for view in (view for stage in stages for view in stage.views.values()):
        if isinstance(view.decision, GiveUp):
            return _given_up(view, view.decision)
    if trouble := next(_servers_failed(at, stages), None):
        return Ending(True, Reason.RESTARTS_EXHAUSTED, trouble)
    return _too_late(at, moves) or _blocked(at, moves)


def _given_up(view: View, decision: GiveUp) -> Ending:
    cause = decision.cause
    user = cause.fault is Fault.USER
    tried = "" if user else f" ({cause.fault}, {len(view.attempts)} attempts)"
    parts = [f"{view.node.name}{tried}: {cause.message[:500]}", cause.hint]
    if not user:
        policy = f"failurePolicy.{cause.fault[0].lower()}{cause.fault[1:]}"
        parts.append(f"mend that, or raise {policy} to have it tried more often")
        if cause.last_log:
            parts.append(f"last lines of its log:\n{cause.last_log[-300:]}")
    reason = Reason.USER_FAULT if user else Reason.RESTARTS_EXHAUSTED
    return Ending(True, reason, "\n".join(part for part in parts if part)[:1024])


def _servers_failed(at: Now, stages: tuple[StageView, ...]) -> Iterator[str]:
    """Why servers that nodes need will never be ready."""
    servers = [child for child in at.observed.children.values() if child.server and not child.deleting]
    for stage in stages if servers else ():
        for view in stage.views.values():
            if view.state is NodeState.COMPLETE or view.keyed is None or not engine_of(at.run, view.node):
                continue
            name = OfNode(**view.node.serving()).node
            key = server_key(at.run, at.runtime, view.keyed, stage.pins or {})
            for server in servers:
                trouble = server_trouble(server, at.run.spec.failure_policy.application)
                if server.node == name and server.key == key and trouble:
                    where = f" of stage {server.stage}" if server.stage else ""
                    yield f"{server.short}{where}: {trouble}"[:1024]


def _too_late(at: Now, moves: Moves) -> Ending | None:
    """The end of a run that took longer than activeDeadlineSeconds; time suspended does not count."""
    deadline = at.run.spec.active_deadline_seconds
    if deadline is None or at.run.spec.suspend:
        return None
    start = unix(start_of(at.observed, at.previous, at.time))
    due = start + suspended_seconds(at.run, at.observed, at.previous, at.time) + deadline
    if at.time < due:
        moves.waits.append(due)
        return None
    return Ending(
        True,
        Reason.DEADLINE_EXCEEDED,
        f"not complete after activeDeadlineSeconds={deadline}: raise it, and what is committed is kept",
    )


def _blocked(at: Now, moves: Moves) -> Ending | None:
    """The end of a run of which a process could not start within schedulingTimeoutSeconds."""
    timeout = at.run.spec.scheduling_timeout_seconds
    for child in at.observed.children.values():
        for process in child.processes if stops(child) else ():
            since = process.blocked_since
            if since is None:
                continue
            if at.time >= since + timeout:
                why = f": {process.reason}" if process.reason else ""
                return Ending(
                    True,
                    Reason.SCHEDULING_TIMEOUT,
                    f"{child.node}: {process.where or child.name} could not start within "
                    f"schedulingTimeoutSeconds={timeout}{why}; mend that, or raise it",
                )
            moves.waits.append(since + timeout)
    return None
