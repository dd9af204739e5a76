"""Children that hold machines, at any time of their lives: what an operator's look finds of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ixt_operator.api.status import Cost, Internal, RunStatus
from ixt_operator.planner.accounting import booked, goodput_percent
from ixt_operator.planner.observed import ChildState, Observed, ProcessPhase, ProcessState
from ixt_workloads.contract.metrics import Spending
from ixt_workloads.contract.results import Outcome, Progress, Result, Spent

START = 1_800_000_000
"""Unix seconds from which times are counted here; a multiple of the accounting's step."""


@dataclass(frozen=True)
class Life:
    """A process from its getting a machine to its end. Times are seconds after START, and its own clock's."""

    held: float
    up: float | None = None
    """When its program starts, or the server becomes ready; None: never."""
    ended: float | None = None
    ok: bool = True
    dumb: bool = False
    """It says nothing of its time."""
    starting: float = 0.0
    """Seconds from its program's start to its first work."""
    waits: float = 0.0
    """Share of its work's time for which it waits."""
    saves_every: float = 1e9
    """Seconds between two checkpoints."""
    gpus: int = 1
    cpus: float = 4.0

    def seen(self, index: int, at: float, server: bool = False) -> ProcessState:
        """The process as it is found at a time."""
        place: dict[str, Any] = {"index": index, "gpus": self.gpus, "cpus": self.cpus}
        if at < self.held:
            return ProcessState(index=index, phase=ProcessPhase.PENDING)
        up = self.up if self.up is not None and at >= self.up else None
        times = {"held_since": START + self.held, "up_since": None if up is None else START + up}
        if self.ended is None or at < self.ended:
            said = None if server or up is None or self.dumb else Progress(spent=self.spent(at - up, False))
            running = ProcessPhase.READY if server else ProcessPhase.RUNNING
            phase = ProcessPhase.PENDING if up is None else running
            return ProcessState(**place, **times, phase=phase, progress=said)
        age = self.ended - (self.ended if self.up is None else self.up)
        result = Result(
            outcome=Outcome.COMMITTED if self.ok else Outcome.FAILED, spent=self.spent(age, self.ok)
        )
        end = {"ended_at": START + self.ended, "result": None if self.dumb else result}
        code = {"exit_code": 0 if self.ok and not self.dumb else 1}
        phase = ProcessPhase.SUCCEEDED if self.ok else ProcessPhase.FAILED
        return ProcessState(**place, **times, **end, **code, phase=phase)

    def spent(self, age: float, saved: bool) -> Spent:
        """What it says at an age of its program."""
        starting = min(age, self.starting)
        works = age - starting
        kept = works if saved else works // self.saves_every * self.saves_every
        return Spent(
            starting=starting,
            waiting=self.waits * works,
            saved=(1 - self.waits) * kept,
            unsaved=(1 - self.waits) * (works - kept),
        )


@dataclass
class Books:
    """The time of a run as its status has it after each look. A look reads it as another operator would."""

    status: RunStatus = field(default_factory=RunStatus)

    def look(self, children: Iterable[ChildState], at: float, stopping: Iterable[str] = ()) -> None:
        """Account what is found at a time."""
        found = Observed(children={child.name: child for child in children})
        books = booked(found, self.status, [*stopping], START + at)
        cost = Cost(gpu_seconds=books.gpu_seconds, cpu_seconds=books.cpu_seconds)
        internal = Internal(accounts=books.accounts, accounted_until=books.accounted_until)
        status = RunStatus(cost=cost, internal=internal, goodput_percent=goodput_percent(cost))
        self.status = RunStatus.model_validate_json(status.model_dump_json(exclude_none=True))

    @property
    def gpu(self) -> dict[Spending, int]:
        """Seconds of GPUs."""
        return self.status.cost.gpu_seconds

    @property
    def cpu(self) -> dict[Spending, int]:
        """Seconds of processors."""
        return self.status.cost.cpu_seconds


def child(name: str, processes: Iterable[ProcessState], kind: str = "Train", **fields: Any) -> ChildState:
    """A child with these processes."""
    values: dict[str, Any] = {"stage": "pretrain", "key": "k", "attempt": 0, "created_at": START, **fields}
    return ChildState(name=name, kind=kind, processes=tuple(processes), **values)


def at(name: str, when: float, *lives: Life, kind: str = "Train", **fields: Any) -> ChildState:
    """A child as it is found at a time."""
    server = bool(fields.get("server"))
    return child(name, (life.seen(i, when, server) for i, life in enumerate(lives)), kind, **fields)
