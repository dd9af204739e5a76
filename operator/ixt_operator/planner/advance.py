"""What a run starts next, and what of it that must wait for. Pure."""

from ixt_operator.planner.building import inventory_child, judge_child, step_child
from ixt_operator.planner.child import Child
from ixt_operator.planner.moves import Moves, Now, judge_key
from ixt_operator.planner.nodes import REPORT, Lane, judge_node, lanes, step_covers
from ixt_operator.planner.observed import JUDGE, ChildState
from ixt_operator.planner.retry import TryAgain
from ixt_operator.planner.scale import replicas
from ixt_operator.planner.survey import NodeState, StageView, View, ready
from ixt_workloads.contract.configs import AnnotateConfig
from ixt_workloads.contract.exits import Fault

JUDGE_POLL_SECONDS = 0.2
"""While a judge starts, it is asked this often whether it is ready."""

GONE_POLL_SECONDS = 1.0
"""What is waited for to be gone is looked for this often."""

LANE_STEPS = ("prepare", "train", "evaluate")

DEVICE_STEPS = ("train", "evaluate")
"""Steps that may hold the devices that a judge needs."""


def advance(at: Now, stages: tuple[StageView, ...], moves: Moves) -> None:
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


def _annotate(at: Now, stage: StageView, view: View, moves: Moves) -> None:
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


def _judge(at: Now, stage: StageView, view: View, moves: Moves) -> Child | None:
    """A ready judge for an annotation; None while there is none yet. One that an annotation talks to stays,
    whatever a new one would look like."""
    assert at.run.spec.judge
    judge = next((c for c in at.children.get(judge_node(stage.stage.name), ()) if not c.deleting), None)
    current = view.current if view.state is NodeState.RUNNING else None
    count = replicas(at.run.spec.judge.engine, stage.stage.annotate, current, judge, at.time)
    wanted = judge_child(
        at.run, at.runtime, stage.stage, judge_key(at.run, at.runtime, stage), count, attempt=0
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


def _judges_gone(at: Now, moves: Moves, but: ChildState | None = None) -> bool:
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


def _train(at: Now, stage: StageView, moves: Moves) -> None:
    """Lanes from first to last, each as far as it goes, at most maxParallelLanes steps at a time; then the
    report. A lane that waits for another run's claim holds no place."""
    busy = {c.node for c in at.observed.children.values() if c.live and c.step in LANE_STEPS}
    started, complete = set[str](), True
    for lane in lanes(at.run):
        view = next((view for view in _chain(stage, lane) if view.state is not NodeState.COMPLETE), None)
        if view is None:
            continue
        complete = False
        name = view.node.name
        if name in started or len(busy | {name}) > at.run.spec.max_parallel_lanes:
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


def _may_start(at: Now, view: View, moves: Moves) -> bool:
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


def _step(at: Now, stage: StageView, view: View, judge: str | None = None) -> Child:
    if view.keyed is None or stage.pins is None:
        raise ValueError(f"{view.node.name} has no key yet")
    attempt = _next_attempt(at, view)
    return step_child(at.run, at.runtime, stage.stage, view.keyed, stage.pins, attempt, judge)


def _next_attempt(at: Now, view: View) -> int:
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
    return max([*seen, *noted, at.previous.first_attempt if at.previous else 0])
