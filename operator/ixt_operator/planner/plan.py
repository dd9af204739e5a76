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
    """What to do next, in this order: delete, scale, create, write the status."""

    delete: tuple[str, ...]
    create: tuple[Child, ...]
    scale: tuple[Child, ...]
    status: RunStatus
    requeue_after: float | None
    """Seconds until the next look is worth while, if nothing changes before."""
    keyed: dict[str, Keyed]
    """Keys of all nodes whose keys are known."""
    failures: tuple[tuple[OfNode, Cause], ...]
    """Why the last failed attempt of each node failed."""
    ends: bool
    """The run completes or fails with this look; one that had ended before does not."""

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
    run: IXTRun, runtime: IXTRuntime, observed: Observed, previous: RunStatus | None, now: float
) -> Plan:
    """The next moves of a run. `now` is in Unix seconds."""
    stop = tuple(name for name, child in observed.children.items() if stops(child))
    moves = Moves([], [], [], [])
    if previous and previous.ended:
        if previous.settled(run.metadata.generation):
            return Plan(stop, (), (), previous, None, {}, (), ends=False)
        moves.delete.extend(_forgotten(observed))
        going = {name: observed.children[name].model_copy(update={"deleting": True}) for name in moves.delete}
        observed = Observed(children={**observed.children, **going})
        previous = _begun_anew(previous)
    started = unix(previous.start_time) if previous and previous.start_time else now
    stages = survey(run, observed, started)
    at = Now(run, runtime, observed, observed.by_node(), previous, now)
    ending = ending_of(at, stages, moves)
    if ending or run.spec.suspend:
        moves.delete.extend(stop)
    else:
        moves.delete.extend(_obsolete(stages, observed))
        advance(at, stages, moves)
    status = describe(run, stages, observed, previous, ending, moves.create, now)
    due = [] if ending or run.spec.suspend else [max(0.0, time - now) for time in moves.waits]
    return Plan(
        delete=tuple(dict.fromkeys(moves.delete)),
        create=_elsewhere(moves.create, observed),
        scale=tuple({child.name: child for child in moves.scale}.values()),
        status=status,
        requeue_after=min(due) if due else None,
        keyed={name: view.keyed for stage in stages for name, view in stage.views.items() if view.keyed},
        failures=tuple(
            (view.node, causes[-1])
            for stage in stages
            for view in stage.views.values()
            if (causes := failures(view.attempts))
        ),
        ends=ending is not None,
    )


def _elsewhere(children: list[Child], observed: Observed) -> tuple[Child, ...]:
    """The children, away from machines that failed this run twice."""
    hosts = bad_hosts(observed.children.values())
    return tuple(child.model_copy(update={"avoid_hosts": hosts}) if hosts else child for child in children)


def _forgotten(observed: Observed) -> Iterator[str]:
    """Children that count for nothing when a run is taken up again after its end: what failed gets a new
    start, and Inventory looks again, since what was missing may be there by now. Finished work stays."""
    for name, child in observed.children.items():
        if child.ended and not child.deleting and (child.failed or child.kind == "Inventory"):
            yield name


def _begun_anew(previous: RunStatus) -> RunStatus:
    """What stays of the status of a run that is taken up again: the numbers of attempts, and what it cost."""
    return previous.model_copy(update={"conditions": (), "start_time": None, "completion_time": None})


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
