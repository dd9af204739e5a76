"""plan(run, runtime, observed, previous status, now) -> what to do next. Pure, and all that decides.

Level-triggered: every call looks at the whole run and names what is missing or too much, whatever
happened before. Names of children are deterministic, so carrying out a plan twice does nothing twice.

What a plan rests on may be out of date. Creating a first attempt then does no harm; before a further attempt,
a server, a trainer, any delete and the end of a run, adapters make sure that they look at what is.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime, Role
from ixt_operator.api.status import ConditionStatus, ConditionType, Reason, RunStatus
from ixt_operator.plan.child import Child
from ixt_operator.plan.children import inventory_child, judge_child, step_child
from ixt_operator.plan.entries import step_covers
from ixt_operator.plan.nodes import REPORT, Lane, lanes
from ixt_operator.plan.observed import JUDGE, ChildState, Observed
from ixt_operator.plan.retry import Cause, GiveUp, TryAgain, bad_hosts, failures, spent
from ixt_operator.plan.scale import judge_trouble, replicas
from ixt_operator.plan.status import describe, unix
from ixt_operator.plan.summary import Ending
from ixt_operator.plan.survey import NodeState, StageView, View, ready, survey
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.graph import Keyed
from ixt_workloads.contract.keys import KEY_LENGTH, key_of
from ixt_workloads.contract.steps import AnnotateConfig

JUDGE_POLL_SECONDS = 0.2
"""While a judge starts, it is asked this often whether it is ready."""

GONE_POLL_SECONDS = 1.0
"""What is waited for to be gone is looked for this often."""

LANE_STEPS = ("prepare", "train", "evaluate")
DEVICE_STEPS = ("train", "evaluate")
"""Steps that may hold the devices that a judge needs."""


class Plan(NamedTuple):
    """What to do next, in this order: delete, scale, create, write the status."""

    delete: tuple[str, ...]
    create: tuple[Child, ...]
    scale: tuple[Child, ...]
    status: RunStatus
    requeue_after: float | None
    """Seconds until the next look is worth while, if nothing changes before."""
    keyed: dict[str, Keyed]
    """Keys of all nodes whose keys are known."""
    failures: dict[str, Cause]
    """Why the last failed attempt of each node failed."""
    ends: bool
    """The run completes or fails with this look; one that had ended before does not."""

    @property
    def needs_certainty(self) -> bool:
        """Whether something is planned that must not rest on an outdated look: a further attempt, what takes
        devices, any delete, the end of the run."""
        return bool(self.delete or self.scale or self.ends) or any(
            child.attempt or child.role is not Role.WORKER for child in self.create
        )

    @property
    def finished(self) -> bool:
        """The run completed or failed."""
        return self.status.is_true(ConditionType.COMPLETE) or self.status.is_true(ConditionType.FAILED)


class _Now(NamedTuple):
    """What a plan is made from."""

    run: IXTRun
    runtime: IXTRuntime
    observed: Observed
    children: dict[str, list[ChildState]]
    """By node."""
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
    stop = tuple(name for name, child in observed.children.items() if _stops(child))
    moves = _Moves([], [], [], [])
    if previous and _ended(previous):
        if previous.observed_generation == run.metadata.generation:
            return Plan(stop, (), (), previous, None, {}, {}, ends=False)
        moves.delete.extend(_forgotten(observed))
        going = {name: observed.children[name].model_copy(update={"deleting": True}) for name in moves.delete}
        observed = Observed(children={**observed.children, **going})
        previous = _begun_anew(previous)
    started = unix(previous.start_time) if previous and previous.start_time else now
    stages = survey(run, observed, started)
    at = _Now(run, runtime, observed, observed.by_node(), previous, now)
    ending = _ending(at, stages, moves)
    if ending or run.spec.suspend:
        moves.delete.extend(stop)
    else:
        moves.delete.extend(_obsolete(stages, observed))
        _advance(at, stages, moves)
    status = describe(run, stages, observed, previous, ending, moves.create, now)
    due = [] if ending or run.spec.suspend else [max(0.0, time - now) for time in moves.waits]
    return Plan(
        delete=tuple(dict.fromkeys(moves.delete)),
        create=_elsewhere(moves.create, observed),
        scale=tuple(moves.scale),
        status=status,
        requeue_after=min(due) if due else None,
        keyed={name: view.keyed for stage in stages for name, view in stage.views.items() if view.keyed},
        failures={
            name: causes[-1]
            for stage in stages
            for name, view in stage.views.items()
            if (causes := failures(view.attempts))
        },
        ends=ending is not None,
    )


def _elsewhere(children: list[Child], observed: Observed) -> tuple[Child, ...]:
    """The children, away from machines that failed this run twice."""
    hosts = bad_hosts(observed.children.values())
    return tuple(child.model_copy(update={"avoid_hosts": hosts}) if hosts else child for child in children)


def _stops(child: ChildState) -> bool:
    return child.live and not child.deleting


def _ended(status: RunStatus) -> bool:
    return status.is_true(ConditionType.COMPLETE) or status.is_true(ConditionType.FAILED)


def _forgotten(observed: Observed) -> Iterator[str]:
    """Children that count for nothing when a run is taken up again after its end: what failed gets a new
    start, and Inventory looks again, since what was missing may be there by now. Finished work stays."""
    for name, child in observed.children.items():
        if child.ended and not child.deleting and (child.failed or child.node.endswith("/inventory")):
            yield name


def _begun_anew(previous: RunStatus) -> RunStatus:
    """What stays of the status of a run that is taken up again: the numbers of attempts, and what it cost."""
    return previous.model_copy(update={"conditions": (), "start_time": None, "completion_time": None})


def _ending(at: _Now, stages: tuple[StageView, ...], moves: _Moves) -> Ending | None:
    """How the run ends, if it does."""
    if all(stage.complete for stage in stages):
        return Ending(
            False, Reason.RUN_COMPLETE, f"all {sum(len(s.views) for s in stages)} steps are committed"
        )
    for view in (view for stage in stages for view in stage.views.values()):
        if isinstance(view.decision, GiveUp):
            return _given_up(view, view.decision)
    active = next(stage for stage in stages if not stage.complete)
    if trouble := _judge_failed(at, active):
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


def _judge_failed(at: _Now, stage: StageView) -> str | None:
    """Why the judge that the stage needs now will never be ready."""
    if stage.pins is None:
        return None
    key = _judge_key(at.run, at.runtime, stage)
    for judge in at.children.get(_judge_node(stage), ()):
        trouble = judge_trouble(judge, at.run.spec.failure_policy.application)
        if judge.key == key and not judge.deleting and trouble:
            return f"judge of stage {stage.stage.name}: {trouble}"[:1024]
    return None


def _too_late(at: _Now, moves: _Moves) -> Ending | None:
    """The deadline's clock starts anew when a suspended run goes on, as a Job's does."""
    deadline = at.run.spec.active_deadline_seconds
    if deadline is None or at.run.spec.suspend:
        return None
    since = at.time
    suspended = at.previous.condition(ConditionType.SUSPENDED) if at.previous else None
    if suspended and suspended.status is ConditionStatus.FALSE:
        since = unix(suspended.last_transition_time)
    if at.time < since + deadline:
        moves.waits.append(since + deadline)
        return None
    return Ending(
        True,
        Reason.DEADLINE_EXCEEDED,
        f"not complete after activeDeadlineSeconds={deadline}: raise it, and what is committed is kept",
    )


def _blocked(at: _Now, moves: _Moves) -> Ending | None:
    timeout = at.run.spec.scheduling_timeout_seconds
    for child in at.observed.children.values():
        for process in child.processes if _stops(child) else ():
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


def _obsolete(stages: tuple[StageView, ...], observed: Observed) -> Iterator[str]:
    """Children that are not needed: live ones of nodes that have another key by now, that are no more or
    that another run completed, and old attempts that nobody counts."""
    current: dict[str, str] = {}
    complete = set()
    for stage in stages:
        for name, view in stage.views.items():
            yield from spent(view.attempts)
            if view.node.kind == "Inventory":
                current |= {name: stage.asked.question} if stage.asked else {}
            elif view.keyed:
                current[name] = view.keyed.key
            if view.state is NodeState.COMPLETE:
                complete.add(name)
    nodes = {name for stage in stages for name in (*stage.views, _judge_node(stage))}
    for name, child in observed.children.items():
        other_key = child.node in current and child.key != current[child.node]
        if _stops(child) and (other_key or child.node not in nodes or child.node in complete):
            yield name


def _advance(at: _Now, stages: tuple[StageView, ...], moves: _Moves) -> None:
    """Start what comes next. Inventories run ahead of training, so that what is missing in a late stage is
    found in the first minute; all else goes stage by stage."""
    for stage in stages:
        inventory = next(iter(stage.views.values()))
        if inventory.state is not NodeState.COMPLETE:
            if stage.asked and _may_start(at, inventory, moves):
                asked, attempt = stage.asked, _next_attempt(at, inventory)
                child = inventory_child(at.run, at.runtime, stage.stage, asked.probe, asked.pins, attempt)
                moves.create.append(child)
            break
    active = next((stage for stage in stages if not stage.complete), None)
    if active is None or active.pins is None:
        return
    annotations = [view for view in active.views.values() if view.node.kind == "Annotate"]
    unannotated = [view for view in annotations if view.state is not NodeState.COMPLETE]
    if unannotated:
        _annotate(at, active, unannotated[0], moves)
    elif _judges_gone(at, moves):
        _train(at, active, moves)


def _annotate(at: _Now, stage: StageView, view: View, moves: _Moves) -> None:
    """One annotation after the other: each fills the judge by itself."""
    config, spec = view.node.config, at.run.spec.judge
    served = isinstance(config, AnnotateConfig) and config.judge and spec and not spec.endpoint
    judge = _judge(at, stage, view, moves) if served else None
    if not served and not _judges_gone(at, moves):
        return
    if (judge or not served) and _may_start(at, view, moves):
        if judge and view.attempts:
            moves.scale.append(judge)  # its Service may have been deleted, and be why the last attempt failed
        moves.create.append(_step(at, stage, view, judge.name if judge else None))


def _judge(at: _Now, stage: StageView, view: View, moves: _Moves) -> Child | None:
    """A ready judge for an annotation; None while there is none yet. One that an annotation talks to stays,
    whatever a new one would look like."""
    assert at.run.spec.judge
    judge = next((c for c in at.children.get(_judge_node(stage), ()) if not c.deleting), None)
    current = view.current if view.state is NodeState.RUNNING else None
    count = replicas(at.run.spec.judge.engine, stage.stage.annotate, current, judge, at.time)
    wanted = judge_child(
        at.run, at.runtime, stage.stage, _judge_key(at.run, at.runtime, stage), count, attempt=0
    )
    if judge and judge.key != wanted.key:
        if current is None:
            _judges_gone(at, moves)
        return None
    if not _judges_gone(at, moves, but=judge):
        return None
    if judge is None:
        if not any(child.live and child.step in DEVICE_STEPS for child in at.observed.children.values()):
            moves.create.append(wanted)
        return None
    if count != len(judge.processes):
        moves.scale.append(wanted)
    if not ready(judge):
        moves.waits.append(at.time + JUDGE_POLL_SECONDS)
        return None
    return wanted


def _judges_gone(at: _Now, moves: _Moves, but: ChildState | None = None) -> bool:
    """Whether no judge has processes any more, apart from one; what does is stopped."""
    judges = [
        child
        for child in at.observed.children.values()
        if child.step == JUDGE and not (but and child.name == but.name)
    ]
    moves.delete.extend(judge.name for judge in judges if not judge.deleting)
    if judges:
        moves.waits.append(at.time + GONE_POLL_SECONDS)
    return not judges


def _train(at: _Now, stage: StageView, moves: _Moves) -> None:
    """Lanes from first to last, each as far as it goes, at most maxParallelArms steps at a time; then the
    report. A lane that waits for another run's claim holds no place."""
    busy = {c.node for c in at.observed.children.values() if c.live and c.step in LANE_STEPS}
    started, complete = set[str](), True
    for lane in lanes(at.run):
        view = next((view for view in _chain(stage, lane) if view.state is not NodeState.COMPLETE), None)
        if view is None:
            continue
        complete = False
        name = view.node.name
        if name in started or len(busy | {name}) > at.run.spec.max_parallel_arms:
            continue
        if _may_start(at, view, moves):
            moves.create.append(_step(at, stage, view))
            started.add(name)
        elif view.decision and view.decision.cause.fault is Fault.BUSY:
            continue
        busy.add(name)
    report = stage.views.get(REPORT)
    if report and complete and _may_start(at, report, moves):
        moves.create.append(_step(at, stage, report))


