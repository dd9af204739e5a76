"""The run as it stands: every node with its key, its attempts and what they say. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ixt_operator.api.run import FailurePolicy, IXTRun, Stage
from ixt_operator.planner.keying import Asked, Graph, Pins, asked_of, keyed_of, nodes_of
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase
from ixt_operator.planner.retry import GiveUp, TryAgain, decide, result_lost
from ixt_workloads.contract.configs import Config, InventoryConfig
from ixt_workloads.contract.graph import Keyed, Node
from ixt_workloads.contract.results import Outcome, Progress, Result


class NodeState(StrEnum):
    """Where a node is."""

    WAITING = "Waiting"
    """Not started, or its key is not known yet."""
    RUNNING = "Running"
    RETRYING = "Retrying"
    """The newest attempt failed; another one comes at its time."""
    COMPLETE = "Complete"
    GIVEN_UP = "GivenUp"


class View(NamedTuple):
    """One node as it stands."""

    node: Node
    state: NodeState
    keyed: Keyed | None = None
    attempts: tuple[ChildState, ...] = ()
    """Children with the node's current key, oldest first; while that is unknown, those that run."""
    cached: bool = False
    """Committed before this run needed it."""
    decision: GiveUp | TryAgain | None = None
    """After a failure."""

    @property
    def current(self) -> ChildState | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def progress(self) -> Progress | None:
        """Progress of the newest attempt's processes together, if it has any."""
        return self.current.progress if self.current else None


class StageView(NamedTuple):
    """One stage as it stands."""

    stage: Stage
    views: dict[str, View]
    """By the node's name, Inventory first."""
    asked: Asked | None
    """What its Inventory is asked; None until those of the stages before it answered."""
    pins: dict[str, str] | None
    """Pins of this stage and the earlier ones; None until its Inventory answered."""

    @property
    def complete(self) -> bool:
        """Every node is committed."""
        return all(view.state is NodeState.COMPLETE for view in self.views.values())


def survey(run: IXTRun, observed: Observed, started: float) -> tuple[StageView, ...]:
    """All stages in order. Stages behind one whose Inventory has not answered have no keys yet.

    `started` is when the run began, in Unix seconds: what was made before counts as cached.
    """
    graph, children, policy = Graph(run), observed.by_node(), run.spec.failure_policy
    found: list[StageView] = []
    answers: tuple[Pins, ...] | None = ()
    for position, stage in enumerate(run.spec.stages):
        if answers is None:
            unknown = {node.name: _unknown(node, children) for node in nodes_of(graph, position)}
            found.append(StageView(stage, unknown, None, None))
            continue
        asked = asked_of(graph, answers)
        inventory = _inventory(asked, children, policy)
        if inventory.state is NodeState.COMPLETE and _result_lost(asked, children, inventory):
            inventory = inventory._replace(state=NodeState.WAITING)
        views = {inventory.node.name: inventory}
        pins = None
        if inventory.state is NodeState.COMPLETE and inventory.current:
            own = _answer(inventory.current).pins
            answers = (*answers, tuple(sorted(own.items())))
            pins = asked.pins | own
            views = _views(keyed_of(graph, answers), inventory, children, policy, started)
        else:
            answers = None
            views |= {node.name: _unknown(node, children) for node in asked.nodes[1:]}
        found.append(StageView(stage, views, asked, pins))
    return tuple(found)


def ready(child: ChildState) -> bool:
    """Whether a server has a ready process."""
    return any(process.phase is ProcessPhase.READY for process in child.processes)


def _inventory(asked: Asked, children: Mapping[str, list[ChildState]], policy: FailurePolicy) -> View:
    """The view of an Inventory. An attempt whose answer is lost or lacks a pin counts as failed."""
    node = asked.nodes[0]
    wanted = _pinned(node.config)
    attempts = tuple(
        _without_result(child) if child.ended and wanted - _answer(child).pins.keys() else child
        for child in _attempts(children, node.name, asked.question)
    )
    return _view(node, None, attempts, policy, since=0.0)


def _pinned(config: Config) -> set[str]:
    """Names of the pins that an Inventory answers with."""
    assert isinstance(config, InventoryConfig)
    found = {"datasets"}
    found |= {"judge"} if config.judge else set()
    found |= {"tasks"} if config.tasks else set()
    return found | ({"model", "tokenizer"} if config.model else set())


