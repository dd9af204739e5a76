"""Lanes that are given up, and what the others do without them. Pure.

A lane is given up with the first of its nodes that is: what it has not made yet is abandoned, and so is what
only such lanes need. When the others are done, the report is made of what there is. Where all lanes are given
up, or something that they share is, nothing else is made any more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ixt_operator.planner.now import Now
from ixt_operator.planner.survey import NodeState, Stages, StageView, View, view_of, views_of
from ixt_workloads.contract.configs import ReportConfig
from ixt_workloads.contract.graph import Keyed, Node, OfNode, resolve

SETTLED = frozenset({NodeState.COMPLETE, NodeState.GIVEN_UP, NodeState.ABANDONED})
"""States of nodes of which nothing will run any more."""


def failed_lanes(stages: Stages) -> dict[str, View]:
    """Lanes that are given up, each with the node that was, in the order of the graph. With a node that the
    seeds of an arm share all of them are, and those of arms that are planned by it; with a lane whose rounds
    others are planned by, those too."""
    given_up = [view for _, view in views_of(stages) if view.state is NodeState.GIVEN_UP and view.node.arm]
    if not given_up:
        return {}
    users = _users(stages)
    lanes = [lane for of_arm in lane_names(stages).values() for lane in of_arm]
    found: dict[str, View] = {}
    for view in given_up:
        lost = {node.lane for node in (view.node, *_after(users, view.node)) if node.seed is not None}
        found |= {lane: view for lane in lanes if lane in lost and lane not in found}
    return found


def _after(users: Mapping[str, Sequence[Node]], node: Node) -> Iterable[Node]:
    """The nodes that cannot be made without a node."""
    found: dict[str, Node] = {}
    todo = [node]
    while todo:
        new = [user for user in users.get(todo.pop().name, ()) if user.name not in found]
        found |= {user.name: user for user in new}
        todo += new
    return found.values()


def _users(stages: Stages) -> dict[str, list[Node]]:
    """The nodes that need a node, by its name; the report, which is made of what there is, left out."""
    users: dict[str, list[Node]] = defaultdict(list)
    for _, view in views_of(stages):
        for name in view.node.inputs.values():
            if not isinstance(view.node.config, ReportConfig):
                users[name].append(view.node)
    return users


def lane_names(stages: Stages) -> dict[str, list[str]]:
    """Names of the lanes by their arms."""
    found: dict[str, list[str]] = defaultdict(list)
    for _, view in views_of(stages):
        if view.node.seed is not None and view.node.lane not in found[view.node.arm]:
            found[view.node.arm].append(view.node.lane)
    return found


def without_failed_lanes(at: Now, stages: Stages) -> Stages:
    """The stages with what need not be made any more abandoned, and with the report that can be made."""
    failed = hopeless(stages) or failed_lanes(stages)
    if not failed:
        return stages
    names = lane_names(stages)

    def over(node: OfNode) -> bool:
        lanes = names[node.arm] if node.seed is None else [node.lane]
        return bool(node.arm) and failed.keys() >= set(lanes)

    needed: set[str] = set()
    if not hopeless(stages):
        needed = _needed(stages, {view.node.name for _, view in views_of(stages) if over(view.node)})
    stages = tuple(_abandoned(stage, needed) for stage in stages)
    return _with_report(at, stages, failed)


def hopeless(stages: Stages) -> dict[str, View]:
    """All lanes, each with the node because of which it is given up, if none of them is to go on."""
    names = [lane for lanes in lane_names(stages).values() for lane in lanes]
    for _, view in views_of(stages):
        shared = not view.node.arm and not isinstance(view.node.config, ReportConfig)
        if shared and view.state is NodeState.GIVEN_UP:
            return dict.fromkeys(names, view)
    failed = failed_lanes(stages)
    return failed if failed.keys() >= set(names) else {}


def _needed(stages: Stages, over: set[str]) -> set[str]:
    """Names of the nodes that are needed: those at the ends of the graph that are not over, and what they are
    made from, which may be of a lane that is over."""
    users = _users(stages)
    needed: set[str] = set()
    for _, view in reversed([*views_of(stages)]):
        name = view.node.name
        if any(user.name in needed for user in users[name]) or (not users[name] and name not in over):
            needed.add(name)
    return needed


def _abandoned(stage: StageView, needed: set[str]) -> StageView:
    views = {
        name: view
        if name in needed or view.state in SETTLED
        else view._replace(state=NodeState.ABANDONED, decision=None)
        for name, view in stage.views.items()
    }
    return stage._replace(views=views)


def _with_report(at: Now, stages: Stages, failed: dict[str, View]) -> Stages:
    """The stages with the report of the lanes that are there, once all other nodes are settled."""
    others = [view for _, view in views_of(stages) if not isinstance(view.node.config, ReportConfig)]
    if any(view.state not in SETTLED for view in others):
        return stages
    known = {
        view.node.name: view.keyed.key for view in others if view.keyed and view.state is NodeState.COMPLETE
    }
    return tuple(
        stage._replace(views={view.node.name: view for view in _reported(at, stage, known, failed)})
        for stage in stages
    )


def _reported(at: Now, stage: StageView, known: dict[str, str], failed: dict[str, View]) -> Iterator[View]:
    for view in stage.views.values():
        config = view.node.config
        if not isinstance(config, ReportConfig):
            yield view
            continue
        lanes = tuple(lane for lane in config.lanes if known.keys() >= set(lane.nodes))
        if not lanes:
            yield view._replace(state=NodeState.ABANDONED)
            continue
        inputs = {name: name for lane in lanes for name in lane.nodes}
        less = config.model_copy(update={"lanes": lanes, "missing": tuple(failed)})
        yield view_of(at, _keyed(view.node.model_copy(update={"config": less, "inputs": inputs}), known))


def _keyed(node: Node, known: dict[str, str]) -> Keyed:
    return resolve((node,), {}, known)[node.name]
