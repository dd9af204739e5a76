"""What an adapter sees: children and their processes, each as it was when last looked at."""

from enum import StrEnum

from ixt_workloads.contract.base import Model
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
    """Negative for a signal."""
    reason: str = ""
    """OOMKilled, Evicted, Unschedulable, ErrImagePull, NeverReady, Lost ... as the platform says it."""
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


class ChildState(Model):
    """One child and its processes."""

    name: str
    node: str
    key: str
    attempt: int
    created_at: float
    """Unix seconds."""
    deleting: bool = False
    processes: tuple[ProcessState, ...] = ()

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


class Observed(Model):
    """All children of a run."""

    children: dict[str, ChildState] = {}
