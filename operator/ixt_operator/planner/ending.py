"""Whether and how a run ends. Pure."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ixt_operator.api.run import LanePolicy
from ixt_operator.api.status import MAX_MESSAGE, Reason, unix
from ixt_operator.planner.building import engine_of, server_key
from ixt_operator.planner.lanes import SETTLED, failed_lanes, hopeless, lane_names
from ixt_operator.planner.now import Life, Moves, Now, stops
from ixt_operator.planner.retry import GiveUp, budget_of
from ixt_operator.planner.scale import server_trouble
from ixt_operator.planner.spec import serving_of
from ixt_operator.planner.survey import NodeState, Stages, View, overdue, views_of
from ixt_workloads.contract.configs import ReportConfig


class Ending(NamedTuple):
    """How a run ended."""

    failed: bool
    reason: Reason
    message: str


def ending_of(at: Now, stages: Stages, moves: Moves) -> Ending | None:
    """How the run ends, if it does; else the times at which it may are added to the moves."""
    if all(stage.complete for stage in stages):
        steps = len(list(views_of(stages)))
        return Ending(False, Reason.RUN_COMPLETE, f"all {steps} steps are committed")
    given_up = [view for _, view in views_of(stages) if isinstance(view.decision, GiveUp)]
    if given_up and at.run.spec.failure_policy.lanes is LanePolicy.FAIL_FAST:
        return _given_up(given_up[0])
    if trouble := next(_servers_failed(at, stages), None):
        return Ending(True, Reason.RESTARTS_EXHAUSTED, trouble)
    if all(view.state in SETTLED for _, view in views_of(stages)):
        if shared := next((view for view in given_up if not view.node.arm), None):
            return _given_up(shared, _reported(stages))
        if hopeless(stages):
            return _given_up(given_up[0], _reported(stages) or _not_reported(stages))
        return _lanes_failed(stages, failed_lanes(stages))
    return too_late(at.life, moves.waits) or _blocked(at, moves)


def _lanes_failed(stages: Stages, failed: Mapping[str, View]) -> Ending:
    """The end of a run of which some lanes were given up, and the others have finished."""
    lanes = sum(map(len, lane_names(stages).values()))
    said = [f"{len(failed)} of {lanes} lanes failed, {REPORTED}; an edit starts them anew"]
    for view in {view.node.name: view for view in failed.values()}.values():
        assert isinstance(view.decision, GiveUp)
        said.append(f"{_what_failed(view, view.decision)}: {view.decision.cause.message[:200]}")
    return Ending(True, Reason.LANES_FAILED, "\n".join(said)[:1024])


def _what_failed(view: View, decision: GiveUp) -> str:
    """A node that was given up, with how often it was tried where that is why."""
    tried = decision.reason is Reason.RESTARTS_EXHAUSTED
    return view.node.name + (f" ({decision.cause.fault}, {len(view.attempts)} attempts)" if tried else "")


REPORTED = "the report compares what there is"


def _reported(stages: Stages) -> str:
    """What is said of the report of a run that failed, if there is one."""
    reports = (view for _, view in views_of(stages) if isinstance(view.node.config, ReportConfig))
    return REPORTED if any(view.state is NodeState.COMPLETE for view in reports) else ""


def _not_reported(stages: Stages) -> str:
    several = sum(map(len, lane_names(stages).values())) > 1
    return "there is no report, since no lane was evaluated" if several else ""


def _given_up(view: View, more: str = "") -> Ending:
    """The end of a run with a node that was given up; `more` is to be said beside why."""
    decision = view.decision
    assert isinstance(decision, GiveUp)
    cause = decision.cause
    parts = [f"{_what_failed(view, decision)}: {cause.message[:500]}", cause.hint, more]
    if decision.reason is Reason.RESTARTS_EXHAUSTED:
        policy = budget_of(cause.fault)
        parts.append(f"mend that, or raise failurePolicy.{policy} to have it tried more often")
        said = "\n".join(part for part in parts if part)
        # The pod goes with its log, so that as much of it is kept as there is room for.
        heading = "last lines of its log:\n"
        room = MAX_MESSAGE - len(said) - len(heading) - 1
        if cause.last_log and room > 0:
            parts.append(f"{heading}{cause.last_log[-room:]}")
    return Ending(True, decision.reason, "\n".join(part for part in parts if part)[:MAX_MESSAGE])


def _servers_failed(at: Now, stages: Stages) -> Iterator[str]:
    """Why servers that nodes need will never be ready."""
    servers = [child for child in at.observed.all if child.server and not child.deleting]
    for stage, view in views_of(stages) if servers else ():
        if view.state in SETTLED or view.keyed is None or not engine_of(at.run, view.node):
            continue
        name = serving_of(at.run, view.node).node
        key = server_key(at.run, at.runtime, view.keyed, stage.pins or {})
        for server in servers:
            trouble = server_trouble(server, at)
            if server.node == name and server.key == key and trouble:
                where = f" of stage {server.stage}" if server.stage else ""
                yield f"{server.short}{where}: {trouble}"[:1024]


def too_late(life: Life, waits: list[float]) -> Ending | None:
    """The end of a run that took longer than activeDeadlineSeconds, else the time at which it will have is
    added to `waits`; time suspended does not count."""
    deadline = life.bounds.active_deadline_seconds
    if deadline is None or life.suspended:
        return None
    due = unix(life.start) + life.suspended_seconds + deadline
    if life.time < due:
        waits.append(due)
        return None
    return Ending(
        True,
        Reason.DEADLINE_EXCEEDED,
        f"not complete after activeDeadlineSeconds={deadline}: raise it, and what is committed is kept",
    )


def _blocked(at: Now, moves: Moves) -> Ending | None:
    """The end of a run of which a process that all lanes share could not start within
    schedulingTimeoutSeconds. One of a lane gives up its lane alone (see survey.py)."""
    timeout = at.run.spec.scheduling_timeout_seconds
    if timeout is None:
        return None
    for child in at.observed.all:
        late = overdue(at, child)
        if late and not child.arm:
            return Ending(True, late.reason, f"{child.node}: {late.cause.message}; {late.cause.hint}"[:1024])
        for process in child.processes if stops(child) else ():
            if process.blocked_since is not None:
                moves.waits.append(process.blocked_since + timeout)
    return None
