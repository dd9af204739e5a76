"""How many replicas a server has, and when it is given up. Pure."""

import hashlib
import math
from collections.abc import Iterable

from ixt_operator.api.engine import Engine
from ixt_operator.api.status import MAX_STEADY
from ixt_operator.planner.building import SERVER_READY_SECONDS
from ixt_operator.planner.now import Now
from ixt_operator.planner.observed import ChildState, ProcessPhase, ProcessState
from ixt_operator.planner.retry import how_ended
from ixt_workloads.contract.exits import Fault, PlatformReason, in_words, meaning_of

STEADY_SECONDS = 600.0
"""Restarts of a server's process count no more once it has been ready for so long after them. To count those
of the last so many seconds would not do: kubelets let up to five minutes pass between two."""


def replicas(
    engine: Engine,
    deadline_seconds: int | None,
    worker: ChildState | None,
    server: ChildState | None,
    now: float,
) -> int:
    """Replicas of a server that the backlog needs at the measured rate to keep the deadline, between min and
    max.

    Without a deadline: all that are allowed. Until a rate is known: what is there. Never fewer than now while
    work is outstanding, since a replica that is started again reads its weights again.
    """
    if deadline_seconds is None:
        return engine.max_replicas
    processes = server.processes if server else ()
    present = max(len(processes), engine.min_replicas)
    progress = worker.progress if worker else None
    ready = sum(process.phase is ProcessPhase.READY for process in processes)
    if not worker or not progress or not progress.per_second or not ready:
        return min(present, engine.max_replicas)
    backlog = max(0.0, (progress.total or 0.0) - progress.done)
    left = max(worker.created_at + deadline_seconds - now, 1.0)
    needed = math.ceil(backlog / (progress.per_second / ready) / left)
    return max(engine.min_replicas, min(max(needed, present), engine.max_replicas))


def server_trouble(server: ChildState, at: Now) -> str | None:
    """Why a server will never be ready, with what to do; None while a process of it is or may become ready.
    One that cannot start yet does not count as one that may."""
    troubles = []
    for process in server.processes:
        trouble = _trouble(process, at)
        if process.phase is ProcessPhase.READY or (trouble is None and process.blocked_since is None):
            return None
        troubles.append(trouble)
    return next(filter(None, troubles), None)


def replica_troubles(server: ChildState, at: Now) -> list[str]:
    """What is wrong with the processes of a server that will never be ready, each with its name."""
    found = ((process, _trouble(process, at)) for process in server.processes)
    return [f"{process.where or f'replica {process.index}'}: {said}" for process, said in found if said]


def steady(servers: Iterable[ChildState], at: Now, waits: list[float]) -> dict[str, int]:
    """How many restarts of each process count no more, since it has been ready for STEADY_SECONDS after them.
    The times at which that will be so of others are added to `waits`."""
    found: dict[str, int] = {}
    for process in (process for server in servers for process in server.processes):
        name, counts_from, ready = _id(process), _forgiven(process, at), process.ready_since
        if ready is not None and process.restarts > counts_from:
            if at.time >= ready + STEADY_SECONDS:
                counts_from = process.restarts
            else:
                waits.append(ready + STEADY_SECONDS)
        if counts_from:
            found[name] = counts_from
    return dict(list(found.items())[:MAX_STEADY])


def _id(process: ProcessState) -> str:
    """How a status names a process of a server."""
    return hashlib.sha256(process.where.encode()).hexdigest()[:8]


def _forgiven(process: ProcessState, at: Now) -> int:
    """How many restarts of a process count no more. That it was steady before the last one is seen from how
    long it ran, also when no operator looked on: a start that takes as long would have been ended."""
    noted = at.previous.internal.steady.get(_id(process), 0)
    steady = process.lasted is not None and process.lasted >= SERVER_READY_SECONDS + STEADY_SECONDS
    return max(noted, process.restarts - 1) if steady else noted


def _trouble(process: ProcessState, at: Now) -> str | None:
    """Why a process of a server will never be ready, with what to do."""
    if process.phase is ProcessPhase.READY:
        return None
    result = process.result
    ended = process.exit_code is not None or result is not None
    said = how_ended(process) if ended else ""
    hint = result.hint if result else ""
    fault = meaning_of(process.exit_code, told=result.fault if result else None).fault
    log = f"; log: {process.log}" if process.log else ""
    log += f"\n{process.last_log[-500:]}" if process.last_log else ""
    # A process that runs again is not given up for its last end: the cause may be mended by now.
    if ended and process.phase is ProcessPhase.FAILED and fault is Fault.USER:
        return f"{said}: {hint}" if hint else f"{said}{log}"
    if process.reason == PlatformReason.NEVER_READY:
        return f"{in_words(None, process.reason)}{log}"
    allowed, restarts = at.run.spec.failure_policy.application, process.restarts - _forgiven(process, at)
    if restarts > allowed:
        times = "once" if restarts == 1 else f"{restarts} times"
        why = f": {said}" if said else ""
        return f"ended {times}, which is more than failurePolicy.application={allowed} allows{why}{log}"
    return None
