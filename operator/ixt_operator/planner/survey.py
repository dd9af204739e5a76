"""The run as it stands: every node with its key, its attempts and what they say. Pure."""

import hashlib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from ixt_operator.api.run import Stage
from ixt_operator.api.status import Reason, unix
from ixt_operator.planner.keying import Asked, Graph, Pins, asked_of, keyed_of, nodes_of
from ixt_operator.planner.now import Now, stops
from ixt_operator.planner.observed import ChildState, ProcessPhase
from ixt_operator.planner.retry import Cause, GiveUp, TryAgain, causes_of, decide, result_lost, saves
from ixt_workloads.contract.configs import Config, InventoryConfig
from ixt_workloads.contract.exits import Blame, Fault, PlatformReason
from ixt_workloads.contract.graph import Keyed, Node, OfNode
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
    ABANDONED = "Abandoned"
    """Not made any more, since only lanes need it that are given up (lanes.py)."""


class Standstill(NamedTuple):
    """Why a node does not go on."""

    word: str
    """In one word, for machines: Unschedulable, FailedCreate, ImagePullBackOff …"""
    message: str
    where: str = ""
    """The process that it is about, if it is one."""

    @property
    def at_length(self) -> str:
        """The message with what it is about."""
        return f"{self.message} ({self.where})" if self.where else self.message


class View(NamedTuple):
    """One node as it stands."""

    node: Node
    state: NodeState
    keyed: Keyed | None = None
    attempts: tuple[ChildState, ...] = ()
    """Children with the node's current key, oldest first; while that is unknown, those that run."""
    causes: Mapping[str, Cause] = {}
    """Why those of the attempts that failed did, by their names, oldest first."""
    cached: bool = False
    """Committed before this run needed it."""
    decision: GiveUp | TryAgain | None = None
    """After a failure."""
    standstill: Standstill | None = None
    """Why it does not go on, if something keeps it (standstill.py)."""

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


Stages = tuple[StageView, ...]


def views_of(stages: Stages) -> Iterator[tuple[StageView, View]]:
    """All nodes of all stages, in order."""
    return ((stage, view) for stage in stages for view in stage.views.values())


def survey(at: Now) -> Stages:
    """All stages in order. Stages behind one whose Inventory has not answered have no keys yet."""
    graph = Graph(at.run)
    found: list[StageView] = []
    answers: tuple[Pins, ...] | None = ()
    for position, stage in enumerate(at.run.spec.stages):
        if answers is None:
            unknown = {node.name: _unknown(at, node) for node in nodes_of(graph, position)}
            found.append(StageView(stage, unknown, None, None))
            continue
        asked = asked_of(graph, answers)
        inventory = _inventory(at, asked)
        if inventory.state is NodeState.COMPLETE and _result_lost(at, asked, inventory):
            inventory = inventory._replace(state=NodeState.WAITING)
        views = {inventory.node.name: inventory}
        pins = None
        if inventory.state is NodeState.COMPLETE and inventory.current:
            own = _answer(inventory.current).pins
            answers = (*answers, tuple(sorted(own.items())))
            pins = asked.pins | own
            views = _views(at, keyed_of(graph, answers), inventory)
        else:
            answers = None
            views |= {node.name: _unknown(at, node) for node in asked.nodes[1:]}
        found.append(StageView(stage, views, asked, pins))
    return tuple(found)


def view_of(at: Now, keyed: Keyed) -> View:
    """The view of a node with its key that no Inventory was asked about."""
    return _view(at, keyed.node, keyed, _attempts(at, keyed.node.name, keyed.key), since=0.0)


def ready(child: ChildState) -> bool:
    """Whether a server has a ready process."""
    return any(process.phase is ProcessPhase.READY for process in child.processes)


def _inventory(at: Now, asked: Asked) -> View:
    """The view of an Inventory. An attempt whose answer is lost or lacks a pin counts as failed."""
    node = asked.nodes[0]
    wanted = _pinned(node.config)
    attempts = tuple(
        _without_result(child) if child.ended and wanted - _answer(child).pins.keys() else child
        for child in _attempts(at, node.name, asked.question)
    )
    return _view(at, node, None, attempts, since=0.0)


def _pinned(config: Config) -> set[str]:
    """Names of the pins that an Inventory answers with."""
    assert isinstance(config, InventoryConfig)
    found = {"datasets"}
    found |= {"judge"} if config.judge else set()
    found |= {"tasks"} if config.tasks else set()
    found |= {"harness"} if config.harness else set()
    return found | ({"model", "tokenizer"} if config.model else set())


def _result_lost(at: Now, asked: Asked, inventory: View) -> bool:
    """Whether a step's result was lost after Inventory was asked. Inventory is then asked again, and the step
    is tried again only if its artifact is not committed. Both times are the platform's, since the clocks of
    two machines may differ."""
    newest = (at.children[node.name][-1] for node in asked.nodes[1:] if node.name in at.children)
    asked_at = inventory.current.created_at if inventory.current else 0.0
    return any(
        child.ended and not child.deleting and result_lost(child) and child.created_at >= asked_at
        for child in newest
    )


def _answer(inventory: ChildState) -> Result:
    found = (process.result for process in inventory.processes if process.result)
    return next(found, Result(outcome=Outcome.FAILED))


