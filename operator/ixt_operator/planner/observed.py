"""Observations: the children of a run and their processes, as an adapter found them."""

from collections.abc import Collection
from enum import StrEnum
from functools import cached_property

from ixt_workloads.contract.base import Model
from ixt_workloads.contract.figures import together
from ixt_workloads.contract.foreign import Text
from ixt_workloads.contract.graph import OfNode
from ixt_workloads.contract.kinds import KINDS
from ixt_workloads.contract.results import Progress, Result


class ProcessPhase(StrEnum):
    """Where a process is."""

    PENDING = "Pending"
    RUNNING = "Running"
    READY = "Ready"
    """Servers only: answers its readiness path."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ProcessState(Model):
    """One process of a child (a pod)."""

    index: int
    phase: ProcessPhase
    where: str = ""
    """Pod and container, or pid: what a message names."""
    host: str = ""
    """Machine it ran on."""
    exit_code: int | None = None
    """Negative for a signal. Of a server's process that was started anew, this and the other fields about an
    end are about the end before."""
    reason: Text = ""
    """Why it ended, as the platform says it (`PlatformReason`); of a process that cannot start, why not."""
    ended_at: float | None = None
    """Unix seconds, by the clock of its machine."""
    told_at: float | None = None
    """Unix seconds at which the platform was told of its end, or of a server's process, since when it has
    been ready, by the platform's own clock; None where that is the machine's."""
    result: Result | None = None
    progress: Progress | None = None
    last_log: Text = ""
    """Last lines of its log, once it failed."""
    log: str = ""
    """Where its log is."""
    restarts: int = 0
    """Servers: how often it was started anew."""
    lasted: float | None = None
    """Servers: for how many seconds its program ran before it was started anew last."""
    held_since: float | None = None
    """Unix seconds since when it has, or had until it ended, its part of a machine; None before, and of a
    server's process that has ended."""
    up_since: float | None = None
    """Unix seconds since when its program runs; of a server's process, since when it has been ready."""
    gpus: int = 0
    """GPUs that it holds."""
    cpus: float = 0.0
    """Processors that it holds."""
    blocked_since: float | None = None
    """Unix seconds since when it cannot start for a reason that waiting may not remove: no node for it, its
    image, a Secret, a quota; `reason` says which."""

    @property
    def ready_since(self) -> float | None:
        """Of a server's process, since when it has been ready, by the clock that times of others can be
        compared with."""
        if self.phase is not ProcessPhase.READY:
            return None
        return self.up_since if self.told_at is None else self.told_at

    @property
    def over_at(self) -> float:
        """When it ended, by the clock that times of other processes can be compared with; 0 if it did not."""
        return (self.ended_at if self.told_at is None else self.told_at) or 0.0


class ChildState(OfNode):
    """One child and its processes."""

    name: str
    key: str
    attempt: int
    created_at: float
    """Unix seconds."""
    deleting: bool = False
    avoids: bool = False
    """It must not run on some machines."""
    processes: tuple[ProcessState, ...] = ()

    @property
    def live(self) -> bool:
        """It has processes, or will have: a child that is being deleted still has what it had, and a server
        that ended is started again."""
        return self.deleting or self.server or not self.ended

    @property
    def ended(self) -> bool:
        """Every process has ended."""
        return bool(self.processes) and all(
            process.phase in (ProcessPhase.SUCCEEDED, ProcessPhase.FAILED) for process in self.processes
        )

    @property
    def failed(self) -> tuple[ProcessState, ...]:
        """Processes that failed."""
        return tuple(process for process in self.processes if process.phase is ProcessPhase.FAILED)

    @property
    def progress(self) -> Progress | None:
        """Progress of its processes together: the sum over workers, which share the work, else that of the
        process that is furthest."""
        found = [process.progress for process in self.processes if process.progress]
        if not found:
            return None
        best = max(found, key=lambda progress: progress.done)
        row = KINDS.get(self.kind)
        if row is None or not row.shares_work:
            return best
        done = sum(progress.done for progress in found)
        total = max((progress.total for progress in found if progress.total is not None), default=None)
        rate, steady = (
            sum(getattr(progress, field) or 0.0 for progress in found) or None
            for field in ("per_second", "steady_per_second")
        )
        return best.model_copy(
            update={
                "done": done if total is None else min(done, total),
                "total": total,
                "per_second": rate,
                "steady_per_second": steady,
                "figures": together(progress.figures for progress in found),
            }
        )


class Observed(Model):
    """An observation: all children of a run."""

    children: dict[str, ChildState] = {}

    @property
    def all(self) -> Collection[ChildState]:
        """All children."""
        return self.children.values()

    @cached_property
    def by_node(self) -> dict[str, list[ChildState]]:
        """The children of each node, oldest attempt first."""
        found: dict[str, list[ChildState]] = {}
        for child in sorted(self.all, key=lambda child: (child.attempt, child.created_at)):
            found.setdefault(child.node, []).append(child)
        return found
