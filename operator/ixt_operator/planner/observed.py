"""Observations: the children of a run and their processes, as an adapter found them."""

from enum import StrEnum

from ixt_workloads.contract.base import Model
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
    reason: str = ""
    """Why it ended, as the platform says it (`PlatformReason`); of a process that cannot start, why not."""
    ended_at: float | None = None
    """Unix seconds."""
    result: Result | None = None
    progress: Progress | None = None
    last_log: str = ""
    """Last lines of its log, once it failed."""
    log: str = ""
    """Where its log is."""
    restarts: int = 0
    """Servers: how often it was started anew."""
    blocked_since: float | None = None
    """Unix seconds since when it cannot start for a reason that waiting may not remove: no node for it, its
    image, a Secret, a quota; `reason` says which."""


class ChildState(OfNode):
    """One child and its processes."""

    name: str
    key: str
    attempt: int
    created_at: float
    """Unix seconds."""
    deleting: bool = False
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
        rate = sum(progress.per_second or 0.0 for progress in found)
        return best.model_copy(
            update={
                "done": done if total is None else min(done, total),
                "total": total,
                "per_second": rate or None,
            }
        )


class Observed(Model):
    """An observation: all children of a run."""

    children: dict[str, ChildState] = {}

    def by_node(self) -> dict[str, list[ChildState]]:
        """The children of each node, oldest attempt first."""
        found: dict[str, list[ChildState]] = {}
        for child in sorted(self.children.values(), key=lambda child: (child.attempt, child.created_at)):
            found.setdefault(child.node, []).append(child)
        return found