def _without_result(child: ChildState) -> ChildState:
    lost = {"phase": ProcessPhase.FAILED, "reason": PlatformReason.NO_RESULT, "result": None}
    processes = tuple(
        process if process.phase is ProcessPhase.FAILED else process.model_copy(update=lost)
        for process in child.processes
    )
    return child.model_copy(update={"processes": processes})


def _unknown(at: Now, node: Node) -> View:
    """The view of a node without a key. An attempt that runs goes on until its key proves to be another."""
    live = tuple(child for child in at.children.get(node.name, ()) if stops(child))
    state = NodeState.RUNNING if live else NodeState.WAITING
    return View(node, state, None, live, causes_of(live))


def _views(at: Now, keyed: Mapping[str, Keyed], inventory: View) -> dict[str, View]:
    """The views of the nodes of a stage whose Inventory answered."""
    assert inventory.current
    answer, answered_at = _answer(inventory.current), _ended_at(inventory.current)
    committed = set(answer.committed)
    started = unix(at.start)
    views: dict[str, View] = {}
    for place, (name, entry) in enumerate(keyed.items()):
        if place == 0:
            views[name] = inventory._replace(keyed=entry, cached=answer.outcome is Outcome.CACHED)
            continue
        attempts = _attempts(at, name, entry.key)
        if place in committed:
            # Times in a status are whole seconds: what ended in the second of the start was made before it.
            own = (child for child in attempts if _ended_at(child) >= started + 1)
            made_here = any(_committed(child) or result_lost(child) for child in own)
            # An attempt of which only the result was lost did not fail.
            told = tuple(child for child in attempts if not result_lost(child))
            complete = NodeState.COMPLETE
            views[name] = View(entry.node, complete, entry, told, causes_of(told), cached=not made_here)
        else:
            views[name] = _view(at, entry.node, entry, attempts, since=answered_at)
    return views


def _view(at: Now, node: Node, keyed: Keyed | None, attempts: tuple[ChildState, ...], since: float) -> View:
    """The view of a node by its newest attempt. One that succeeded before `since`, when Inventory answered
    that the artifact is not there, counts for nothing: the artifact was deleted in between."""
    if node.arm and id_of(node, keyed.key if keyed else "") in at.unscheduled:
        return View(node, NodeState.GIVEN_UP, keyed, attempts, causes_of(attempts), decision=NOT_SCHEDULED)
    if not attempts:
        return View(node, NodeState.WAITING, keyed)
    current = attempts[-1]
    found = View(node, NodeState.RUNNING, keyed, attempts, causes_of(attempts))
    if not current.ended:
        late = overdue(at, current) if node.arm else None
        return found._replace(state=NodeState.GIVEN_UP, decision=late) if late else found
    if current.failed:
        since = progressed(at, found)
        recent = [found.causes[child.name] for child in attempts if child.failed and child.attempt >= since]
        decision = decide([*found.causes.values()], recent, at.run.spec.failure_policy)
        state = NodeState.GIVEN_UP if isinstance(decision, GiveUp) else NodeState.RETRYING
        return found._replace(state=state, decision=decision)
    if _ended_at(current) < since:
        return found._replace(state=NodeState.WAITING)
    cached = Outcome.CACHED in _outcomes(current) and not _committed(current)
    return found._replace(state=NodeState.COMPLETE, cached=cached)


def progressed(at: Now, view: View) -> int:
    """The newest attempt at a node that saved something, as far as that is known; 0 if none did."""
    known = at.previous.internal.progressed.get(id_of(view.node, view.keyed.key if view.keyed else ""), 0)
    return max([known, *(child.attempt for child in view.attempts if saves(child))])


NOT_SCHEDULED = GiveUp(
    Cause(Fault.INFRASTRUCTURE, "its pods could not start in time", "", "", 0.0, "", Blame.NEVER),
    Reason.SCHEDULING_TIMEOUT,
)
"""Why a node was given up whose pods were deleted since."""


def overdue(at: Now, child: ChildState) -> GiveUp | None:
    """Why a child is given up of which a process could not start within schedulingTimeoutSeconds."""
    timeout = at.run.spec.scheduling_timeout_seconds
    if timeout is None or not stops(child):
        return None
    for process in child.processes:
        if process.blocked_since is not None and at.time >= process.blocked_since + timeout:
            why = f": {process.reason}" if process.reason else ""
            said = f"could not start within schedulingTimeoutSeconds={timeout}{why}"
            message = f"{process.where or child.name} {said}"
            cause = NOT_SCHEDULED.cause._replace(message=message, hint="mend that, or raise it")
            return NOT_SCHEDULED._replace(cause=cause)
    return None


def id_of(node: OfNode, key: str) -> str:
    """How the operator's memory in a status names a node with its key."""
    return hashlib.sha256(f"{node.node}/{key}".encode()).hexdigest()[:8]


def _ended_at(child: ChildState) -> float:
    return max(process.over_at for process in child.processes)


def _outcomes(child: ChildState) -> set[Outcome]:
    return {process.result.outcome for process in child.processes if process.result}


def _committed(child: ChildState) -> bool:
    """Whether an attempt made the artifact: a process committed it or did its share."""
    return bool(_outcomes(child) & {Outcome.COMMITTED, Outcome.SHARED})


def _attempts(at: Now, node: str, key: str) -> tuple[ChildState, ...]:
    current = (child for child in at.children.get(node, ()) if child.key == key)
    return tuple(child for child in current if not child.deleting)