def _result_lost(asked: Asked, children: Mapping[str, list[ChildState]], inventory: View) -> bool:
    """Whether a step's result was lost after Inventory was asked. Inventory is then asked again, and the step
    is tried again only if its artifact is not committed. Both times are the platform's, since the clocks of
    two machines may differ."""
    newest = (children[node.name][-1] for node in asked.nodes[1:] if node.name in children)
    asked_at = inventory.current.created_at if inventory.current else 0.0
    return any(
        child.ended and not child.deleting and result_lost(child) and child.created_at >= asked_at
        for child in newest
    )


def _answer(inventory: ChildState) -> Result:
    found = (process.result for process in inventory.processes if process.result)
    return next(found, Result(outcome=Outcome.FAILED))


def _without_result(child: ChildState) -> ChildState:
    processes = tuple(
        process
        if process.phase is ProcessPhase.FAILED
        else process.model_copy(update={"phase": ProcessPhase.FAILED, "reason": "NoResult", "result": None})
        for process in child.processes
    )
    return child.model_copy(update={"processes": processes})


def _unknown(node: Node, children: Mapping[str, list[ChildState]]) -> View:
    """The view of a node without a key. An attempt that runs goes on until its key proves to be another."""
    live = tuple(child for child in children.get(node.name, ()) if child.live and not child.deleting)
    return View(node, NodeState.RUNNING if live else NodeState.WAITING, None, live)


def _views(
    keyed: Mapping[str, Keyed],
    inventory: View,
    children: Mapping[str, list[ChildState]],
    policy: FailurePolicy,
    started: float,
) -> dict[str, View]:
    """The views of the nodes of a stage whose Inventory answered."""
    assert inventory.current
    answer, answered_at = _answer(inventory.current), _ended_at(inventory.current)
    committed = set(answer.committed)
    views: dict[str, View] = {}
    for place, (name, entry) in enumerate(keyed.items()):
        if place == 0:
            views[name] = inventory._replace(keyed=entry, cached=answer.outcome is Outcome.CACHED)
            continue
        attempts = _attempts(children, name, entry.key)
        if place in committed:
            # Times in a status are whole seconds: what ended in the second of the start was made before it.
            made_here = any(
                (_committed(child) or result_lost(child)) and _ended_at(child) >= started + 1
                for child in attempts
            )
            # An attempt of which only the result was lost did not fail.
            told = tuple(child for child in attempts if not result_lost(child))
            views[name] = View(entry.node, NodeState.COMPLETE, entry, told, cached=not made_here)
        else:
            views[name] = _view(entry.node, entry, attempts, policy, since=answered_at)
    return views


def _view(
    node: Node, keyed: Keyed | None, attempts: tuple[ChildState, ...], policy: FailurePolicy, since: float
) -> View:
    """The view of a node by its newest attempt. One that succeeded before `since`, when Inventory answered
    that the artifact is not there, counts for nothing: the artifact was deleted in between."""
    if not attempts:
        return View(node, NodeState.WAITING, keyed)
    current = attempts[-1]
    if not current.ended:
        return View(node, NodeState.RUNNING, keyed, attempts)
    if current.failed:
        decision = decide(list(attempts), policy)
        state = NodeState.GIVEN_UP if isinstance(decision, GiveUp) else NodeState.RETRYING
        return View(node, state, keyed, attempts, decision=decision)
    if _ended_at(current) < since:
        return View(node, NodeState.WAITING, keyed, attempts)
    cached = Outcome.CACHED in _outcomes(current) and not _committed(current)
    return View(node, NodeState.COMPLETE, keyed, attempts, cached=cached)


def _ended_at(child: ChildState) -> float:
    return max(process.ended_at or 0.0 for process in child.processes)


def _outcomes(child: ChildState) -> set[Outcome]:
    return {process.result.outcome for process in child.processes if process.result}


def _committed(child: ChildState) -> bool:
    """Whether an attempt made the artifact: a process committed it or did its share."""
    return bool(_outcomes(child) & {Outcome.COMMITTED, Outcome.SHARED})


def _attempts(children: Mapping[str, list[ChildState]], node: str, key: str) -> tuple[ChildState, ...]:
    return tuple(child for child in children.get(node, ()) if child.key == key and not child.deleting)
