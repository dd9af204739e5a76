"""What an adapter sees: children and their processes, each as it was when last looked at."""

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
    """Negative for a signal. Of a server that runs again: how it ended before, and so with what else is known
    of that end."""
    reason: str = ""
    """OOMKilled, Evicted, NodeLost, NeverReady, Lost, Stopped, ResultLost ... as the platform says it; of a
    process that cannot start: what keeps it."""
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
    """Since when something that time alone will not mend keeps it from starting (no node for it, its image,
    a Secret, a quota), in Unix seconds; `reason` says what."""


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
        """It has processes, or will have: one that is being deleted holds what it held, and a server that
        ended is started again."""
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
        """Progress of its processes together: those that share the documents among them add up, of ranks the
        one that is furthest tells."""
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
    """All children of a run."""

    children: dict[str, ChildState] = {}

    def by_node(self) -> dict[str, list[ChildState]]:
        """The children of each node, oldest attempt first."""
        found: dict[str, list[ChildState]] = {}
        for child in sorted(self.children.values(), key=lambda child: (child.attempt, child.created_at)):
            found.setdefault(child.node, []).append(child)
        return found
