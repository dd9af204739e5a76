"""plan(run, runtime, observed, previous status, now) -> what to do next. Pure, and all that decides.

Level-triggered: every call looks at the whole run and names what is missing or too much, whatever
happened before. Names of children are deterministic, so carrying out a plan twice does nothing twice.

What a plan rests on may be out of date. Creating a first attempt then does no harm; before a further attempt,
a server, a trainer, any delete and the end of a run, adapters make sure that they look at what is.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus, unix
from ixt_operator.planner.advance import advance
from ixt_operator.planner.child import Child
from ixt_operator.planner.clock import begun_anew, start_of
from ixt_operator.planner.describe import describe
from ixt_operator.planner.ending import ending_of
from ixt_operator.planner.moves import Moves, Now, stops
from ixt_operator.planner.observed import Observed
from ixt_operator.planner.retry import Cause, bad_hosts, failures, spent
from ixt_operator.planner.survey import NodeState, StageView, survey
from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.graph import Keyed, OfNode
from ixt_workloads.contract.kinds import KINDS


class Plan(NamedTuple):
    """What to do next, in this order: write the status if it `tells`, delete, scale, create."""

    delete: tuple[str, ...]
    create: tuple[Child, ...]
    scale: tuple[Child, ...]
    status: RunStatus
    """What was observed. What is created or deleted now is told by the next look."""
    requeue_after: float | None
    """Seconds until the next look is worth while, if nothing changes before."""
    keyed: dict[str, Keyed]
    """Keys of all nodes whose keys are known."""
    failures: tuple[tuple[OfNode, Cause], ...]
    """Why the last failed attempt of each node failed."""
    ends: bool
    """The run completes or fails with this look; one that had ended before does not."""

    @property
    def tells(self) -> bool:
        """Whether this look writes its status. One that only creates leaves that to the next look, so that
        the start of a step is one write. What is deleted must have been told: the status keeps its number."""
        return bool(self.delete) or not self.create

    @property
    def needs_certainty(self) -> bool:
        """Whether something is planned that must not rest on an outdated look: a further attempt, what takes
        devices, any delete, the end of the run."""
        return bool(self.delete or self.scale or self.ends) or any(
            child.attempt or child.server or KINDS[child.kind].holds_devices for child in self.create
        )

    @property
    def finished(self) -> bool:
        """The run completed or failed."""
        return self.status.ended


def plan(
    run: IXTRun,
    runtime: IXTRuntime,
    observed: Observed,
    previous: RunStatus | None,
    now: float,
    refused: str = "",
) -> Plan:
    """The next moves of a run. `now` is in Unix seconds. `refused` is what the API server said when it would
    not have a child that was planned from the same: the status tells it."""
    # A run that ended stays as it is; what still runs of it is stopped.
    if previous and previous.settled(run.metadata.generation):
        return Plan(tuple(_running(observed)), (), (), previous, None, {}, (), ends=False)

    # One that was edited since is taken up again: what is committed stays, what failed gets a new start.
    moves = Moves([], [], [], [])
    if previous and previous.ended:
        moves.delete.extend(_forgotten(observed))
        observed, previous = _deleting(observed, moves.delete), begun_anew(previous, now)

    # Each step is where its children and Inventory's answer say.
    at = Now(run, runtime, observed, observed.by_node(), previous, now)
    stages = survey(run, observed, unix(start_of(observed, previous, now)))

    # The run ends when all is committed, when a step is given up, and when a time is over.
    ending = ending_of(at, stages, moves)

    # Nothing runs of a run that ends or is suspended. Of another what is too much goes, what is next comes.
    if ending or run.spec.suspend:
        moves.delete.extend(_running(observed))
    else:
        moves.delete.extend(_obsolete(stages, observed))
        advance(at, stages, moves)

    # The status says what was observed.
    return Plan(
        delete=tuple(dict.fromkeys(moves.delete)),
        create=_elsewhere(moves.create, observed),
        scale=tuple({child.name: child for child in moves.scale}.values()),
        status=describe(run, stages, observed, previous, ending, refused, now),
        requeue_after=None if ending else _due(run, moves, now),
        keyed={name: view.keyed for stage in stages for name, view in stage.views.items() if view.keyed},
        failures=tuple(
            (view.node, causes[-1])
            for stage in stages
            for view in stage.views.values()
            if (causes := failures(view.attempts))
        ),
        ends=ending is not None,
    )


def _running(observed: Observed) -> Iterator[str]:
    return (name for name, child in observed.children.items() if stops(child))


def _forgotten(observed: Observed) -> Iterator[str]:
    """Children that count for nothing when a run is taken up again after its end: what failed gets a new
    start, and Inventory looks again, since what was missing may be there by now. Finished work stays."""
    for name, child in observed.children.items():
        if child.ended and not child.deleting and (child.failed or child.kind == "Inventory"):
            yield name


def _deleting(observed: Observed, names: list[str]) -> Observed:
    """What is observed once these children are being deleted."""
    going = {name: observed.children[name].model_copy(update={"deleting": True}) for name in names}
    return Observed(children={**observed.children, **going})


def _obsolete(stages: tuple[StageView, ...], observed: Observed) -> Iterator[str]:
    """Children that are not needed: live ones of nodes that have another key by now, that are no more or
    that another run completed, and old attempts that nobody counts."""
    current: dict[str, str] = {}
    complete = set()
    for stage in stages:
        for name, view in stage.views.items():
            yield from spent(view.attempts)
            if isinstance(view.node.config, InventoryConfig):
                current |= {name: stage.asked.question} if stage.asked else {}
            elif view.keyed:
                current[name] = view.keyed.key
            if view.state is NodeState.COMPLETE:
                complete.add(name)
    nodes = {name for stage in stages for name in stage.views}
    for name, child in observed.children.items():
        other_key = child.node in current and child.key != current[child.node]
        over = other_key or child.node not in nodes or child.node in complete
        if stops(child) and over and not child.server:  # servers: see advance
            yield name


def _elsewhere(children: list[Child], observed: Observed) -> tuple[Child, ...]:
    """The children, away from machines that this run avoids."""
    hosts = bad_hosts(observed.children.values())
    return tuple(child.model_copy(update={"avoid_hosts": hosts}) if hosts else child for child in children)


def _due(run: IXTRun, moves: Moves, now: float) -> float | None:
    """Seconds until the next look: none for what this one creates or deletes, else until something is due."""
    if moves.create or moves.delete:
        return 0.0
    times = [] if run.spec.suspend else moves.waits
    return max(0.0, min(times) - now) if times else None
