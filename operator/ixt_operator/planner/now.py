"""What a plan is made from (`Now`), and the moves that its parts add (`Moves`). Pure."""

from typing import NamedTuple

from ixt_operator.api.run import IXTRun
from ixt_operator.api.runtime import IXTRuntime
from ixt_operator.api.status import ConditionType, RunStatus, rfc3339, unix
from ixt_operator.planner.child import Child
from ixt_operator.planner.observed import ChildState, Observed, ProcessState
from ixt_workloads.contract.base import Lenient


class Bounds(Lenient):
    """What stops a run. It is read of any spec, also of one that is wrong otherwise."""

    suspend: bool = False
    active_deadline_seconds: int | None = None


class Life(NamedTuple):
    """What is known of a run whatever its spec says and whatever else it names."""

    name: str
    generation: int
    bounds: Bounds
    observed: Observed
    previous: RunStatus
    """What the last look told; of a new run, nothing."""
    time: float
    """Unix seconds."""

    @property
    def suspended(self) -> bool:
        """Whether its user wants the run to rest."""
        return self.bounds.suspend

    @property
    def start(self) -> str:
        """When the run began: as its status says, else with its first child, else now."""
        created = (child.created_at for child in self.observed.all)
        return self.previous.start_time or rfc3339(min(created, default=self.time))

    @property
    def at_rest(self) -> bool:
        """Whether the run is suspended and nothing of it runs any more."""
        return self.suspended and not any(c.live for c in self.observed.all)

    @property
    def suspended_seconds(self) -> int:
        """Seconds that the run was suspended since it began, in all suspensions that are over."""
        seconds = self.previous.internal.suspended_seconds
        suspended = self.previous.condition(ConditionType.SUSPENDED)
        if suspended and self.previous.is_true(ConditionType.SUSPENDED) and not self.at_rest:
            seconds += max(0, int(self.time - unix(suspended.last_transition_time)))
        return seconds

    @property
    def processes(self) -> list[ProcessState]:
        """All processes of all children."""
        return [process for child in self.observed.all for process in child.processes]

    def again(self) -> tuple["Life", list[str]]:
        """The run, taken up again if it had ended and was edited since, and the children that then count for
        nothing."""
        if not self.previous.ended:
            return self, []
        gone = [name for name, child in self.observed.children.items() if _forgotten(child)]
        going = {name: self.observed.children[name].model_copy(update={"deleting": True}) for name in gone}
        observed = Observed(children={**self.observed.children, **going})
        return self._replace(observed=observed, previous=begun_anew(self.previous, self.time)), gone


class Now(NamedTuple):
    """What a plan is made from."""

    run: IXTRun
    runtime: IXTRuntime
    observed: Observed
    previous: RunStatus
    """What the last look told; of a new run, nothing."""
    time: float
    """Unix seconds."""

    @property
    def life(self) -> Life:
        """The run, as far as its graph does not matter."""
        metadata, spec = self.run.metadata, self.run.spec
        bounds = Bounds(suspend=spec.suspend, active_deadline_seconds=spec.active_deadline_seconds)
        return Life(metadata.name, metadata.generation, bounds, self.observed, self.previous, self.time)

    @property
    def processes(self) -> list[ProcessState]:
        """All processes of all children."""
        return self.life.processes

    @property
    def children(self) -> dict[str, list[ChildState]]:
        """The children of each node, oldest attempt first."""
        return self.observed.by_node

    @property
    def unscheduled(self) -> tuple[str, ...]:
        """Nodes that were given up since their pods could not start in time. An edit starts them anew."""
        same = self.previous.observed_generation == self.run.metadata.generation
        return self.previous.internal.unscheduled if same else ()

    @property
    def start(self) -> str:
        """When the run began."""
        return self.life.start


class Moves(NamedTuple):
    """The moves of a plan, while it is made."""

    delete: list[str]
    create: list[Child]
    scale: list[Child]
    waits: list[float]
    """Times at which something is due, in Unix seconds."""


def stops(child: ChildState) -> bool:
    """Whether a child is still to be stopped when nothing may run: it lives, and is not being deleted."""
    return child.live and not child.deleting


def running(observed: Observed) -> list[str]:
    """Names of the children that are still to be stopped when nothing may run."""
    return [name for name, child in observed.children.items() if stops(child)]


def _forgotten(child: ChildState) -> bool:
    """Whether a child counts for nothing when a run is taken up again: what failed gets a new start, and
    Inventory looks again, since what was missing may be there by now. Finished work stays."""
    return child.ended and not child.deleting and (bool(child.failed) or child.kind == "Inventory")


def begun_anew(previous: RunStatus, now: float) -> RunStatus:
    """What stays of the status of a run that is taken up again: the numbers of attempts, and what it cost."""
    internal = previous.internal.model_copy(update={"suspended_seconds": 0})
    anew = {
        "conditions": (),
        "start_time": rfc3339(now),
        "completion_time": None,
        "internal": internal,
        "failed_lanes": (),
    }
    return previous.model_copy(update=anew)
