"""plan(run, runtime, observed, previous status, now) -> what to do next. Pure, and all that decides.

Level-triggered: every call looks at the whole run and names what is missing or too much, whatever
happened before. Names of children are deterministic, so carrying out a plan twice does nothing twice.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import ConditionType, Reason, RunStatus
from ixt_operator.plan.child import Child
from ixt_operator.plan.children import inventory_child, judge_child, step_child
from ixt_operator.plan.nodes import REPORT, Lane, lanes
from ixt_operator.plan.observed import ChildState, Observed
from ixt_operator.plan.retry import GiveUp, TryAgain
from ixt_operator.plan.scale import judge_trouble, replicas
from ixt_operator.plan.status import Ending, describe, step_covers, unix
from ixt_operator.plan.survey import NodeState, StageView, View, ready, running, survey
from ixt_workloads.contract.graph import Keyed
from ixt_workloads.contract.keys import KEY_LENGTH, key_of
from ixt_workloads.contract.steps import AnnotateConfig


JUDGE_POLL_SECONDS = 0.2
"""While a judge starts, it is asked this often whether it is ready."""


class Plan(NamedTuple):
    """What to do next, in this order: delete, create, scale, write the status."""

    delete: tuple[str, ...]
    create: tuple[Child, ...]
    scale: tuple[Child, ...]
    status: RunStatus
    requeue_after: float | None
    """Seconds until the next look is worth while, if nothing changes before."""
    keyed: dict[str, Keyed]
    """Keys of all nodes whose keys are known."""

    @property
    def finished(self) -> bool:
        """The run completed or failed."""
        return self.status.is_true(ConditionType.COMPLETE) or self.status.is_true(ConditionType.FAILED)


class _Now(NamedTuple):
    """What a plan is made from."""

    run: IXTRun
    runtime: IXTRuntime
    observed: Observed
    previous: RunStatus | None
    time: float


class _Moves(NamedTuple):
    """What a plan is collected in."""

    delete: list[str]
    create: list[Child]
    scale: list[Child]
    waits: list[float]
    """Times at which something is due, in Unix seconds."""


def plan(
    run: IXTRun, runtime: IXTRuntime, observed: Observed, previous: RunStatus | None, now: float
) -> Plan:
    """The next moves of a run. `now` is in Unix seconds."""
    started = unix(previous.start_time) if previous and previous.start_time else now
    stages = survey(run, runtime, observed, started)
    moves = _Moves([], [], [], [])
    at = _Now(run, runtime, observed, previous, now)
    ending = _ending(at, stages)
    if ending or run.spec.suspend:
        moves.delete.extend(name for name, child in observed.children.items() if _stops(child))
    else:
        moves.delete.extend(_obsolete(stages, observed))
        _advance(at, stages, moves)
    status = describe(run, stages, observed, previous, ending, now)
    due = [max(0.0, time - now) for time in moves.waits]
    return Plan(
        delete=tuple(dict.fromkeys(moves.delete)),
        create=tuple(moves.create),
        scale=tuple(moves.scale),
        status=status,
        requeue_after=min(due) if due else None,
        keyed={name: view.keyed for stage in stages for name, view in stage.views.items() if view.keyed},
    )


def _stops(child: ChildState) -> bool:
    return not child.deleting and not child.ended


def _ending(at: _Now, stages: tuple[StageView, ...]) -> Ending | None:
    """How the run ended, if it did. A run that failed stays failed."""
    run, _, observed, previous, now = at
    if previous and previous.is_true(ConditionType.FAILED):
        failed = previous.condition(ConditionType.FAILED)
        return Ending(True, failed.reason, failed.message) if failed else None
    if all(stage.complete for stage in stages):
        return Ending(
            False, Reason.RUN_COMPLETE, f"all {sum(len(s.views) for s in stages)} steps are committed"
        )
    for view in (view for stage in stages for view in stage.views.values()):
        if isinstance(view.decision, GiveUp):
            return _given_up(view, view.decision)
    for stage in stages:
        judge = _judge_state(observed, stage)
        allowed = run.spec.failure_policy.application
        if judge and (cause := judge_trouble(judge, allowed)):
            return Ending(True, Reason.RESTARTS_EXHAUSTED, f"judge of stage {stage.stage.name}: {cause}")
    deadline = run.spec.active_deadline_seconds
    started = min((child.created_at for child in observed.children.values()), default=now)
    if deadline is not None and not run.spec.suspend and now - started > deadline:
        return Ending(
            True,
            Reason.DEADLINE_EXCEEDED,
            f"not complete after activeDeadlineSeconds={deadline}: raise it, and what is committed is kept",
        )
    return None


def _given_up(view: View, decision: GiveUp) -> Ending:
    cause = decision.cause
    user = cause.fault == "User"
    tried = "" if user else f" ({cause.fault}, {len(view.attempts)} attempts)"
    parts = [f"{view.node.name}{tried}: {cause.message}", cause.hint]
    if not user and cause.last_log:
        parts.append(f"last lines of its log:\n{cause.last_log[-500:]}")
    reason = Reason.USER_FAULT if user else Reason.RESTARTS_EXHAUSTED
    return Ending(True, reason, "\n".join(part for part in parts if part)[:1024])


def _obsolete(stages: tuple[StageView, ...], observed: Observed) -> Iterator[str]:
    """Live children of nodes whose key is another one by now, or that are no more."""
    resolved = all(stage.pins is not None for stage in stages)
    keys = {
        view.node.name: view.keyed.key
        for stage in stages
        for view in stage.views.values()
        if view.keyed and view.node.kind != "Inventory"
    }
    nodes = {name for stage in stages for name in stage.views} | {_judge_node(stage) for stage in stages}
    for name, child in observed.children.items():
        if not _stops(child):
            continue
        other_key = child.node in keys and child.key != keys[child.node]
        gone = resolved and child.node not in nodes
        if other_key or gone:
            yield name


def _advance(
    at: _Now,
    stages: tuple[StageView, ...],
    moves: _Moves,
) -> None:
    """Start what comes next. Inventories run ahead of training, so that what is missing in a late stage is
    found in the first minute; all else goes stage by stage."""
    for stage in stages:
        inventory = next(iter(stage.views.values()))
        if inventory.state is not NodeState.COMPLETE:
            if _may_start(inventory, moves, at.time):
                attempt = _next_attempt(at, inventory)
                moves.create.append(
                    inventory_child(at.run, at.runtime, stage.stage, stage.probe, stage.earlier, attempt)
                )
            break
    active = next((stage for stage in stages if not stage.complete), None)
    if active is None or active.pins is None:
        return
    annotations = [view for view in active.views.values() if view.node.kind == "Annotate"]
    unannotated = [view for view in annotations if view.state is not NodeState.COMPLETE]
    if unannotated:
        _annotate(at, active, unannotated, moves)
        return
    if judge := _judge_state(at.observed, active):
        # Training asks for its GPUs only after the judge's processes are gone.
        if not judge.deleting:
            moves.delete.append(judge.name)
        moves.waits.append(at.time + 1.0)
        return
    _train(at, active, moves)


def _annotate(
    at: _Now,
    stage: StageView,
    unannotated: list[View],
    moves: _Moves,
) -> None:
    """One annotation after the other: each fills the judge by itself."""
    run, runtime, observed, _, now = at
    view, judge_name = unannotated[0], None
    config = view.node.config
    if isinstance(config, AnnotateConfig) and config.judge and run.spec.judge and not run.spec.judge.endpoint:
        judge = _judge_state(observed, stage)
        wanted = judge_child(run, runtime, stage.stage, _judge_key(run, runtime, stage), 1, 0)
        if judge and judge.key != wanted.key:
            if not judge.deleting:
                moves.delete.append(judge.name)
            moves.waits.append(at.time + 1.0)
            return
        current = view.current if view.state is NodeState.RUNNING else None
        count = replicas(run.spec.judge.engine, stage.stage.annotate, current, judge, now)
        wanted = judge_child(run, runtime, stage.stage, wanted.key, count, 0)
        if judge is None:
            moves.create.append(wanted)
            return
        if count != len(judge.processes):
            moves.scale.append(wanted)
        if not ready(judge):
            moves.waits.append(at.time + JUDGE_POLL_SECONDS)
            return
        judge_name = judge.name
    if _may_start(view, moves, at.time):
        moves.create.append(_step(at, stage, view, judge_name))


def _train(
    at: _Now,
    stage: StageView,
    moves: _Moves,
) -> None:
    """Lanes from first to last, each as far as it goes, at most maxParallelArms steps at a time; then the
    report."""
    busy: set[str] = set()
    for lane in lanes(at.run):
        view = next((view for view in _chain(stage, lane) if view.state is not NodeState.COMPLETE), None)
        if view is None or view.node.name in busy:
            continue
        if len(busy) == at.run.spec.max_parallel_arms:
            return
        busy.add(view.node.name)
        if _may_start(view, moves, at.time):
            moves.create.append(_step(at, stage, view))
    report = stage.views.get(REPORT)
    if report and not busy and _may_start(report, moves, at.time):
        moves.create.append(_step(at, stage, report))


def _chain(stage: StageView, lane: Lane) -> tuple[View, ...]:
    name = stage.stage.name
    return (
        stage.views[f"{name}/prepare/{lane.arm.name}"],
        stage.views[f"{name}/train/{lane.name}"],
        stage.views[f"{name}/evaluate/{lane.name}"],
    )


def _may_start(view: View, moves: _Moves, now: float) -> bool:
    """Whether a new attempt is due; a later one is noted."""
    match view.state, view.decision:
        case NodeState.WAITING, _:
            return not (view.current and running(view.current))
        case NodeState.RETRYING, TryAgain(at=at):
            if now >= at:
                return True
            moves.waits.append(at)
    return False


def _step(
    at: _Now,
    stage: StageView,
    view: View,
    judge: str | None = None,
) -> Child:
    if view.keyed is None or stage.pins is None:
        raise ValueError(f"{view.node.name} has no key yet")
    attempt = _next_attempt(at, view)
    return step_child(at.run, at.runtime, stage.stage, view.keyed, stage.pins, attempt, judge)


def _next_attempt(at: _Now, view: View) -> int:
    """One more than any attempt of the node seen now or noted in the status, since work folders are
    never shared between attempts."""
    seen = [child.attempt for child in at.observed.children.values() if child.node == view.node.name]
    noted = [
        step.attempt
        for stage in (at.previous.stages if at.previous else ())
        for step in stage.steps
        if step.key and step_covers(stage.name, step.name, view.node.name)
    ]
    return max([*seen, *noted], default=-1) + 1


def _judge_node(stage: StageView) -> str:
    return f"{stage.stage.name}/judge"


def _judge_state(observed: Observed, stage: StageView) -> ChildState | None:
    node = _judge_node(stage)
    return next((child for child in observed.children.values() if child.node == node), None)


def _judge_key(run: IXTRun, runtime: IXTRuntime, stage: StageView) -> str:
    """Changes with whatever needs another server; not with the number of replicas."""
    judge = run.spec.judge
    pins = stage.pins or {}
    return key_of(
        {
            "pin": pins.get("judge", ""),
            "source": judge.model if judge else None,
            "parser": judge.reasoning_parser if judge else None,
            "args": [*runtime.spec.engine_args, *(judge.engine.args if judge else ())],
            "tensorParallelSize": judge.engine.tensor_parallel_size if judge else 1,
        }
    )[:KEY_LENGTH]
