"""The run as it stands: every node with its key, its attempts and what they say. Pure."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from ixt_operator.api.run import IXTRun, Stage
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.plan.children import inventory_child
from ixt_operator.plan.nodes import stage_nodes
from ixt_operator.plan.observed import ChildState, Observed, ProcessPhase
from ixt_operator.plan.retry import GiveUp, TryAgain, decide
from ixt_workloads.contract.graph import Keyed, Node, Probe, resolve
from ixt_workloads.contract.results import Outcome, Result


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
    """Children with the node's current key, oldest first."""
    cached: bool = False
    """Committed before this run needed it."""
    decision: GiveUp | TryAgain | None = None
    """After a failure."""

    @property
    def current(self) -> ChildState | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None


class StageView(NamedTuple):
    """One stage as it stands."""

    stage: Stage
    views: dict[str, View]
    probe: Probe
    """What this stage's Inventory is asked."""
    earlier: dict[str, str]
    """Pins of earlier stages."""
    pins: dict[str, str] | None
    """Pins of this stage and the earlier ones; None until its Inventory answered."""

    @property
    def complete(self) -> bool:
        """Every node is committed."""
        return all(view.state is NodeState.COMPLETE for view in self.views.values())


def survey(run: IXTRun, runtime: IXTRuntime, observed: Observed, started: float) -> tuple[StageView, ...]:
    """All stages in order. Stages behind one whose Inventory has not answered have no keys yet.

    `started` is when the run began, in Unix seconds: what was made before counts as cached.
    """
    found: list[StageView] = []
    known: dict[str, str] = {}
    pins: dict[str, str] | None = {}
    for position, stage in enumerate(run.spec.stages):
        nodes = stage_nodes(run, position)
        probe = Probe(nodes=nodes, known=known)
        if pins is None:
            waiting = {node.name: View(node, NodeState.WAITING) for node in nodes}
            found.append(StageView(stage, waiting, probe, {}, None))
            continue
        question = inventory_child(run, runtime, stage, probe, pins, attempt=0)
        inventory = _view(run, nodes[0], None, _attempts(observed, nodes[0].name, question.key), since=0.0)
        answer = inventory.current if inventory.state is NodeState.COMPLETE else None
        views = {nodes[0].name: inventory}
        earlier, pins = pins, None
        if answer and (result := answer.processes[0].result):
            pins = earlier | result.pins
            keyed = resolve(nodes, pins, known)
            known = known | {name: entry.key for name, entry in keyed.items()}
            views |= _views(run, observed, keyed, answer, started)
        else:
            views |= {node.name: View(node, NodeState.WAITING) for node in nodes[1:]}
        found.append(StageView(stage, views, probe, earlier, pins))
    return tuple(found)


def _views(
    run: IXTRun, observed: Observed, keyed: Mapping[str, Keyed], inventory: ChildState, started: float
) -> dict[str, View]:
    """The nodes of a stage whose Inventory answered."""
    answer = inventory.processes[0].result or Result(outcome=Outcome.FAILED)
    committed = set(answer.committed)
    views: dict[str, View] = {}
    for place, (name, entry) in enumerate(keyed.items()):
        node = entry.node
        if place == 0:
            cached = answer.outcome is Outcome.CACHED
            views[name] = View(node, NodeState.COMPLETE, entry, (inventory,), cached=cached)
            continue
        attempts = _attempts(observed, name, entry.key)
        if place in committed:
            made_here = any(
                _outcome(child) is Outcome.COMMITTED and _ended_at(child) >= started for child in attempts
            )
            views[name] = View(node, NodeState.COMPLETE, entry, attempts, cached=not made_here)
        else:
            views[name] = _view(run, node, entry, attempts, since=_ended_at(inventory))
    return views


def _view(
    run: IXTRun, node: Node, keyed: Keyed | None, attempts: tuple[ChildState, ...], since: float
) -> View:
    """A node by its newest attempt. A success from before Inventory's answer, which did not find the
    artifact, counts for nothing: the artifact was deleted since."""
    if not attempts:
        return View(node, NodeState.WAITING, keyed)
    current = attempts[-1]
    if current.failed:
        if not current.ended:
            return View(node, NodeState.RUNNING, keyed, attempts)
        decision = decide(list(attempts), run.spec.failure_policy)
        state = NodeState.GIVEN_UP if isinstance(decision, GiveUp) else NodeState.RETRYING
        return View(node, state, keyed, attempts, decision=decision)
    if not current.ended:
        return View(node, NodeState.RUNNING, keyed, attempts)
    if _ended_at(current) < since:
        return View(node, NodeState.WAITING, keyed, attempts)
    return View(node, NodeState.COMPLETE, keyed, attempts, cached=_outcome(current) is Outcome.CACHED)


def _ended_at(child: ChildState) -> float:
    return max(process.ended_at or 0.0 for process in child.processes)


def _outcome(child: ChildState) -> Outcome | None:
    """What an attempt did: Committed if any of its processes did."""
    outcomes = {process.result.outcome for process in child.processes if process.result}
    for outcome in (Outcome.COMMITTED, Outcome.SHARED, Outcome.CACHED):
        if outcome in outcomes:
            return Outcome.COMMITTED if outcome is Outcome.SHARED else outcome
    return None


def _attempts_of(observed: Observed, node: str) -> tuple[ChildState, ...]:
    found = [child for child in observed.children.values() if child.node == node and not child.deleting]
    return tuple(sorted(found, key=lambda child: child.attempt))


def _attempts(observed: Observed, node: str, key: str) -> tuple[ChildState, ...]:
    return tuple(child for child in _attempts_of(observed, node) if child.key == key)


def running(child: ChildState) -> bool:
    """Whether a child has or may have live processes."""
    return child.deleting or not child.ended


def ready(child: ChildState) -> bool:
    """Whether a server has a ready process."""
    return any(process.phase is ProcessPhase.READY for process in child.processes)
