"""plan(run, runtime, observed, previous status, now) -> what to do next. Pure, and all that decides.

Level-triggered: every call looks at the whole run and names what is missing or too much, whatever
happened before. Names of children are deterministic, so carrying out a plan twice does nothing twice.

What a plan rests on may be out of date. Creating a first attempt then does no harm; before a further attempt,
a server, a trainer, any delete and the end of a run, adapters make sure that they look at what is.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import RunStatus
from ixt_operator.planner.advance import advance
from ixt_operator.planner.child import Child
from ixt_operator.planner.describe import describe
from ixt_operator.planner.ending import ending_of
from ixt_operator.planner.events import News
from ixt_operator.planner.hosts import avoided
from ixt_operator.planner.lanes import SETTLED, failed_lanes, without_failed_lanes
from ixt_operator.planner.now import Moves, Now, running, stops
from ixt_operator.planner.observed import Observed
from ixt_operator.planner.retry import Cause, spent
from ixt_operator.planner.standstill import names_of, with_standstills
from ixt_operator.planner.survey import Stages, View, survey, views_of
from ixt_workloads.contract.configs import InventoryConfig
from ixt_workloads.contract.exits import Fault
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
    news: News
    """What events tell of beside the status."""
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
            child.attempt > 1 or child.server or KINDS[child.kind].holds_devices for child in self.create
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
    refused: Mapping[str, str] | None = None,
) -> Plan:
    """The next moves of a run. `now` is in Unix seconds. `refused` is what the API server said when it would
    not have children that were planned from the same, by their nodes: the status tells it."""
    # A run that ended stays as it is.
    previous = previous or RunStatus()
    if previous.settled(run.metadata.generation):
        return settled(observed, previous)

    # One that was edited since is taken up again: what is committed stays, what failed gets a new start.
    moves = Moves([], [], [], [])
    life, gone = Now(run, runtime, observed, previous, now).life.again()
    moves.delete.extend(gone)

    # Each step is where its children and Inventory's answer say.
    at = Now(run, runtime, life.observed, life.previous, now)
    observed = at.observed
    stages = with_standstills(at, without_failed_lanes(at, survey(at)), refused or {})

    # Machines that attempts failed because of are avoided, for a time.
    hosts = avoided(at, moves.waits)

    # The run ends when all is committed, when a step is given up, and when a time is over.
    ending = ending_of(at, stages, moves)

    # Nothing runs of a run that ends or is suspended. Of another what is too much goes, what is next comes.
    if ending or run.spec.suspend:
        moves.delete.extend(running(observed))
    else:
        moves.delete.extend((*_obsolete(stages, observed), *hosts.crowded))
        advance(at, stages, moves)

    # The status says what was observed.
    return Plan(
        delete=tuple(dict.fromkeys(moves.delete)),
        create=_elsewhere(moves.create, hosts.hosts),
        scale=tuple({child.name: child for child in moves.scale}.values()),
        status=describe(at, stages, ending, moves, hosts, refused or {}),
        requeue_after=None if ending else _due(run, moves, now),
        keyed={view.node.name: view.keyed for _, view in views_of(stages) if view.keyed},
        news=News(
            tuple(_failures(stages)),
            {
                lane: f"{view.node.name}: {view.decision.cause.message}"
                for lane, view in failed_lanes(stages).items()
                if view.decision
            },
            tuple(_standing(stages)),
        ),
        ends=ending is not None,
    )


def settled(observed: Observed, previous: RunStatus, *, keeps_children: bool = True) -> Plan:
    """The moves of a run that has ended: its status stays, and has all that is to be known of its children.
    What still runs is stopped; without `keeps_children` all children go."""
    there = (name for name, child in observed.children.items() if not child.deleting)
    going = running(observed) if keeps_children else there
    return Plan(tuple(going), (), (), previous, None, {}, News(), ends=False)


def _standing(stages: Stages) -> Iterator[tuple[OfNode, str, str]]:
    """What stands still: of each step and reason the first node, the word, and a message that names all."""
    alike: dict[tuple[str, str, str], list[View]] = {}
    for stage, view in views_of(stages):
        if view.standstill:
            alike.setdefault((stage.stage.name, view.node.step, view.standstill.word), []).append(view)
    for (_, _, word), views in alike.items():
        names = names_of([view.node.name for view in views])
        said = views[0].standstill.at_length if views[0].standstill else ""
        yield views[0].node, word, f"{names}: {said}"


def _failures(stages: Stages) -> Iterator[tuple[OfNode, Cause]]:
    """Why the last failed attempt of each node failed; one that found another run's claim did not fail."""
    for _, view in views_of(stages):
        failed = [cause for cause in view.causes.values() if cause.fault is not Fault.BUSY]
        if failed:
            yield view.node, failed[-1]


def _obsolete(stages: Stages, observed: Observed) -> Iterator[str]:
    """Children that are not needed: live ones of nodes that have another key by now, that are no more or
    that another run completed, and old attempts that nobody counts."""
    # Keys of the nodes that are not complete; None for one that is not known yet.
    needed: dict[str, str | None] = {}
    for stage, view in views_of(stages):
        yield from spent(view.causes)
        if view.state in SETTLED:
            continue
        if isinstance(view.node.config, InventoryConfig):
            needed[view.node.name] = stage.asked.question if stage.asked else None
        else:
            needed[view.node.name] = view.keyed.key if view.keyed else None
    for name, child in observed.children.items():
        over = child.node not in needed or needed[child.node] not in (child.key, None)
        if stops(child) and over and not child.server:  # servers: see advance
            yield name


def _elsewhere(children: list[Child], hosts: tuple[str, ...]) -> tuple[Child, ...]:
    """The children, each once, though several nodes may want the same server, away from machines that this
    run avoids."""
    different = {child.name: child for child in children}.values()
    if not hosts:
        return tuple(different)
    return tuple(child.model_copy(update={"avoid_hosts": hosts}) for child in different)


def _due(run: IXTRun, moves: Moves, now: float) -> float | None:
    """Seconds until the next look: none for what this one creates or deletes, else until something is due."""
    if moves.create or moves.delete:
        return 0.0
    times = [] if run.spec.suspend else moves.waits
    return max(0.0, min(times) - now) if times else None