def _chain(stage: StageView, lane: Lane) -> tuple[View, ...]:
    name = stage.stage.name
    return (
        stage.views[f"{name}/prepare/{lane.arm.name}"],
        stage.views[f"{name}/train/{lane.name}"],
        stage.views[f"{name}/evaluate/{lane.name}"],
    )


def _may_start(at: _Now, view: View, moves: _Moves) -> bool:
    """Whether a new attempt is due: never before the last one of the node, of whatever key, is gone. What is
    due later is noted."""
    name = view.node.name
    if any(child.live for child in at.children.get(name, ())):
        if view.state is not NodeState.RUNNING:
            moves.waits.append(at.time + GONE_POLL_SECONDS)
        return False
    match view.state, view.decision:
        case NodeState.WAITING, _:
            return True
        case NodeState.RETRYING, TryAgain(at=due):
            if at.time >= due:
                return True
            moves.waits.append(due)
    return False


def _step(at: _Now, stage: StageView, view: View, judge: str | None = None) -> Child:
    if view.keyed is None or stage.pins is None:
        raise ValueError(f"{view.node.name} has no key yet")
    attempt = _next_attempt(at, view)
    return step_child(at.run, at.runtime, stage.stage, view.keyed, stage.pins, attempt, judge)


def _next_attempt(at: _Now, view: View) -> int:
    """One more than any attempt of the node seen now or noted in the status, since work folders are
    never shared between attempts."""
    name = view.node.name
    seen = [child.attempt + 1 for child in at.children.get(name, ())]
    noted = [
        step.attempt
        for stage in (at.previous.stages if at.previous else ())
        for step in stage.steps
        if step_covers(stage.name, step.name, name)
    ]
    return max([*seen, *noted], default=0)


def _judge_node(stage: StageView) -> str:
    return f"{stage.stage.name}/{JUDGE}"


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
