"""What a run starts next: every node that is ready, as far as three constraints leave room. Pure."""

from ixt_operator.planner.building import engine_of, inventory_child, server_child, step_child
from ixt_operator.planner.child import Child
from ixt_operator.planner.lanes import SETTLED
from ixt_operator.planner.now import Moves, Now
from ixt_operator.planner.retry import TryAgain
from ixt_operator.planner.scale import replicas
from ixt_operator.planner.spec import serving_of
from ixt_operator.planner.survey import NodeState, Stages, StageView, View, ready, views_of
from ixt_workloads.contract.configs import AnnotateConfig, InventoryConfig
from ixt_workloads.contract.exits import Fault
from ixt_workloads.contract.graph import PIN, OfNode
from ixt_workloads.contract.kinds import KINDS

SERVER_POLL_SECONDS = 0.2
"""While a server starts, it is asked this often whether it is ready."""

GONE_POLL_SECONDS = 1.0
"""What is being deleted, and is waited for, is looked for this often."""

LANES = "lanes"
"""All lanes together, as those who have the devices while no server has them."""


def advance(at: Now, stages: Stages, moves: Moves) -> None:
    """Start the nodes whose inputs are complete, in the order of the graph. The constraints:

    Devices are either one server's or the lanes'. They go to the first node that needs them, in the order of
    the graph, and what else has them is stopped or waited for.
    Of a kind, one step that lanes share runs at a time, since it fills its server by itself.
    Of arms and lanes, at most maxParallelLanes steps run at a time.
    """
    views = list(views_of(stages))
    complete = {view.node.name for _, view in views if view.state is NodeState.COMPLETE}
    nodes = [(stage, view, _devices_of(at, view)) for stage, view in views if view.state not in SETTLED]
    turn = next((devices for *_, devices in nodes if devices), None)
    moves.delete.extend(
        child.name for child in at.observed.all if child.server and child.node != turn and not child.deleting
    )
    # A node keeps its place while an attempt of it lives, and while it waits for its server or next attempt.
    placed: dict[str, OfNode] = {c.node: c for c in at.observed.all if c.live and not c.server}
    for stage, view, devices in nodes:
        if not _has_inputs(stage, view, complete) or not _has_place(at, view, placed):
            continue
        if devices and devices != turn:
            continue
        if devices and not _devices_free(at, devices, moves):
            placed.setdefault(view.node.name, view.node)
            continue
        served = devices if devices != LANES else None
        server = _server(at, stage, view, moves) if served else None
        if served and server is None:
            placed.setdefault(view.node.name, view.node)
        elif _may_start(at, view, moves):
            if server and view.attempts:
                moves.scale.append(server)  # its Service may be gone, and be why the last attempt failed
            moves.create.append(_child(at, stage, view, server))
            placed[view.node.name] = view.node
        elif not (view.decision and view.decision.cause.fault is Fault.BUSY):
            placed.setdefault(view.node.name, view.node)


def _devices_of(at: Now, view: View) -> str | None:
    """Who needs devices for a node: LANES, the server that it talks to, or nobody."""
    if engine_of(at.run, view.node):
        return serving_of(at.run, view.node).node
    return LANES if KINDS[view.node.kind].holds_devices else None


def _has_inputs(stage: StageView, view: View, complete: set[str]) -> bool:
    """Whether a node's inputs are complete and its key is known; of Inventory, its question."""
    if isinstance(view.node.config, InventoryConfig):
        return stage.asked is not None
    inputs = view.node.inputs.values()
    return view.keyed is not None and all(name.startswith(PIN) or name in complete for name in inputs)


def _has_place(at: Now, view: View, placed: dict[str, OfNode]) -> bool:
    """Whether a node may run beside those that have a place."""
    others = [node for name, node in placed.items() if name != view.node.name]
    if view.node.arm:
        return sum(bool(node.arm) for node in others) < at.run.spec.max_parallel_lanes
    return not view.node.stage or all(node.arm or node.kind != view.node.kind for node in others)


def _devices_free(at: Now, turn: str, moves: Moves) -> bool:
    """Whether nobody else has the devices that are given to `turn`."""
    servers = [child for child in at.observed.all if child.server]
    if any(server.node != turn for server in servers):
        moves.waits.append(at.time + GONE_POLL_SECONDS)
        return False
    if turn == LANES or servers:
        return True
    steps = (child for child in at.observed.all if child.live)
    return not any((row := KINDS.get(child.kind)) and row.holds_devices for child in steps)


def _server(at: Now, stage: StageView, view: View, moves: Moves) -> Child | None:
    """The server that a node talks to, if it is ready; else the moves that bring it about are added. A server
    that a running attempt talks to stays, also when a new one would have another key."""
    engine, config = engine_of(at.run, view.node), view.node.config
    assert engine
    assert view.keyed
    name = serving_of(at.run, view.node).node
    there = at.children.get(name, [])
    server = next((child for child in there if not child.deleting), None)
    current = view.current if view.state is NodeState.RUNNING else None
    asked = any(
        not child.server
        and not child.ended
        and child.kind == view.node.kind
        and serving_of(at.run, child).node == name
        for child in at.observed.all
    )
    deadline = stage.stage.annotate.deadline_seconds if isinstance(config, AnnotateConfig) else None
    count = replicas(engine, deadline, current, server, at.time)
    wanted = server_child(at.run, at.runtime, view.keyed, stage.pins or {}, count)
    if server is None or server.key != wanted.key:
        if not there:
            moves.create.append(wanted)
        elif not asked or server is None:
            moves.delete.extend(child.name for child in there if not child.deleting)
            moves.waits.append(at.time + GONE_POLL_SECONDS)
        return None
    if count != len(server.processes):
        moves.scale.append(wanted)
    if not ready(server):
        moves.waits.append(at.time + SERVER_POLL_SECONDS)
        return None
    return wanted


def _may_start(at: Now, view: View, moves: Moves) -> bool:
    """Whether a new attempt is due; if it is due later, its time is added to the moves. The last attempt of
    the node, of whatever key, must be gone first."""
    if any(child.live for child in at.children.get(view.node.name, ())):
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


def _child(at: Now, stage: StageView, view: View, server: Child | None) -> Child:
    attempt, asked = _next_attempt(at, view), stage.asked
    assert asked
    if view.keyed is None or isinstance(view.node.config, InventoryConfig):
        return inventory_child(at.run, at.runtime, asked.probe, asked.pins, attempt)
    name = server.name if server else None
    return step_child(at.run, at.runtime, stage.stage, view.keyed, stage.pins or {}, attempt, name)


def _next_attempt(at: Now, view: View) -> int:
    """One more than any attempt of the node seen now or noted in the status, since work folders are
    never shared between attempts."""
    seen = [child.attempt for child in at.children.get(view.node.name, ())]
    told = view.node.told_by
    noted = [step.attempt for stage, step in at.previous.steps if told(stage, step.name)]
    return 1 + max([*seen, *noted, at.previous.internal.last_attempt])
